"""Overlap of label maps: Dice of each label and of all together, over a case and slice by slice."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from medsr.errors import InputError

_EPS = 1e-6  # the dissertation's value, by which two empty slices have a Dice of one


class DiceCounts:
    """The overlaps of all images of one subject, from whose counts Dice is computed.

    Zhu 2022, section 5.3.2, takes the mean over slices of (2 |A and B| + e) / (|A| + |B| + e); "Dice-T" pools the
    labels. Slices without the label in both maps then count as perfect, which a mean over slices hides; therefore the
    Dice of all voxels of a subject is reported too.

    Args:
        labels: The labels that are measured, without the background.

    Raises:
        InputError: If there are no labels.
    """

    def __init__(self, labels: Sequence[int]) -> None:
        if not labels:
            raise InputError("expected one label or more to measure, got none")
        self.labels = list(labels)
        self.common = torch.zeros(len(self.labels), dtype=torch.float64)
        self.sizes = torch.zeros(len(self.labels), dtype=torch.float64)
        self.slices: list[torch.Tensor] = []

    def add(self, found: torch.Tensor, truth: torch.Tensor, axis: int | None = None) -> None:
        """Count the overlaps of one image.

        Args:
            found: The label map to measure, (*spatial).
            truth: The true label map, of the same size.
            axis: The axis across the slices of a volume; None for an image that is one slice.

        Raises:
            InputError: If the sizes differ.
        """
        if found.shape != truth.shape:
            raise InputError(f"label maps must have one size, got {tuple(found.shape)} and {tuple(truth.shape)}")
        first, second = ((m[None] if axis is None else m.movedim(axis, 0)).flatten(1) for m in (found, truth))
        ours = torch.stack([first == label for label in self.labels])  # (labels, slices, pixels)
        theirs = torch.stack([second == label for label in self.labels])
        common = (ours & theirs).sum(-1).double()
        sizes = (ours.sum(-1) + theirs.sum(-1)).double()
        self.common += common.sum(1)
        self.sizes += sizes.sum(1)
        pooled = torch.stack([*common, common.sum(0)]), torch.stack([*sizes, sizes.sum(0)])
        self.slices.append(_dice(*pooled))

    def values(self) -> dict[str, float]:
        """Return `dice_1` and so on, `dice` of all labels pooled, and their means over slices as `slice_dice_1`, ..."""
        whole = _dice(
            torch.cat([self.common, self.common.sum()[None]]), torch.cat([self.sizes, self.sizes.sum()[None]])
        )
        mean = torch.cat(self.slices, dim=1).mean(1)
        names = [*(f"dice_{label}" for label in self.labels), "dice"]
        return {**dict(zip(names, whole.tolist(), strict=True))} | {
            f"slice_{name}": value for name, value in zip(names, mean.tolist(), strict=True)
        }


def _dice(common: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    return (2 * common + _EPS) / (sizes + _EPS)
