"""Crop, mirror, permute and flip an image (C, *spatial) together with its affine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from monai.data import MetaTensor

from medsr.geometry import reoriented_affine, shifted_affine

T = TypeVar("T")


def crop(image: MetaTensor, start: Sequence[int], size: Sequence[int]) -> MetaTensor:
    """Return the part of `size` voxels that begins at index `start`."""
    window = (slice(None), *(slice(a, a + m) for a, m in zip(start, size, strict=True)))
    result = MetaTensor(image.as_tensor()[window].contiguous(), meta=dict(image.meta))
    result.affine = torch.as_tensor(shifted_affine(image.affine.numpy(), list(start)))
    result.meta["spatial_shape"] = tuple(size)
    return result


def centre_crop(image: MetaTensor, size: Sequence[int]) -> MetaTensor:
    """Return the middle `size` voxels, or the whole image along axes that are not longer."""
    start = [(n - m) // 2 for n, m in zip(image.shape[1:], size, strict=True)]
    if not any(start) and tuple(image.shape[1:]) == tuple(size):
        return image
    return crop(image, start, size)


def mirrored(image: MetaTensor, size: int | Sequence[int]) -> MetaTensor:
    """Return an image mirrored at its far edges until it has at least `size` voxels, one number or one per axis."""
    sizes = [size] * (image.ndim - 1) if isinstance(size, int) else size
    missing = [max(m - n, 0) for m, n in zip(sizes, image.shape[1:], strict=True)]
    if not any(missing):
        return image
    values = np.pad(image.as_tensor().numpy(), [(0, 0), *((0, n) for n in missing)], mode="symmetric")
    return MetaTensor(torch.from_numpy(values), meta={**image.meta, "spatial_shape": values.shape[1:]})


class Symmetry(NamedTuple):
    """A symmetry of the square or the cube: a permutation of the axes, followed by flips.

    Attributes:
        order: The old axis of each new axis.
        flipped: The new axes that are flipped.
    """

    order: tuple[int, ...]
    flipped: tuple[int, ...] = ()

    @classmethod
    def drawn(cls, random: np.random.RandomState, ndim: int) -> Symmetry:
        """Return a random symmetry."""
        order = tuple(int(axis) for axis in random.permutation(ndim))
        return cls(order, tuple(int(axis) for axis in np.flatnonzero(random.rand(ndim) < 0.5)))

    def of(self, image: MetaTensor) -> MetaTensor:
        """Return the image with its axes permuted and flipped."""
        values = image.as_tensor().permute(0, *(axis + 1 for axis in self.order))
        result = MetaTensor(torch.flip(values, [a + 1 for a in self.flipped]).contiguous(), meta=dict(image.meta))
        affine = reoriented_affine(image.affine.numpy(), image.shape[1:], self.order, self.flipped)
        result.affine = torch.as_tensor(affine)
        result.meta["spatial_shape"] = tuple(result.shape[1:])
        return result

    def permuted(self, values: Sequence[T]) -> tuple[T, ...]:
        """Return values of the old axes in the order of the new ones."""
        return tuple(values[axis] for axis in self.order)

    def restored(self, values: Sequence[T]) -> tuple[T, ...]:
        """Return values of the new axes in the order of the old ones."""
        return tuple(values[self.order.index(axis)] for axis in range(len(self.order)))
