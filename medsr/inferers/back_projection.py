"""Consistency of an SR image with the LR image it came from."""

from __future__ import annotations

import torch

from medsr.degradation import Degradation
from medsr.geometry import Scale
from medsr.interpolation import resize


def inconsistency(sr: torch.Tensor, lr: torch.Tensor, scale: Scale, degradation: Degradation) -> torch.Tensor:
    """LR - degrade(SR), (B, C, *LR spatial): what the result gets wrong about the measurement.

    Noise of the degradation is left out.
    """
    return lr - degradation.downsampling(sr, scale, shape=tuple(lr.shape[2:]))


def back_project(
    sr: torch.Tensor, lr: torch.Tensor, scale: Scale, degradation: Degradation, iterations: int
) -> torch.Tensor:
    """Iterative back-projection (Irani and Peleg 1991), in place: SR += enlarge(LR - degrade(SR)).

    Args:
        sr: (B, C, *SR spatial), changed.
        lr: (B, C, *LR spatial) in the same units.
        scale: The scale of the pair.
        degradation: Assumed LR formation.
        iterations: The number of corrections.
    """
    for _ in range(iterations):
        sr += resize(inconsistency(sr, lr, scale, degradation), scale, new_shape=sr.shape[2:], kernel="linear")
    return sr
