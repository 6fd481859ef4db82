"""Many training patches of one simulated volume or slice: simulating it is dear, cutting it is cheap."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import RandomizableTransform
from monai.transforms.traits import MultiSampleTrait
from monai.utils import ensure_tuple

from medsr.errors import InputError
from medsr.transforms.grid_operations import Symmetry, crop, mirrored
from medsr.transforms.pairs import Lattice
from medsr.transforms.patches import crop_aligned, per_axis
from medsr.transforms.places import InformativePlaces


@dataclass(frozen=True)
class _Number:
    """The rule of how many patches an image gives: as would cover a share of it, but at least one and at most `most`.

    Raises:
        InputError: If the share is not positive, or `most` is below 1.
    """

    coverage: float
    most: int

    def __post_init__(self) -> None:
        if self.coverage <= 0 or self.most < 1:
            raise InputError(
                f"expected a positive coverage and at least one patch, got {self.coverage} and {self.most}"
            )

    def of(self, shape: Sequence[int], size: Sequence[int]) -> int:
        """Return the number of patches of `size` that an image of `shape` voxels gives."""
        return max(1, min(self.most, round(self.coverage * prod(shape) / prod(size))))


class RandPatchesd(RandomizableTransform, MultiSampleTrait):
    """Cut patches at random places of images that share a grid, each with a symmetry of the square or cube of its own.

    As many patches are cut as would cover `coverage` of the images, but at most `most`. A patch is drawn again while it
    is nearly constant, so that networks do not learn the background. Images that are smaller than a patch are mirrored
    at their far edges.

    Args:
        keys: The keys of the images (C, *spatial), all of one size; the last one tells whether a patch is empty.
        size: The size of the patches in voxels, one number or one per axis.
        coverage: The number of voxels in all patches together, as a share of those of the image.
        most: The largest number of patches.
        minimum_deviation: The standard deviation below which a patch counts as empty.
        tries: The number of draws before an empty patch is accepted.
        permute: Whether to flip and permute axes at random.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int | Sequence[int],
        coverage: float = 1.0,
        most: int = 32,
        minimum_deviation: float = 0.02,
        tries: int = 20,
        permute: bool = True,
    ) -> None:
        super().__init__(1.0)
        self.keys = ensure_tuple(keys)
        self.size = size
        self.number = _Number(coverage, most)
        self.places = InformativePlaces(minimum_deviation, tries)
        self.permute = permute

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> list[dict[Hashable, torch.Tensor]]:
        """Return the patches of `keys`, plain tensors (C, *size).

        Raises:
            InputError: If the images differ in size.
        """
        shapes = {tuple(data[key].shape[1:]) for key in self.keys}
        if len(shapes) > 1:
            raise InputError(f"expected images on one grid, got sizes {sorted(shapes)}; interpolate the LR image first")
        shape = shapes.pop()
        size = per_axis(self.size, len(shape))
        images = {key: mirrored(data[key], size).as_tensor() for key in self.keys}
        judge = images[self.keys[-1]]
        counts = [n - m + 1 for n, m in zip(judge.shape[1:], size, strict=True)]

        def cut(image: torch.Tensor, place: Sequence[int]) -> torch.Tensor:
            return image[(slice(None), *(slice(a, a + m) for a, m in zip(place, size, strict=True)))]

        patches = []
        for _ in range(self.number.of(shape, size)):
            place, _patch = self.places.draw(self.R, counts, lambda at: cut(judge, at))
            turn = Symmetry.drawn(self.R, len(shape)) if self.permute and len(set(size)) == 1 else None
            patches.append({key: _turned(cut(image, place), turn) for key, image in images.items()})
        return patches


class RandPairedPatchesd(RandomizableTransform, MultiSampleTrait):
    """Cut patches of an LR/HR pair at random places, each with a symmetry of the square or cube of its own.

    Patches begin and end on whole LR voxels that fall on whole HR voxels, as those of `RandPairedCropd`. As many are
    cut as would cover `coverage` of the HR image, but at most `most`.

    Args:
        lr: The key of the LR image (C, *spatial).
        hr: The key of the HR image; for the scale see `pairs.pair_scale`.
        size: The size of the patches in HR voxels, one number or one per axis, whole steps of the pair's lattice.
        coverage: The number of HR voxels in all patches together, as a share of those of the image.
        most: The largest number of patches.
        minimum_deviation: The standard deviation of an HR patch below which another place is drawn.
        tries: The number of draws before an empty patch is accepted.
        permute: Whether to flip and permute axes at random, where all axes have the same size and scale.
    """

    def __init__(
        self,
        *,
        lr: str = "image",
        hr: str = "label",
        size: int | Sequence[int] = 96,
        coverage: float = 1.0,
        most: int = 32,
        minimum_deviation: float = 0.02,
        tries: int = 20,
        permute: bool = True,
    ) -> None:
        super().__init__(1.0)
        self.lr, self.hr = lr, hr
        self.size = size
        self.number = _Number(coverage, most)
        self.places = InformativePlaces(minimum_deviation, tries)
        self.permute = permute

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Return copies of `data`, each with a patch of the pair.

        Raises:
            InputError: If the patch does not fit or is not a whole number of LR voxels, or the pair is not aligned.
        """
        lattice = Lattice.of_pair(data[self.lr], data[self.hr])
        size = lattice.checked(per_axis(self.size, len(lattice.scale)))
        alike = len(set(zip(size, lattice.scale, strict=True))) == 1
        choose = partial(self.places.draw, self.R)
        patches = []
        for _ in range(self.number.of(data[self.hr].shape[1:], size)):
            turn = Symmetry.drawn(self.R, len(size)) if self.permute and alike else None
            patches.append(crop_aligned(data, self.lr, self.hr, lattice, size, choose, turn))
        return patches


class RandPhased(RandomizableTransform):
    """Leave out less than an LR voxel at the edges of an HR image, so that LR voxels begin at any HR voxel.

    Where the LR image of a whole HR image is simulated, the edges of LR voxels would fall on the same HR voxels each
    time. The scale divides the size of what remains. An item with an LR image (a real pair) stays as it is.

    Args:
        scale: The integer scale; less voxels than that are left out at either edge.
        least: The number of HR voxels along every axis that remain if the image has them, a multiple of the scale.
        lr: The key of the LR image, if an item has one.
        hr: The key of the HR image (C, *spatial), which is cropped.
    """

    def __init__(self, scale: int, least: int = 1, lr: str = "image", hr: str = "label") -> None:
        super().__init__(1.0)
        self.scale = scale
        self.least = least
        self.lr, self.hr = lr, hr

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the HR image cropped."""
        if self.lr in data:
            return dict(data)
        image: MetaTensor = data[self.hr]
        free = [min(self.scale - 1, max(n - self.least, 0)) for n in image.shape[1:]]
        start = [int(self.R.randint(n + 1)) for n in free]
        size = [(n - a) // self.scale * self.scale for n, a in zip(image.shape[1:], start, strict=True)]
        return {**data, self.hr: crop(image, start, size)}


def _turned(patch: torch.Tensor, symmetry: Symmetry | None) -> torch.Tensor:
    if symmetry is None:
        return patch.contiguous()
    turned = patch.permute(0, *(axis + 1 for axis in symmetry.order))
    return torch.flip(turned, [axis + 1 for axis in symmetry.flipped]).contiguous()
