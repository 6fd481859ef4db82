"""Losses with a segmentation network: distances between its features and its segmentations of SR and HR.

Zhu 2022, section 5.2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from medsr.losses.judge import FeatureNetwork
from medsr.losses.perceptual import PerceptualLoss

HRL = "HRL"


class SegmentationNetwork(FeatureNetwork, Protocol):
    """A segmentation network that also returns features by name."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return the class logits of an image."""


class SegmentationPerceptualLoss(PerceptualLoss):
    """The segmentation-based perceptual loss: the distance between SR and HR as a segmentation network sees them.

    `L_E(i)` (equation 5.10) is the distance between the features of SR and HR at encoder level i, and `L_D` (5.11) the
    distance between those of the decoder. `L_HRL` (5.12) is one minus the Dice between the segmentations of SR and HR,
    so that no manual segmentation is needed. The loss is the weighted sum of the chosen terms. (The author's program
    divides by the number of levels inside the loop, which weights five levels by 1/3125 to 1/5. It also swaps the names
    of its two distances: its published "encoder-L1" is a mean squared error. Here L1 is L1, and the weights are applied
    as given.)

    The network is a fixed judge, see `PerceptualLoss`.

    Args:
        network: A trained segmentation network with `features`. It is not registered as a submodule, so that
            `parameters()` and `state_dict()` of the loss stay empty.
        taps: The terms: any of "E1" to "E5", "D" and "HRL" for `SegmentationUNet`.
        weights: One factor per tap; 1 each by default.
        distance: The distance between features, "l1" (the text) or "mse" (the program).
        classes: The classes that HRL counts; all but the background 0 by default.
        batch_statistics: Whether the network runs in training mode, as the author's program does by omission; batch
            normalisation then uses the statistics of the current batch (and its running statistics drift).

    Raises:
        MedsrError: If the distance is unknown, there are no taps, or the weights do not fit them.
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
        """Return the loss; the network is already frozen by `as_judge`."""
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
    """Return one minus the Dice of each class, over the batch and all pixels together, averaged over the classes.

    A class that is absent from `labels` contributes 0 but counts in the average, as in `DiceLoss("multiclass")` of
    segmentation_models_pytorch, which the dissertation used: nothing is learned from a class that is not there.

    Args:
        logits: The class logits before softmax, (B, K, *spatial).
        labels: The class labels, (B, *spatial), integers below K.
        classes: The classes that count; all but 0 by default.
        eps: The smallest denominator, which avoids a division by zero.
    """
    probabilities = logits.softmax(1)
    chosen = list(range(1, logits.shape[1])) if classes is None else list(classes)
    losses = []
    for k in chosen:
        found, true = probabilities[:, k], (labels == k).to(probabilities.dtype)
        dice = 2 * (found * true).sum() / (found.sum() + true.sum()).clamp_min(eps)
        losses.append((1 - dice) * (true.sum() > 0))
    return torch.stack(losses).mean()
