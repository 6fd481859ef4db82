"""Training patches: informative, aligned between LR and HR, without artefacts where they were cut."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import RandomizableTransform, Transform

from medsr.errors import InputError
from medsr.geometry import Scale, as_scale, format_scale, lattice_step, reoriented_affine
from medsr.transforms.simulation import LR_SCALE, contrast, crop, on_grid_rule, pair_scale, scale_text


def _per_axis(size: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    return (size,) * ndim if isinstance(size, int) else tuple(size)


def _aligned_scale(lr: MetaTensor, hr: MetaTensor) -> tuple[Scale, list[int]]:
    """The scale of a pair, and how many HR voxels of each axis both images cover.

    Raises:
        InputError: the two do not begin at the same edges, so no crop on whole voxels keeps them together.
    """
    scale = pair_scale(lr, hr)
    if not on_grid_rule(lr, hr, scale):
        raise InputError(
            f"LR {tuple(lr.shape[1:])} and HR {tuple(hr.shape[1:])} are not aligned edge to edge at scale "
            f"{format_scale(scale)}, so patches cannot be cut from both; put InterpolateToReferenced before"
        )
    return scale, [min(m, int(n * s)) for m, n, s in zip(hr.shape[1:], lr.shape[1:], scale, strict=True)]


class RandPatchd(RandomizableTransform):
    """Crop an HR patch at a random place, with the margin that simulating its LR image needs.

    The patch is drawn again (up to `tries` times) while it is nearly constant, so background is not learned.
    Around the patch a margin of `context` LR voxels is kept on every axis that is degraded, and the size is
    rounded up until the scale divides it, so that the LR image simulated from the crop equals, inside the
    patch, the one simulated from the whole image. How nearly is decided by the memory of the spline, a factor
    of 0.27 for each LR voxel: with a context of 4 the interpolated LR image differs by 1e-3 of the range at
    worst, beside the border, and by 1e-4 root mean square. Crop both images to the patch afterwards
    (`CenterSpatialCropd`).

    An item that has an LR image already (a real pair) has that one cropped along with the HR image, on whole
    LR voxels that fall on whole HR voxels, by the scale of the pair.

    Args:
        key: HR image (C, *spatial).
        size: HR voxels of the patch, one number or one per axis.
        scale_key: where the item's scale is, per axis of the patch, and where it is put as exact fractions;
            without one no margin is added.
        context: LR voxels of margin on either side.
        minimum_deviation: standard deviation (with the margin) below which a patch counts as empty.
        tries: draws before an empty patch is accepted.
        permute: also draw one of the symmetries of the cube (flips and permutations of axes).
        lr: key of the LR image, where an item has one.
    """

    def __init__(
        self,
        key: str = "label",
        size: int | Sequence[int] = 32,
        scale_key: str = "scale",
        context: int = 4,
        minimum_deviation: float = 0.02,
        tries: int = 20,
        permute: bool = True,
        lr: str = "image",
    ) -> None:
        super().__init__(1.0)
        if tries < 1:
            raise InputError(f"a patch is drawn at least once, got tries={tries}")
        self.key = key
        self.size = size
        self.scale_key = scale_key
        self.context = context
        self.minimum_deviation = minimum_deviation
        self.tries = tries
        self.permute = permute
        self.lr = lr

    def crop_size(self, image_size: Sequence[int], scale: Scale) -> tuple[int, ...]:
        """Patch and margin, divisible by the scale, at most the image."""
        sizes = []
        for patch, n, s in zip(_per_axis(self.size, len(image_size)), image_size, scale, strict=True):
            wanted = patch if s == 1 else patch + 2 * ceil(self.context * s)
            p = s.numerator
            sizes.append(min(-(-wanted // p) * p, n - n % p))
        return tuple(sizes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the image, or the pair, cropped.

        Raises:
            InputError: the image is smaller than the patch, or LR and HR are not aligned.
        """
        result = dict(data)
        image: MetaTensor = result[self.key]
        lr: MetaTensor | None = result.get(self.lr)
        ndim = image.ndim - 1
        order = [int(axis) for axis in self.R.permutation(ndim)] if self.permute else list(range(ndim))
        flipped = [int(axis) for axis in np.flatnonzero(self.R.rand(ndim) < 0.5)] if self.permute else []
        if lr is None:
            limits = list(image.shape[1:])
            scale = as_scale(result.get(self.scale_key, 1), ndim, [limits[axis] for axis in order])
            steps = [1] * ndim
        else:
            pair, limits = _aligned_scale(lr, image)
            scale = tuple(pair[axis] for axis in order)
            steps = [s.numerator for s in pair]
        size = self.crop_size([limits[axis] for axis in order], scale)
        if any(m < p for m, p in zip(size, _per_axis(self.size, ndim), strict=True)):
            raise InputError(
                f"an image of {tuple(image.shape[1:])} voxels is too small for patches of {self.size} at "
                f"scale {format_scale(scale)}; pad it (SpatialPadd) or take smaller patches"
            )
        window = [size[order.index(axis)] for axis in range(ndim)]  # size of the crop on the image's own axes
        for _ in range(self.tries):
            start = [
                int(self.R.randint((n - m) // step + 1)) * step
                for n, m, step in zip(limits, window, steps, strict=True)
            ]
            patch = crop(image, start, window)
            if contrast(patch.as_tensor()) > self.minimum_deviation:
                break
        result[self.key] = reordered(patch, order, flipped) if self.permute else patch
        if lr is not None:
            lr_patch = crop(
                lr,
                [int(a / s) for a, s in zip(start, pair, strict=True)],
                [int(m / s) for m, s in zip(window, pair, strict=True)],
            )
            if LR_SCALE in lr_patch.meta:
                lr_patch.meta[LR_SCALE] = scale_text(scale)
            result[self.lr] = reordered(lr_patch, order, flipped) if self.permute else lr_patch
        if lr is not None or self.scale_key in result:
            result[self.scale_key] = [str(s) for s in scale]
        return result


def reordered(image: MetaTensor, order: list[int], flipped: list[int]) -> MetaTensor:
    """(C, *spatial) with its axes in another order, some of them (of the new ones) flipped; the affine follows."""
    values = image.as_tensor().permute(0, *(axis + 1 for axis in order))
    result = MetaTensor(torch.flip(values, [axis + 1 for axis in flipped]).contiguous(), meta=dict(image.meta))
    result.affine = torch.as_tensor(reoriented_affine(image.affine.numpy(), image.shape[1:], order, flipped))
    result.meta["spatial_shape"] = tuple(result.shape[1:])
    return result


class RandPairedCropd(RandomizableTransform):
    """Crop an LR/HR pair at the same place, on whole LR voxels that fall on whole HR voxels.

    For a scale p/q the LR offset is a multiple of q and the HR offset the matching multiple of p, so the pair
    stays on the grid rule. The LR patch has `size` voxels, the HR patch `size * scale` (which must be whole).

    Args:
        lr: key of the LR image (C, *spatial).
        hr: key of the HR image; for the scale see `simulation.pair_scale`.
        size: LR voxels of the patch, one number or one per axis.
        minimum_deviation: standard deviation of the HR patch below which another place is drawn.
        tries: draws before an empty patch is accepted.
    """

    def __init__(
        self,
        lr: str = "image",
        hr: str = "label",
        size: int | Sequence[int] = 24,
        minimum_deviation: float = 0.0,
        tries: int = 20,
    ) -> None:
        super().__init__(1.0)
        if tries < 1:
            raise InputError(f"a patch is drawn at least once, got tries={tries}")
        self.lr = lr
        self.hr = hr
        self.size = size
        self.minimum_deviation = minimum_deviation
        self.tries = tries

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the pair cropped.

        Raises:
            InputError: the patch does not fit or is no whole number of HR voxels, or the pair is not aligned.
        """
        result = dict(data)
        lr, hr = result[self.lr], result[self.hr]
        scale, covered = _aligned_scale(lr, hr)
        size = _per_axis(self.size, lr.ndim - 1)
        wanted = [m * s for m, s in zip(size, scale, strict=True)]
        if any(w.denominator != 1 for w in wanted):
            steps = [lattice_step(s)[0] for s in scale]
            raise InputError(f"an LR patch of {size} is no whole number of HR voxels; use multiples of {steps}")
        usable = [int(m / s) for m, s in zip(covered, scale, strict=True)]
        if any(m > n for m, n in zip(size, usable, strict=True)):
            raise InputError(
                f"an LR image of {tuple(usable)} voxels is too small for patches of {size}; take smaller ones"
            )
        hr_size = [int(w) for w in wanted]
        for _ in range(self.tries):
            lr_start, hr_start = [], []
            for n, m, s in zip(usable, size, scale, strict=True):
                q, p = lattice_step(s)
                k = int(self.R.randint((n - m) // q + 1))
                lr_start.append(k * q)
                hr_start.append(k * p)
            hr_patch = crop(hr, hr_start, hr_size)
            if contrast(hr_patch.as_tensor()) > self.minimum_deviation:
                break
        result[self.lr], result[self.hr] = crop(lr, lr_start, size), hr_patch
        return result


class CenterPairedCropd(Transform):
    """Crop an LR/HR pair to one place in the middle, on whole LR voxels that fall on whole HR voxels.

    What `RandPatchd` cut with a margin, and a degradation made LR, becomes the patch a network trains on.

    Args:
        lr: key of the LR image (C, *spatial).
        hr: key of the HR image; for the scale see `simulation.pair_scale`.
        size: HR voxels of the patch, one number or one per axis.
    """

    def __init__(self, lr: str = "image", hr: str = "label", size: int | Sequence[int] = 96) -> None:
        self.lr = lr
        self.hr = hr
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the pair cropped.

        Raises:
            InputError: the patch does not fit or is no whole number of LR voxels, or the pair is not aligned.
        """
        result = dict(data)
        lr, hr = result[self.lr], result[self.hr]
        scale, covered = _aligned_scale(lr, hr)
        size = _per_axis(self.size, hr.ndim - 1)
        steps = [lattice_step(s) for s in scale]  # q LR voxels are p HR voxels
        if any(m % p for m, (_, p) in zip(size, steps, strict=True)):
            raise InputError(
                f"an HR patch of {size} is no whole number of LR voxels at scale {format_scale(scale)}; "
                f"use multiples of {[p for _, p in steps]}"
            )
        if any(m > n for m, n in zip(size, covered, strict=True)):
            raise InputError(f"an image of {tuple(covered)} voxels is too small for patches of {size}; pad it before")
        units = [(n // p - m // p) // 2 for n, m, (_, p) in zip(covered, size, steps, strict=True)]
        lr_start = [k * q for k, (q, _) in zip(units, steps, strict=True)]
        hr_start = [k * p for k, (_, p) in zip(units, steps, strict=True)]
        lr_size = [m // p * q for m, (q, p) in zip(size, steps, strict=True)]
        result[self.lr], result[self.hr] = crop(lr, lr_start, lr_size), crop(hr, hr_start, size)
        return result
