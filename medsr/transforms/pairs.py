"""Pairs of an LR and an HR image: the scale between them, and the positions at which voxel edges of both coincide."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from medsr.errors import InputError
from medsr.geometry import (
    Scale,
    as_scale,
    exact_scale,
    format_scale,
    relative_sampling,
    scale_from_text,
    source_positions,
)
from medsr.transforms.grid_operations import mirrored

LR_SCALE = "lr_scale"  # key of `meta`: scale per axis from this image to its HR counterpart, as text "2,5/2,1"


def pair_scale(lr: MetaTensor, hr: MetaTensor) -> Scale:
    """Return the scale between an LR image and its HR counterpart, both (C, *spatial).

    The scale is the one recorded by the simulation, else the ratio of the spacings. If the affines are equal although
    the sizes differ (pictures without a spacing), it is the ratio of the sizes.

    Raises:
        InputError: If the HR image is coarser on an axis.
        GridError: If the axes are not parallel.
    """
    recorded = lr.meta.get(LR_SCALE)
    if recorded:
        return scale_from_text(recorded)
    if _affines_say_nothing(lr, hr):
        scale = tuple(Fraction(m, n) for m, n in zip(hr.shape[1:], lr.shape[1:], strict=True))
    else:
        sampling = relative_sampling(lr.affine.numpy(), hr.affine.numpy(), hr.shape[1:])
        scale = tuple(exact_scale(1 / step, n) for (_, step), n in zip(sampling, lr.shape[1:], strict=True))
    if any(s < 1 for s in scale):
        raise InputError(
            "the HR image must not be coarser than the LR image on any axis, but the scale between them is "
            f"{format_scale(scale)}; exchange the two"
        )
    return scale


def on_grid_rule(lr: MetaTensor, hr: MetaTensor, scale: Scale) -> bool:
    """Return whether LR and HR begin at the same edges and `scale` relates them, to a thousandth of an LR voxel."""
    if _affines_say_nothing(lr, hr):
        return True
    sampling = relative_sampling(lr.affine.numpy(), hr.affine.numpy(), hr.shape[1:])
    for m, s, (start, step) in zip(hr.shape[1:], scale, sampling, strict=True):
        first, last = source_positions([0, m - 1], s)
        if max(abs(start - first), abs(start + step * (m - 1) - last)) > 1e-3:
            return False
    return True


def _affines_say_nothing(lr: MetaTensor, hr: MetaTensor) -> bool:
    return lr.shape[1:] != hr.shape[1:] and bool(torch.equal(lr.affine, hr.affine))


@dataclass(frozen=True)
class Lattice:
    """The positions at which crops of an HR image, and of the LR image of a pair, may begin.

    Along an axis of scale p/q, q LR voxels are p HR voxels. Crops of a pair begin and end with such units, so that the
    pair stays on the grid rule.

    Attributes:
        scale: The scale between LR and HR along each axis.
        limits: The number of HR voxels that may be cropped; for a pair, those that both images cover.
        steps: The number of HR voxels from one position to the next.
    """

    scale: Scale
    limits: tuple[int, ...]
    steps: tuple[int, ...]

    @classmethod
    def of_image(cls, hr: MetaTensor, scale: Scale) -> Lattice:
        """Return the lattice of an HR image without an LR image: every voxel."""
        return cls(scale, tuple(hr.shape[1:]), (1,) * len(scale))

    @classmethod
    def of_pair(cls, lr: MetaTensor, hr: MetaTensor) -> Lattice:
        """Return the lattice of a pair.

        Raises:
            InputError: If the two do not begin at the same edges, so that no crop on whole voxels keeps them aligned.
        """
        scale = pair_scale(lr, hr)
        if not on_grid_rule(lr, hr, scale):
            raise InputError(
                f"LR {tuple(lr.shape[1:])} and HR {tuple(hr.shape[1:])} are not aligned edge to edge at scale "
                f"{format_scale(scale)}, so patches cannot be cut from both; put InterpolateToReferenced before"
            )
        limits = tuple(min(m, int(n * s)) for m, n, s in zip(hr.shape[1:], lr.shape[1:], scale, strict=True))
        return cls(scale, limits, tuple(s.numerator for s in scale))

    def starts(self, size: Sequence[int]) -> list[range]:
        """Return the HR indices at which crops of `size` HR voxels may begin, for each axis."""
        return [range(0, n - m + 1, step) for n, m, step in zip(self.limits, size, self.steps, strict=True)]

    def checked(self, size: Sequence[int]) -> Sequence[int]:
        """Return the size of a patch in HR voxels.

        Raises:
            InputError: If it is not a whole number of LR voxels, or does not fit.
        """
        if any(m % p for m, p in zip(size, self.steps, strict=True)):
            raise InputError(
                f"an HR patch of {tuple(size)} is not a whole number of LR voxels at scale "
                f"{format_scale(self.scale)}; use multiples of {list(self.steps)}"
            )
        if any(m > n for m, n in zip(size, self.limits, strict=True)):
            raise InputError(
                f"an image of {self.limits} voxels is too small for patches of {tuple(size)}; pad it before"
            )
        return size

    def in_lr(self, voxels: Sequence[int]) -> list[int]:
        """Return the number of LR voxels that these HR voxels are, for each axis."""
        return [int(n / s) for n, s in zip(voxels, self.scale, strict=True)]


class CheckPairScaled(Transform):
    """A transform that refuses a real LR/HR pair whose scale is not that of the network.

    Args:
        scale: The scale of the network.
        lr: The key of the LR image; an item without one passes.
        hr: The key of the HR image.
    """

    def __init__(self, scale: float, lr: str = "image", hr: str = "label") -> None:
        self.scale = scale
        self.lr = lr
        self.hr = hr

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Return `data`.

        Raises:
            InputError: If the pair has another scale.
        """
        if self.lr in data:
            found = pair_scale(data[self.lr], data[self.hr])
            if found != as_scale(self.scale, len(found)):
                raise InputError(
                    f"the network enlarges by {self.scale:g}, but HR is {format_scale(found)} times LR in this pair; "
                    "choose the network's scale, or other pairs"
                )
        return data


class PadPairedd(Transform):
    """A transform that mirrors small images at their far edges until a patch fits, HR and LR by the same length.

    Args:
        size: The size of the patch in HR voxels along every axis.
        scale: The scale between LR and HR.
        lr: The key of the LR image, if an item has one.
        hr: The key of the HR image.
    """

    def __init__(self, size: int, scale: float, lr: str = "image", hr: str = "label") -> None:
        self.size = size
        self.scale = Fraction(scale)
        self.lr = lr
        self.hr = hr

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with images that are at least as large as a patch."""
        result = dict(data)
        result[self.hr] = mirrored(result[self.hr], self.size)
        if self.lr in result:
            result[self.lr] = mirrored(result[self.lr], int(self.size / self.scale))
        return result
