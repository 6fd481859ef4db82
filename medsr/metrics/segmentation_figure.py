"""Figures of segmentations drawn over the images from which they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medsr.files.atomic import atomic_path

_ERROR = (0.9, 0.1, 0.1)
_LABELS = ((0.2, 0.7, 0.3), (0.2, 0.5, 0.9), (0.95, 0.75, 0.2), (0.7, 0.4, 0.8))
_OPACITY = 0.45
_MARGIN = 12  # pixels shown around the delineation


@dataclass(frozen=True)
class Panel:
    """A version of a case.

    Attributes:
        name: The title.
        image: The image, (*spatial).
        labels: The segmentation of the image, (*spatial).
    """

    name: str
    image: torch.Tensor
    labels: torch.Tensor


def draw_overlays(path: Path, panels: Sequence[Panel], truth: torch.Tensor, across: int | None) -> bool:
    """Draw the slice with the largest delineation: labels in colours, pixels that differ from the delineation in red.

    Args:
        path: The path of the PNG file, which appears complete or not at all.
        panels: The versions of one case.
        truth: The delineation, (*spatial), which is drawn first, over the first version.
        across: The axis across the slices of a volume; None for an image.

    Returns:
        Whether the figure was drawn: False without matplotlib, or if nothing was delineated.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    volume = truth[None] if across is None else truth.movedim(across, 0)
    sizes = (volume > 0).flatten(1).sum(1)
    if not int(sizes.max()):
        return False
    index = int(sizes.argmax())
    window = _window(volume[index].numpy() > 0)

    def shown(array: torch.Tensor) -> np.ndarray:
        plain = torch.as_tensor(array).detach().cpu()
        plane = plain if across is None else plain.movedim(across, 0)[index]
        return np.flip(plane.numpy()[window].T, (0, 1))  # the patient's right on the left, the front up

    true = shown(truth)
    low, high = np.percentile(shown(panels[0].image), [0.5, 99.5])
    figure = Figure(figsize=(2.6 * (len(panels) + 1), 3.0), dpi=120, layout="constrained")
    axes = figure.subplots(1, len(panels) + 1)
    pictures = [("delineation", panels[0].image, true)] + [(p.name, p.image, shown(p.labels)) for p in panels]
    for axis, (title, image, labels) in zip(axes, pictures, strict=True):
        grey = np.clip((shown(image) - low) / max(high - low, 1e-6), 0, 1)
        axis.imshow(_coloured(grey, labels, true), interpolation="nearest")
        wrong = int((labels != true).sum())
        axis.set_title(title if title == "delineation" else f"{title}: {wrong} px wrong", fontsize=9)
        axis.set_axis_off()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return True


def _coloured(grey: np.ndarray, labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    picture = np.repeat(grey[..., None], 3, axis=2)
    for k in range(1, int(max(labels.max(), truth.max())) + 1):
        colour = np.array(_LABELS[(k - 1) % len(_LABELS)])
        right = (labels == k) & (truth == k)
        picture[right] = (1 - _OPACITY) * picture[right] + _OPACITY * colour
    wrong = labels != truth
    picture[wrong] = (1 - _OPACITY) * picture[wrong] + _OPACITY * np.array(_ERROR)
    return picture


def _window(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the bounding box of the mask with a margin."""
    found = [
        np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis))) for axis in range(mask.ndim)
    ]
    return tuple(
        slice(max(int(i[0]) - _MARGIN, 0), min(int(i[-1]) + 1 + _MARGIN, n))
        for i, n in zip(found, mask.shape, strict=True)
    )
