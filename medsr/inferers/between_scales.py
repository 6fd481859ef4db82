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
KERNEL = "cubic-0.75"  # OpenCV's bicubic kernel, with which the dissertation's program reduces images


def check_between_scales(choice: str, ensemble: bool) -> str:
    """Check the choice of `between_scales` and return it.

    Raises:
        InputError: If the name is unknown, or if an ensemble is asked for, whose deviation would not be that of the
            reduced result.
    """
    if choice not in (REFUSE, UP_AND_DOWN):
        raise InputError(f"between_scales is {REFUSE} or {UP_AND_DOWN}, got {choice!r}")
    if choice == UP_AND_DOWN and ensemble:
        raise InputError(
            f"an ensemble cannot report the deviation of a result that {UP_AND_DOWN} has reduced; choose ensemble or "
            f"{UP_AND_DOWN}, not both"
        )
    return choice


def next_larger(spec: NetworkSpec, scale: Scale) -> tuple[int, ...] | None:
    """Return the smallest built-in scale of a fixed network that is at least the requested scale along every axis.

    It is None if there is no such scale, or if the requested scale is built in. Only `Family.FIXED` networks have
    built-in scales.
    """
    above = [
        built
        for built in built_scales(spec)
        if all(b >= s for b, s in zip(as_scale(list(built), len(scale)), scale, strict=True))
    ]
    best = min(above, key=prod, default=None)
    return None if best is None or as_scale(list(best), len(scale)) == scale else best


def reduced(image: torch.Tensor, lr_shape: Sequence[int], built: Sequence[int], scale: Scale) -> torch.Tensor:
    """Return the network's output reduced from its own scale to the requested grid (Zhu 2022, section 4.3.4).

    As published, this is cubic interpolation without a low-pass filter. Unlike there, the edges of the two images
    coincide, and the size follows the grid rule.

    Args:
        image: The network's output, (B, C, *LR size times `built`).
        lr_shape: The LR size.
        built: The network's scale per spatial axis.
        scale: The requested scale per spatial axis, at most `built`.
    """
    ratio = tuple(s / b for s, b in zip(scale, built, strict=True))
    return resize(image, ratio, new_shape=output_shape(lr_shape, scale), kernel=KERNEL)
