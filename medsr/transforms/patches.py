"""Training patches: not empty, aligned between LR and HR, and without artefacts at their borders."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from math import ceil
from typing import Any

from monai.data import MetaTensor
from monai.transforms import RandomizableTransform, Transform

from medsr.errors import InputError
from medsr.former_names import former_arguments
from medsr.geometry import Scale, as_scale, format_scale, lattice_step, scale_text
from medsr.transforms.grid_operations import Symmetry, crop
from medsr.transforms.pairs import LR_SCALE, Lattice
from medsr.transforms.places import InformativePlaces

# Cuts the HR patch at a place, given by its number along each axis.
Cut = Callable[[list[int]], MetaTensor]
# From the number of places along each axis, and how patches are cut, to one of the places and its patch.
Choose = Callable[[list[int], Cut], tuple[list[int], MetaTensor]]


def crop_aligned(
    data: Mapping[Hashable, Any],
    lr: str,
    hr: str,
    lattice: Lattice,
    size: Sequence[int],
    choose: Choose,
    symmetry: Symmetry | None = None,
) -> dict[Hashable, Any]:
    """Return a copy of `data` with the HR image, and the LR image where there is one, cropped at the same place.

    `RandPatchd`, `RandPairedCropd`, `RandPairedPatchesd`, `CenterPairedCropd` and `RandScalePatchd` crop by it.

    Args:
        data: The item with images (C, *spatial).
        lr: The key of the LR image.
        hr: The key of the HR image.
        lattice: The lattice of the pair, or of the HR image alone.
        size: The size of the patch in HR voxels along each axis; for a pair, whole steps of the lattice.
        choose: A function that chooses the place of the patch.
        symmetry: The permutation and the flips that are applied to the patches.
    """
    result = dict(data)
    starts = lattice.starts(size)

    def hr_patch(place: list[int]) -> MetaTensor:
        return crop(data[hr], [options[k] for options, k in zip(starts, place, strict=True)], size)

    place, patch = choose([len(options) for options in starts], hr_patch)
    result[hr] = patch
    if lr in data:
        start = [options[k] for options, k in zip(starts, place, strict=True)]
        result[lr] = crop(data[lr], lattice.in_lr(start), lattice.in_lr(size))
    return result if symmetry is None else turned(result, lr, hr, lattice.scale, symmetry)


def turned(data: Mapping[Hashable, Any], lr: str, hr: str, scale: Scale, symmetry: Symmetry) -> dict[Hashable, Any]:
    """Return a copy of `data` with the HR image, and the LR image where there is one, permuted and flipped alike.

    Args:
        data: The item with images (C, *spatial).
        lr: The key of the LR image.
        hr: The key of the HR image.
        scale: The scale between the two images along each axis, before the permutation.
        symmetry: The permutation and the flips.
    """
    result = {**data, hr: symmetry.of(data[hr])}
    if lr in data:
        result[lr] = symmetry.of(data[lr])
        if LR_SCALE in result[lr].meta:
            result[lr].meta[LR_SCALE] = scale_text(symmetry.permuted(scale))
    return result


def middle(counts: list[int], cut: Cut) -> tuple[list[int], MetaTensor]:
    """Return the place in the middle and the patch there."""
    place = [(count - 1) // 2 for count in counts]
    return place, cut(place)


def per_axis(size: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """Return the size along each axis; one number applies to all axes."""
    return (size,) * ndim if isinstance(size, int) else tuple(size)


class RandPatchd(RandomizableTransform):
    """A transform that crops a random HR patch, with the margin that is needed to simulate its LR image.

    The patch is drawn again (up to `tries` times) while it is nearly constant, so that networks do not learn the
    background. Around the patch a margin of `context` LR voxels is kept on every axis that is degraded, and the size is
    rounded up until the scale divides it, so that the LR image simulated from the crop equals, inside the patch, the LR
    image simulated from the whole image. The remaining difference comes from the spline, whose influence falls by a
    factor of 0.27 per LR voxel: with a context of 4 the interpolated LR image differs by at most 1e-3 of the range,
    beside the border, and by 1e-4 root mean square. Crop both images to the patch afterwards (`CenterSpatialCropd`).

    If an item already has an LR image (a real pair), it is cropped together with the HR image, on whole LR voxels that
    fall on whole HR voxels, by the scale of the pair.

    Args:
        lr: The key of the LR image, if an item has one.
        hr: The key of the HR image (C, *spatial).
        size: The size of the patch in HR voxels, one number or one per axis.
        scale_key: The key of the item's scale, along each axis of the patch, where it is stored again as exact
            fractions; None adds no margin.
        context: The margin in LR voxels on either side.
        minimum_deviation: The standard deviation (with the margin) below which a patch counts as empty.
        tries: The number of draws before an empty patch is accepted.
        permute: Whether to draw one of the symmetries of the cube too (flips and permutations of axes).
    """

    @former_arguments(key="hr")
    def __init__(
        self,
        *,
        lr: str = "image",
        hr: str = "label",
        size: int | Sequence[int] = 32,
        scale_key: str = "scale",
        context: int = 4,
        minimum_deviation: float = 0.02,
        tries: int = 20,
        permute: bool = True,
    ) -> None:
        super().__init__(1.0)
        self.lr = lr
        self.hr = hr
        self.size = size
        self.scale_key = scale_key
        self.context = context
        self.places = InformativePlaces(minimum_deviation, tries)
        self.permute = permute

    def crop_size(self, image_size: Sequence[int], scale: Scale) -> tuple[int, ...]:
        """Return the size of the patch with its margin, divisible by the scale and not above that of the image."""
        sizes = []
        for patch, n, s in zip(per_axis(self.size, len(image_size)), image_size, scale, strict=True):
            wanted = patch if s == 1 else patch + 2 * ceil(self.context * s)
            p = s.numerator
            sizes.append(min(-(-wanted // p) * p, n - n % p))
        return tuple(sizes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the image, or the pair, cropped.

        Raises:
            InputError: If the image is smaller than the patch, or LR and HR are not aligned.
        """
        hr: MetaTensor = data[self.hr]
        ndim = hr.ndim - 1
        symmetry = Symmetry.drawn(self.R, ndim) if self.permute else Symmetry(tuple(range(ndim)))
        if self.lr in data:
            lattice = Lattice.of_pair(data[self.lr], hr)
            scale = symmetry.permuted(lattice.scale)
        else:  # the scale is that of the patch's axes
            scale = as_scale(data.get(self.scale_key, 1), ndim, symmetry.permuted(hr.shape[1:]))
            lattice = Lattice.of_image(hr, symmetry.restored(scale))
        size = self.crop_size(symmetry.permuted(lattice.limits), scale)
        if any(m < p for m, p in zip(size, per_axis(self.size, ndim), strict=True)):
            raise InputError(
                f"an image of {tuple(hr.shape[1:])} voxels is too small for patches of {self.size} at "
                f"scale {format_scale(scale)}; pad it (SpatialPadd) or take smaller patches"
            )
        choose, turn = partial(self.places.draw, self.R), symmetry if self.permute else None
        result = crop_aligned(data, self.lr, self.hr, lattice, symmetry.restored(size), choose, turn)
        if self.lr in data or self.scale_key in data:
            result[self.scale_key] = [str(s) for s in scale]
        return result


class RandPairedCropd(RandomizableTransform):
    """A transform that crops an LR/HR pair at one random place, on whole LR voxels that fall on whole HR voxels.

    For a scale p/q the LR offset is a multiple of q and the HR offset the matching multiple of p, so the pair
    stays on the grid rule. The LR patch has `size` voxels, and the HR patch has `size * scale` (a whole number).

    Args:
        lr: The key of the LR image (C, *spatial).
        hr: The key of the HR image; for the scale see `pairs.pair_scale`.
        size: The size of the patch in LR voxels, one number or one per axis.
        minimum_deviation: The standard deviation of the HR patch below which another place is drawn.
        tries: The number of draws before an empty patch is accepted.
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
        self.places = InformativePlaces(minimum_deviation, tries)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the pair cropped.

        Raises:
            InputError: If the patch does not fit or is not a whole number of HR voxels, or the pair is not aligned.
        """
        lattice = Lattice.of_pair(data[self.lr], data[self.hr])
        size = per_axis(self.size, len(lattice.scale))
        wanted = [m * s for m, s in zip(size, lattice.scale, strict=True)]
        if any(w.denominator != 1 for w in wanted):
            steps = [lattice_step(s)[0] for s in lattice.scale]
            raise InputError(f"an LR patch of {size} is not a whole number of HR voxels; use multiples of {steps}")
        usable = lattice.in_lr(lattice.limits)
        if any(m > n for m, n in zip(size, usable, strict=True)):
            raise InputError(
                f"an LR image of {tuple(usable)} voxels is too small for patches of {size}; take smaller ones"
            )
        return crop_aligned(
            data, self.lr, self.hr, lattice, [int(w) for w in wanted], partial(self.places.draw, self.R)
        )


class CenterPairedCropd(Transform):
    """A transform that crops an LR/HR pair to its middle, on whole LR voxels that fall on whole HR voxels.

    It removes the margin that `RandPatchd` kept, after the LR patch has been simulated.

    Args:
        lr: The key of the LR image (C, *spatial).
        hr: The key of the HR image; for the scale see `pairs.pair_scale`.
        size: The size of the patch in HR voxels, one number or one per axis.
    """

    def __init__(self, lr: str = "image", hr: str = "label", size: int | Sequence[int] = 96) -> None:
        self.lr = lr
        self.hr = hr
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the pair cropped.

        Raises:
            InputError: If the patch does not fit or is not a whole number of LR voxels, or the pair is not aligned.
        """
        lattice = Lattice.of_pair(data[self.lr], data[self.hr])
        size = lattice.checked(per_axis(self.size, len(lattice.scale)))
        return crop_aligned(data, self.lr, self.hr, lattice, size, middle)
