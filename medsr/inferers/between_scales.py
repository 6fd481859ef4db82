"""Run a fixed network at a scale it was not built for: enlarge by a larger scale, then reduce by interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from medsr.errors import InputError
from medsr.geometry import Scale, as_scale, output_shape
from medsr.inferers.tile_sources import built_scales
from medsr.interpolation import resize
from medsr.networks import NetworkSpec

REFUSE, UP_AND_DOWN = "refuse", "up-and-down"
KERNEL = "cubic-0.75"  # bicubic as OpenCV does it, in which the dissertation's program reduces


def check_between_scales(choice: str, ensemble: bool) -> str:
    """Return the name itself, once it is checked.

    Raises:
        InputError: Another name, or an ensemble whose deviation would not be that of the result.
    """
    if choice not in (REFUSE, UP_AND_DOWN):
        raise InputError(f"between_scales is {REFUSE} or {UP_AND_DOWN}, got {choice!r}")
    if choice == UP_AND_DOWN and ensemble:
        raise InputError(
            "the deviation over flips is of the voxels that the network makes, not of those between its scales; choose "
            f"ensemble or {UP_AND_DOWN}"
        )
    return choice


def next_larger(spec: NetworkSpec, scale: Scale) -> tuple[int, ...] | None:
    """Return the smallest scale that a fixed network was built for and that is nowhere below the one asked for.

    None if there is none, or none is needed; `Family.FIXED` networks alone have built-in scales.
    """
    above = [
        built
        for built in built_scales(spec)
        if all(b >= s for b, s in zip(as_scale(list(built), len(scale)), scale, strict=True))
    ]
    best = min(above, key=prod, default=None)
    return None if best is None or as_scale(list(best), len(scale)) == scale else best


def reduced(image: torch.Tensor, lr_shape: Sequence[int], built: Sequence[int], scale: Scale) -> torch.Tensor:
    """Return the image that the network made at its own scale on the grid that was asked for (Zhu 2022, section 4.3.4).

    Cubic interpolation without low-pass, as published, but edges coincide, and the size is that of the grid rule.

    Args:
        image: (B, C, *LR size times `built`).
        lr_shape: The LR size.
        built: The network's scale.
        scale: Asked for, nowhere larger.
    """
    ratio = tuple(s / b for s, b in zip(scale, built, strict=True))
    return resize(image, ratio, new_shape=output_shape(lr_shape, scale), kernel=KERNEL)
