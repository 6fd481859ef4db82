"""Consistency of an SR image with the LR image it came from."""

from __future__ import annotations

import torch

from medsr.degradation import Degradation
from medsr.geometry import Scale
from medsr.interpolation import resize


def inconsistency(sr: torch.Tensor, lr: torch.Tensor, scale: Scale, degradation: Degradation) -> torch.Tensor:
    """Return LR - degrade(SR), (B, C, *LR spatial): where the SR image contradicts the measured LR image.

    The noise of the degradation is left out.
    """
    return lr - degradation.downsampling(sr, scale, shape=tuple(lr.shape[2:]))


def back_project(
    sr: torch.Tensor, lr: torch.Tensor, scale: Scale, degradation: Degradation, iterations: int
) -> torch.Tensor:
    """Correct an SR image by iterative back-projection (Irani and Peleg 1991): SR += enlarge(LR - degrade(SR)).

    Args:
        sr: The SR image, (B, C, *SR spatial); it is changed in place and returned.
        lr: The LR image, (B, C, *LR spatial), in the same units.
        scale: The scale of the pair.
        degradation: The assumed LR formation.
        iterations: The number of corrections.
    """
    for _ in range(iterations):
        sr += resize(inconsistency(sr, lr, scale, degradation), scale, new_shape=sr.shape[2:], kernel="linear")
    return sr
