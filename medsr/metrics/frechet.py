"""Fréchet distance between sets of images, in the feature space of a named network (Heusel et al. 2017).

d^2 = |mu_1 - mu_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)), with mean and covariance of the features of either set.

It is called "fid" if the network is the Inception of 2015, and by its network's name otherwise, so that the numbers are
not confused. With few images it is far above zero even for two sets of one distribution (50 images, 64 features: about
40), so only sets of one size can be compared. The dissertation takes it per patient, for which the bias is large (some
145 slices for 2048 features).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from medsr.errors import InputError

__all__ = ["FrechetDistance", "PooledFeatures", "frechet_distance", "frechet_distance_of_samples"]

Array = NDArray[np.float64]


def frechet_distance(mu1: ArrayLike, cov1: ArrayLike, mu2: ArrayLike, cov2: ArrayLike) -> float:
    """Return the squared Fréchet distance of two Gaussians.

    The trace of the root of a product of covariances is the sum of the roots of the eigenvalues of R C_2 R, where
    R R = C_1. These matrices are symmetric, so that singular covariances need no special treatment (as they do with
    scipy's `sqrtm`).

    Args:
        mu1: The mean of the first Gaussian, (D,).
        cov1: The covariance of the first Gaussian, (D, D), symmetric, without negative eigenvalues.
        mu2: The mean of the second Gaussian.
        cov2: The covariance of the second Gaussian.

    Raises:
        InputError: If the sizes do not fit.
    """
    means = [np.atleast_1d(np.asarray(m, dtype=np.float64)) for m in (mu1, mu2)]
    covariances = [np.atleast_2d(np.asarray(c, dtype=np.float64)) for c in (cov1, cov2)]
    d = len(means[0])
    if {m.shape for m in means} != {(d,)} or {c.shape for c in covariances} != {(d, d)}:
        shapes = [a.shape for a in (*means, *covariances)]
        raise InputError(f"expected means (D,) and covariances (D, D) of one D, got {shapes}")
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = root @ covariances[1] @ root
    cross = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(0)).sum()
    apart = np.sum((means[0] - means[1]) ** 2)
    return max(0.0, float(apart + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * cross))


def frechet_distance_of_samples(first: ArrayLike, second: ArrayLike) -> float:
    """Return the squared Fréchet distance of Gaussians with the means and covariances (divisor N - 1) of two sets.

    For few samples the covariances are not computed: with A and B the centred samples divided by the root of N - 1,
    the trace of the root is the sum of the singular values of A B^T, which is fast and exact.

    Args:
        first: The features of the first set, (N, D).
        second: The features of the second set, (M, D).

    Raises:
        InputError: If a set has fewer than two samples, or the numbers of features differ.
    """
    sets = [np.asarray(s, dtype=np.float64) for s in (first, second)]
    if any(s.ndim != 2 or len(s) < 2 for s in sets) or sets[0].shape[1] != sets[1].shape[1]:
        raise InputError(
            f"expected two sets of at least two samples with equally many features, got {[s.shape for s in sets]}"
        )
    means = [s.mean(0) for s in sets]
    a, b = ((s - m) / np.sqrt(len(s) - 1) for s, m in zip(sets, means, strict=True))
    if len(a) + len(b) > 4 * a.shape[1]:
        return frechet_distance(means[0], a.T @ a, means[1], b.T @ b)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(0.0, float(np.sum((means[0] - means[1]) ** 2) + np.sum(a * a) + np.sum(b * b) - 2 * cross))


class PooledFeatures:
    """The function from a grey image to one vector: a tap of a feature network, averaged over its pixels.

    Args:
        network: A network of one grey channel with `features`, such as `InceptionFeatures` or `SegmentationUNet`
            ("E5", its bottleneck, is an alternative to Inception that needs no third-party file).
        tap: The name of the feature.
        name: The name of the metric. The default is "fid" for `InceptionFeatures` at its last pool, else "fd_" with
            the names of the network and the tap.
    """

    def __init__(self, network: nn.Module, tap: str = "E5", name: str | None = None) -> None:
        self.network = network.eval()
        self.tap = tap
        kind = getattr(network, "FRECHET_NAME", {}).get(tap)
        self.name = name or kind or f"fd_{_snake(type(network).__name__)}_{tap.lower()}"

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features (N, D) of images (N, 1, H, W) with intensities about [0, 1]."""
        device = next(self.network.parameters()).device
        extract: Any = self.network.features
        with torch.no_grad():
            found = extract(torch.as_tensor(images).to(device).float(), [self.tap])[self.tap]
        return found.flatten(2).mean(2)


class FrechetDistance:
    """The Fréchet distances between SR and HR slices, whose features are collected by subject and channel.

    The dissertation (section 4.3.5 and its program) takes the distance over the slices of one patient for each
    channel, the mean over channels, and the mean over patients. The distance over the slices of all patients together,
    which other publications call FID, is reported too.

    Args:
        features: The function from images (N, 1, H, W) to features (N, D); see `PooledFeatures`. Its `name` is that of
            the metric.
        batch_size: The number of slices in a batch.
    """

    def __init__(self, features: PooledFeatures, batch_size: int = 16) -> None:
        self.features = features
        self.batch_size = batch_size
        self._sets: dict[tuple[str, int], list[list[Array]]] = {}  # subject, channel: SR and HR features

    @property
    def name(self) -> str:
        """The name of the metric."""
        return self.features.name

    def add(self, subject: str, pred: torch.Tensor, target: torch.Tensor) -> None:
        """Add slices of a subject.

        Args:
            subject: The subject of the slices; its slices may be added in several calls.
            pred: The SR slices, (N, C, H, W), with intensities about [0, 1], without their borders.
            target: The HR slices, of the same size.

        Raises:
            InputError: If the sizes differ, or there are no slices.
        """
        if pred.shape != target.shape:
            raise InputError(f"expected slices of one size, got {tuple(pred.shape)} and {tuple(target.shape)}")
        self.add_features(subject, self.features_of(pred), self.features_of(target))

    def features_of(self, images: torch.Tensor) -> list[Array]:
        """Return the features (N, D) of each channel of slices (N, C, H, W); those of HR serve several distances.

        Raises:
            InputError: If there are no slices.
        """
        if images.ndim != 4 or len(images) < 1:
            raise InputError(f"expected slices (N, C, H, W), got {tuple(images.shape)}")
        channels = (images[:, c : c + 1].split(self.batch_size) for c in range(images.shape[1]))
        return [np.concatenate([self.features(part).cpu().double().numpy() for part in parts]) for parts in channels]

    def add_features(self, subject: str, pred: Sequence[Array], target: Sequence[Array]) -> None:
        """Add the features that `features_of` returned for SR and HR slices."""
        for channel, pair in enumerate(zip(pred, target, strict=True)):
            sets = self._sets.setdefault((subject, channel), [[], []])
            for kept, found in zip(sets, pair, strict=True):
                kept.append(found)

    @property
    def subjects(self) -> list[str]:
        """The subjects in order of appearance."""
        return list(dict.fromkeys(subject for subject, _ in self._sets))

    def per_subject(self) -> dict[str, dict[str, float]]:
        """Return for each subject the mean over channels by the metric's name, and the channels by name_channel_0, ...

        The value of a subject with a single slice is NaN, because it has no covariance.
        """
        result = {}
        for subject in self.subjects:
            values = [_distance(*sets) for (owner, _), sets in self._sets.items() if owner == subject]
            result[subject] = self._named(values)
        return result

    def pooled(self) -> dict[str, float]:
        """Return the distances over the slices of all subjects together: the mean over channels, and each channel."""
        channels = sorted({channel for _, channel in self._sets})
        values = []
        for channel in channels:
            sets = [s for (_, c), s in self._sets.items() if c == channel]
            values.append(_distance(*([part for s in sets for part in s[which]] for which in (0, 1))))
        return self._named(values)

    def result(self) -> dict[str, Any]:
        """Return the metric's name, the mean over subjects with two slices or more, and all values behind it."""
        subjects = self.per_subject()
        usable = [values[self.name] for values in subjects.values() if not np.isnan(values[self.name])]
        return {
            "metric": self.name,
            "mean_over_subjects": float(np.mean(usable)) if usable else float("nan"),
            "pooled": self.pooled(),
            "subjects": subjects,
        }

    def _named(self, values: Sequence[float]) -> dict[str, float]:
        named = {self.name: float(np.mean(values)) if values else float("nan")}
        return named | {f"{self.name}_channel_{i}": value for i, value in enumerate(values) if len(values) > 1}


def _distance(first: list[Array], second: list[Array]) -> float:
    sets = np.concatenate(first), np.concatenate(second)
    return frechet_distance_of_samples(*sets) if min(map(len, sets)) > 1 else float("nan")


def _snake(name: str) -> str:
    """Return the name of a class in lower case with underscores: segmentation_unet for SegmentationUNet."""
    return (
        "".join(f"_{c}" if c.isupper() and i and name[i - 1].islower() else c for i, c in enumerate(name))
        .lower()
        .replace("u_net", "unet")
    )
