"""Many training patches of one simulated volume: simulating it is dear, cutting it is cheap."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import prod

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import RandomizableTransform
from monai.transforms.traits import MultiSampleTrait
from monai.utils import ensure_tuple

from medsr.errors import InputError
from medsr.transforms.grid_operations import Symmetry, mirrored
from medsr.transforms.patches import per_axis
from medsr.transforms.places import InformativePlaces


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
        if coverage <= 0 or most < 1:
            raise InputError(f"expected a positive coverage and at least one patch, got {coverage} and {most}")
        self.keys = ensure_tuple(keys)
        self.size = size
        self.coverage = coverage
        self.most = most
        self.places = InformativePlaces(minimum_deviation, tries)
        self.permute = permute

    def count(self, shape: Sequence[int], size: Sequence[int]) -> int:
        """Return the number of patches of `size` that an image of `shape` voxels gives."""
        return max(1, min(self.most, round(self.coverage * prod(shape) / prod(size))))

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
        for _ in range(self.count(shape, size)):
            place, _patch = self.places.draw(self.R, counts, lambda at: cut(judge, at))
            turn = Symmetry.drawn(self.R, len(shape)) if self.permute and len(set(size)) == 1 else None
            patches.append({key: _turned(cut(image, place), turn) for key, image in images.items()})
        return patches


def _turned(patch: torch.Tensor, symmetry: Symmetry | None) -> torch.Tensor:
    if symmetry is None:
        return patch.contiguous()
    turned = patch.permute(0, *(axis + 1 for axis in symmetry.order))
    return torch.flip(turned, [axis + 1 for axis in symmetry.flipped]).contiguous()
