"""Training patches: informative, aligned between LR and HR, and wide enough that cropping leaves no border artefact."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import RandomizableTransform

from medsr.errors import InputError
from medsr.geometry import Scale, as_scale, lattice_step, shifted_affine
from medsr.transforms.simulation import crop, pair_scale


def _per_axis(size: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    return (size,) * ndim if isinstance(size, int) else tuple(size)


class RandPatchd(RandomizableTransform):
    """Crop an HR patch at a random place, with the margin that simulating its LR image needs.

    The patch is drawn again (up to `tries` times) while it is nearly constant, so background is not learned.
    Around the patch a margin of `context` LR voxels is kept on every axis that is degraded, and the size is rounded
    up until the scale divides it, so that the LR image simulated from the crop equals, inside the patch, the one
    simulated from the whole image. Crop the pair to the patch afterwards (`CenterSpatialCropd`).

    Args:
        key: HR image (C, *spatial).
        size: HR voxels of the patch, one number or one per axis.
        scale_key: where the item's scale is; without one no margin is added.
        context: LR voxels of margin on either side.
        minimum_deviation: standard deviation below which a patch counts as empty.
        tries: draws before an empty patch is accepted.
        permute: also draw one of the symmetries of the cube (flips and permutations of axes).
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
    ) -> None:
        super().__init__(1.0)
        self.key = key
        self.size = size
        self.scale_key = scale_key
        self.context = context
        self.minimum_deviation = minimum_deviation
        self.tries = tries
        self.permute = permute

    def crop_size(self, image_size: Sequence[int], scale: Scale) -> tuple[int, ...]:
        """Patch and margin, divisible by the scale, at most the image."""
        sizes = []
        for patch, n, s in zip(_per_axis(self.size, len(image_size)), image_size, scale, strict=True):
            wanted = patch if s == 1 else patch + 2 * ceil(self.context * s)
            p = s.numerator
            sizes.append(min(-(-wanted // p) * p, n - n % p))
        return tuple(sizes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the image cropped.

        Raises:
            InputError: the image is smaller than the patch.
        """
        result = dict(data)
        image: MetaTensor = result[self.key]
        order = self.R.permutation(image.ndim - 1) if self.permute else np.arange(image.ndim - 1)
        flips = [int(axis) + 1 for axis in np.flatnonzero(self.R.rand(image.ndim - 1) < 0.5)] if self.permute else []
        image_size = [image.shape[1 + axis] for axis in order]
        scale = as_scale(result.get(self.scale_key, 1), len(order), image_size)
        size = self.crop_size(image_size, scale)
        if any(m < p for m, p in zip(size, _per_axis(self.size, len(size)), strict=True)):
            raise InputError(f"an image of {tuple(image.shape[1:])} voxels is too small for patches of {self.size}")
        window = [0] * len(order)  # size of the crop on the image's own axes
        for axis, m in zip(order, size, strict=True):
            window[axis] = m
        for _ in range(self.tries):
            start = [int(self.R.randint(n - m + 1)) for n, m in zip(image.shape[1:], window, strict=True)]
            patch = crop(image, start, window)
            if patch.as_tensor().std() > self.minimum_deviation:
                break
        if self.permute:
            patch = _reorder(patch, [int(axis) for axis in order], flips)
        result[self.key] = patch
        return result


def _reorder(image: MetaTensor, order: list[int], flips: list[int]) -> MetaTensor:
    values = torch.flip(image.as_tensor().permute(0, *(axis + 1 for axis in order)), flips).contiguous()
    affine = image.affine.numpy().copy()
    if len(order) == 3:
        affine[:, :3] = affine[:, order]
        start = [0] * 3
        for axis in flips:
            start[axis - 1] = values.shape[axis] - 1
        affine = shifted_affine(affine, start)
        for axis in flips:
            affine[:, axis - 1] *= -1
    result = MetaTensor(values, meta=dict(image.meta))
    result.affine = torch.as_tensor(affine)
    return result


class RandPairedCropd(RandomizableTransform):
    """Crop an LR/HR pair at the same place, on whole LR voxels that fall on whole HR voxels.

    For a scale p/q the LR offset is a multiple of q and the HR offset the matching multiple of p, so the pair stays
    on the grid rule. The LR patch has `size` voxels, the HR patch `size * scale` (which must be whole).

    Args:
        lr: key of the LR image (C, *spatial).
        hr: key of the HR image; the scale is the LR image's record, or the ratio of sizes.
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
        self.lr = lr
        self.hr = hr
        self.size = size
        self.minimum_deviation = minimum_deviation
        self.tries = tries

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the pair cropped.

        Raises:
            InputError: the patch does not fit, or does not map to whole HR voxels.
        """
        result = dict(data)
        lr, hr = result[self.lr], result[self.hr]
        scale = pair_scale(lr, hr.shape[1:])
        size = _per_axis(self.size, lr.ndim - 1)
        wanted = [m * s for m, s in zip(size, scale, strict=True)]
        if any(w.denominator != 1 for w in wanted):
            steps = [lattice_step(s)[0] for s in scale]
            raise InputError(f"an LR patch of {size} is no whole number of HR voxels; use multiples of {steps}")
        if any(m > n for m, n in zip(size, lr.shape[1:], strict=True)):
            raise InputError(f"an LR image of {tuple(lr.shape[1:])} voxels is too small for patches of {size}")
        hr_size = [int(w) for w in wanted]
        for _ in range(self.tries):
            lr_start, hr_start = [], []
            for n, m, s in zip(lr.shape[1:], size, scale, strict=True):
                q, p = lattice_step(s)
                k = int(self.R.randint((n - m) // q + 1))
                lr_start.append(k * q)
                hr_start.append(k * p)
            hr_patch = crop(hr, hr_start, hr_size)
            if hr_patch.as_tensor().std() > self.minimum_deviation:
                break
        result[self.lr], result[self.hr] = crop(lr, lr_start, size), hr_patch
        return result
