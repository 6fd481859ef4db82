"""Losses by a segmentation network: its features, and what it makes of SR and HR (Zhu 2022, section 5.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from medsr.losses.judge import FeatureNetwork
from medsr.losses.perceptual import PerceptualLoss

HRL = "HRL"


class SegmentationNetwork(FeatureNetwork, Protocol):
    """A network that segments, and whose features have names."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Class logits."""


class SegmentationPerceptualLoss(PerceptualLoss):
    """How far a segmentation network sees SR from HR.

    `L_E(i)` (equation 5.10) is a distance between the features of encoder level i of SR and HR, `L_D` (5.11) between
    those of the decoder; `L_HRL` (5.12) is one minus the Dice of the segmentation of SR with that of HR, so that it
    needs no delineation. The result is the weighted sum of the chosen ones. (The author's program divides by the number
    of levels within the loop, which weighs five levels 1/3125 to 1/5; and the names of its two distances are swapped:
    its published "encoder-L1" is a mean squared error. Here L1 is L1, and weights are weights.)

    The network is a fixed judge, see `PerceptualLoss`.

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
        network: SegmentationNetwork,
        taps: Sequence[str] = ("E1",),
        weights: Sequence[float] | None = None,
        distance: str = "l1",
        classes: Sequence[int] | None = None,
        batch_statistics: bool = False,
    ) -> None:
        super().__init__(network, taps, weights, distance, batch_statistics)
        self.classes = classes

    def judged(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        """The value, with the network made a judge."""
        total = self.features_apart(sr, hr, [tap for tap, weight in self.weights.items() if tap != HRL and weight])
        if self.weights.get(HRL):
            network: Any = self.judge[0]
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
