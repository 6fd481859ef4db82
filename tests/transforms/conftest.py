"""Volumes whose values say where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

SLOPE, OFFSET = np.array([0.031, -0.017, 0.023]), 0.4  # of the field, per mm


def world_field(shape: Sequence[int], affine: np.ndarray) -> np.ndarray:
    """A linear function of the world coordinates of each voxel's centre (2D: of the plane z = 0)."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    index = np.concatenate([index, np.zeros((*shape, 3 - len(shape)))], axis=-1)
    return (index @ affine[:3, :3].T + affine[:3, 3]) @ SLOPE + OFFSET


class Field:
    """Make images of the field, and measure how far an image is from it."""

    def image(self, shape: Sequence[int], affine: np.ndarray) -> MetaTensor:
        """(1, *shape) float32."""
        values = torch.as_tensor(world_field(shape, affine)[None], dtype=torch.float32)
        return MetaTensor(values, affine=torch.as_tensor(affine))

    def error(self, image: MetaTensor, border: int | Sequence[int] = 0) -> float:
        """Largest difference between an image and the field at its voxels, `border` voxels aside."""
        ndim = image.ndim - 1
        borders = [border] * ndim if isinstance(border, int) else border
        inner = tuple(slice(b, n - b) for b, n in zip(borders, image.shape[1:], strict=True))
        expected = world_field(image.shape[1:], image.affine.numpy())
        return float(np.abs(image.as_tensor().numpy()[0] - expected)[inner].max())


@pytest.fixture(scope="session")
def field() -> Field:
    return Field()


@pytest.fixture(scope="session")
def texture() -> Callable[..., MetaTensor]:
    """Make an image (1, *shape) of smooth noise in [0, 1]."""

    def make(shape: Sequence[int], affine: np.ndarray | None = None, seed: int = 0, smooth: float = 1.0) -> MetaTensor:
        from scipy import ndimage

        values = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), smooth)
        values = (values - values.min()) / np.ptp(values)
        affine = np.eye(4) if affine is None else affine
        return MetaTensor(torch.as_tensor(values[None], dtype=torch.float32), affine=torch.as_tensor(affine))

    return make
