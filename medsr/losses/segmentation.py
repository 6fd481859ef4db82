"""Losses by a segmentation network: its features, and what it makes of SR and HR (Zhu 2022, section 5.2.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError

HRL = "HRL"
_DISTANCES = {"l1": F.l1_loss, "mse": F.mse_loss}


class FeatureNetwork(Protocol):
    """A network whose features have names, such as `SegmentationUNet`."""

    def features(self, image: torch.Tensor, taps: Sequence[str]) -> dict[str, torch.Tensor]:
        """Features of (B, C, *spatial) by name."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Class logits."""


class SegmentationPerceptualLoss(nn.Module):
    """How far a segmentation network sees SR from HR.

    `L_E(i)` (equation 5.10) is a distance between the features of encoder level i of SR and HR, `L_D` (5.11) between
    those of the decoder; `L_HRL` (5.12) is one minus the Dice of the segmentation of SR with that of HR, so that it
    needs no delineation. The result is the weighted sum of the chosen ones. (The author's program divides by the number
    of levels within the loop, which weighs five levels 1/3125 to 1/5; and the names of its two distances are swapped:
    its published "encoder-L1" is a mean squared error. Here L1 is L1, and weights are weights.)

    The network is a fixed judge: its parameters get no gradient and keep their `requires_grad`, HR is passed without
    gradient, and batch normalisation uses the statistics of training.

    Args:
        network: trained segmentation network with `features`; it is not a part of this module: what `parameters()` and
            `state_dict()` give stays empty.
        taps: names of features, and "HRL"; any of "E1" to "E5", "D", "HRL" for `SegmentationUNet`.
        weights: a factor for each of `taps`; 1 each by default.
        distance: between features, "l1" (the text) or "mse" (the program).
        classes: that HRL counts; all but the background 0 by default.
        batch_statistics: leave the network in training mode, as the author's program does by omission: batch
            normalisation then uses the batch at hand (and its running statistics drift).

    Raises:
        MedsrError: unknown distance, or no taps, or weights that do not fit them.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        taps: Sequence[str] = ("E1",),
        weights: Sequence[float] | None = None,
        distance: str = "l1",
        classes: Sequence[int] | None = None,
        batch_statistics: bool = False,
    ) -> None:
        super().__init__()
        factors = [1.0] * len(taps) if weights is None else [float(w) for w in weights]
        if distance not in _DISTANCES or not taps or len(factors) != len(taps):
            raise MedsrError(
                f"expected one or more taps with a weight each and a distance of {', '.join(_DISTANCES)}; got "
                f"{list(taps)}, {weights}, {distance!r}"
            )
        self.judge = [network]  # in a list, it is not registered: neither trained nor saved with the loss
        self.weights = dict(zip(taps, factors, strict=True))
        self.distance = distance
        self.classes = classes
        self.batch_statistics = batch_statistics

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) twice, about [0, 1], to a scalar.

        Raises:
            MedsrError: a tap that the network does not have.
        """
        network = self.judge[0]
        total = sr.new_zeros(())
        taps = [tap for tap, weight in self.weights.items() if tap != HRL and weight]
        with _as_judge(network, sr.device, self.batch_statistics):
            if taps:
                seen = network.features(sr, taps)
                with torch.no_grad():
                    wanted = network.features(hr, taps)
                for tap in taps:
                    total = total + self.weights[tap] * _DISTANCES[self.distance](seen[tap], wanted[tap])
            if self.weights.get(HRL):
                logits = network(sr)
                with torch.no_grad():
                    labels = network(hr).argmax(1)
                total = total + self.weights[HRL] * multiclass_dice_loss(logits, labels, self.classes)
        return total


def multiclass_dice_loss(
    logits: torch.Tensor, labels: torch.Tensor, classes: Sequence[int] | None = None, eps: float = 1e-7
) -> torch.Tensor:
    """One minus the Dice of each class over batch and pixels together, averaged over classes.

    A class that is nowhere in `labels` adds nothing, yet counts in the average, as in segmentation_models_pytorch's
    `DiceLoss("multiclass")` that the dissertation used: where there is nothing to find, nothing is learned.

    Args:
        logits: (B, K, *spatial), before softmax.
        labels: (B, *spatial), integers below K.
        classes: that count; all but 0 by default.
        eps: keeps a denominator off zero.
    """
    probabilities = logits.softmax(1)
    chosen = list(range(1, logits.shape[1])) if classes is None else list(classes)
    losses = []
    for k in chosen:
        found, true = probabilities[:, k], (labels == k).to(probabilities.dtype)
        dice = 2 * (found * true).sum() / (found.sum() + true.sum()).clamp_min(eps)
        losses.append((1 - dice) * (true.sum() > 0))
    return torch.stack(losses).mean()


@contextmanager
def _as_judge(network: FeatureNetwork, device: torch.device, batch_statistics: bool) -> Iterator[None]:
    """The network on the images' device, frozen, in the right mode; afterwards as it was."""
    if not isinstance(network, nn.Module):
        yield
        return
    was_training = network.training
    trained = [p for p in network.parameters() if p.requires_grad]
    network.to(device).train(batch_statistics)
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        network.train(was_training)
        for p in trained:
            p.requires_grad_(True)
