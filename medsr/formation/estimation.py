"""Estimate the formation of an image from its own spectrum; an estimate errs on the sharp side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medsr.degradation import Degradation, KspaceTruncationDegradation, PerAxisDegradation, SliceProfileDegradation
from medsr.formation.formation import FULLY_ACQUIRED, Formation
from medsr.formation.headers import AxisFormation
from medsr.formation.noise import noise_sigma
from medsr.formation.spectra import FEWEST, Decay, acquired_fraction, decay

Array = NDArray[Any]

KSPACE = KspaceTruncationDegradation()


@dataclass(frozen=True)
class _Model:
    """A formation that is told by the decay of the spectrum, and the mean decay of images that it formed."""

    words: str
    degradation: Degradation
    levels: tuple[float, ...]
    windowed: bool = False


# From sharp to blurred. `python -m benchmarks.formation_spectra DATA` printed the levels and their covariances: the
# training split of the hippocampus and T1w images (75 axes), reduced by 2 without noise. Widths are in LR voxels, and
# the levels hold for other scales about as well (at scale 3 all of them are 0.2 to 0.4 higher, which errs on the sharp
# side).
_MODELS = (
    _Model("truncated k-space", KSPACE, (-1.12, -1.98, -2.53, -2.89)),
    _Model("a block mean", SliceProfileDegradation(name="block-mean", profile="box"), (-1.25, -2.21, -2.74, -2.92)),
    _Model("a Gaussian of 0.85 voxels", SliceProfileDegradation(fwhm=0.85), (-1.39, -2.56, -3.3, -3.58)),
    _Model("a Gaussian of 1 voxel", SliceProfileDegradation(), (-1.5, -2.84, -3.76, -4.13)),
    _Model("a Gaussian of 1.2 voxels", SliceProfileDegradation(fwhm=1.2), (-1.66, -3.23, -4.42, -4.95)),
    _Model("a Gaussian of 1.5 voxels", SliceProfileDegradation(fwhm=1.5), (-1.93, -3.87, -5.5, -6.33)),
    _Model("a Tukey window", KspaceTruncationDegradation(window="tukey"), (-1.27, -2.81, -5.19, -7.6), True),
    _Model("a Fermi window", KspaceTruncationDegradation(window="fermi"), (-1.26, -2.67, -5.43, -8.42), True),
    _Model("a Hamming window", KspaceTruncationDegradation(window="hamming"), (-2.12, -4.44, -6.64, -7.9), True),
)
_COVARIANCES = {  # of the levels within one model: the images differ
    False: np.array(
        [
            [0.067, 0.085, 0.086, 0.081],
            [0.085, 0.123, 0.127, 0.121],
            [0.086, 0.127, 0.144, 0.14],
            [0.081, 0.121, 0.14, 0.148],
        ]
    ),
    True: np.array(
        [
            [0.084, 0.105, 0.104, 0.09],
            [0.105, 0.15, 0.164, 0.165],
            [0.104, 0.164, 0.306, 0.433],
            [0.09, 0.165, 0.433, 0.764],
        ]
    ),
}
_INFLATION = 1.3  # of the covariances, for images of other kinds
_RISK = 0.1  # largest probability that the truth is sharper than what is chosen
_STRANGE = 30.0  # squared distance from the chosen model beyond which an image is like none
_NOISY = 0.3  # part of noise in the first band, beyond which nothing can be said of the others
_NOISE_TRUST = 0.9  # of the estimated noise: too much of it would make images look blurred


def estimate(image: Any, spacing: Sequence[float]) -> Formation:
    """Return the formation of every axis of an image, as its spectrum shows it.

    - Power that ends in a cliff or a step below the Nyquist frequency: zero-filled k-space of that extent.
    - Else the decay is compared with that of images of known formation (k-space with and without a window, block mean,
      Gaussians), each with the estimated noise added. Chosen is the most blurred of those than which the truth is
      sharper with a probability of at most 10 %.
    - Truncated k-space if the axis is short (below 14 voxels), or the image like none of them.

    Args:
        image: (C, *spatial), normalised to about [0, 1].
        spacing: The spacing in mm, per spatial axis.
    """
    values = as_array(image)
    axes = range(len(spacing))
    acquired = tuple(acquired_fraction(values, axis) for axis in axes)
    noise = noise_sigma(values, axes, acquired)
    found = [estimate_axis(values, axis, noise, acquired[axis]) for axis in axes]
    return Formation(
        PerAxisDegradation(axes=tuple(axis.degradation or KSPACE for axis in found)),
        "estimated",
        tuple(axis.reason for axis in found),
        acquired,
        noise,
    )


def as_array(image: Any) -> Array:
    """Return an image (C, *spatial), a tensor or an array, as an array."""
    if isinstance(image, torch.Tensor):
        image = image.detach().as_subclass(torch.Tensor).cpu().numpy()
    return np.asarray(image)


def estimate_axis(values: Array, axis: int, noise: float, acquired: float) -> AxisFormation:
    """Return the formation of one axis; without degradation if the spectrum does not decide.

    Args:
        values: (C, *spatial).
        axis: The spatial axis.
        noise: The standard deviation of the noise.
        acquired: What `acquired_fraction` says of the axis.
    """
    if acquired < FULLY_ACQUIRED:
        extent = round(acquired, 4)
        reason = f"axis {axis}: the spectrum ends at {extent:.2f} of the Nyquist frequency: zero-filled k-space"
        return AxisFormation(KspaceTruncationDegradation(extent=extent), reason, acquired)
    found = decay(values, axis)
    if found is None:
        reason = f"axis {axis}: fewer than {FEWEST} voxels or nothing to see; truncated k-space is assumed"
        return AxisFormation(None, reason, 1.0)
    part = found.noise * (_NOISE_TRUST * noise) ** 2  # of the power in the first band
    if part > _NOISY:
        return AxisFormation(None, f"axis {axis}: noise hides the spectrum; truncated k-space is assumed", 1.0)
    distances = np.array([_distance(model, found, part) for model in _MODELS])
    weights = np.array([_weight(model, found) for model in _MODELS]) * np.exp((distances.min() - distances) / 2)
    sharper = np.concatenate([[0.0], np.cumsum(weights / weights.sum())[:-1]])
    chosen = int(np.flatnonzero(sharper <= _RISK)[-1])
    if chosen and distances[chosen] > _STRANGE:
        reason = f"axis {axis}: the spectrum decays like that of no known formation; truncated k-space is assumed"
        return AxisFormation(None, reason, 1.0)
    reason = f"axis {axis}: the spectrum decays as after {_MODELS[chosen].words}, or more"
    return AxisFormation(_MODELS[chosen].degradation, reason, 1.0)


def _distance(model: _Model, found: Decay, part: float) -> float:
    """Return the squared Mahalanobis distance of a decay from that of a model with this part of noise."""
    expected = np.log(np.exp(np.array(model.levels)) * (1 - part) + part)
    off = found.levels - expected
    return float(off @ np.linalg.solve(_covariance(model, found), off))


def _covariance(model: _Model, found: Decay) -> Array:
    return _COVARIANCES[model.windowed] * _INFLATION + found.uncertainty


def _weight(model: _Model, found: Decay) -> float:
    """Return the density of a model at its centre, up to a common factor."""
    return float(np.linalg.det(_covariance(model, found)) ** -0.5)
