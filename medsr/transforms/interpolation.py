"""Interpolate LR images, as the input of restore networks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medsr.errors import InputError
from medsr.geometry import relative_sampling
from medsr.interpolation import Matrix, apply_matrices, kernel_matrix, resize
from medsr.transforms.pairs import LR_SCALE, on_grid_rule, pair_scale


class InterpolateToReferenced(MapTransform):
    """A transform that interpolates LR images to the grid of their HR reference, as the input of a restore network.

    The affines give the positions of the HR voxels on the LR grid. A real pair therefore need not be cropped to match,
    and LR images of a degradation with another alignment than the grid rule are placed correctly. The axes must be
    parallel. Images that are already on the grid keep their values.

    Args:
        keys: The keys of LR images (C, *spatial).
        reference: The key of the HR image.
        kernel: The interpolation kernel; see `medsr.interpolation`.
        output_suffix: The text appended to the key of the result; an empty text replaces the LR image.
        allow_missing_keys: Whether to skip absent keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reference: str = "label",
        kernel: str = "spline3",
        output_suffix: str = "",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference = reference
        self.kernel = kernel
        self.output_suffix = output_suffix

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the enlarged images.

        Raises:
            InputError: If HR is coarser than LR, or extends beyond it by more than an LR voxel.
            GridError: If the axes of the two images are not parallel.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            lr, hr = result[key], result[self.reference]
            values = lr.as_tensor()[None].float()
            size = tuple(hr.shape[1:])
            scale = pair_scale(lr, hr)
            if on_grid_rule(lr, hr, scale):
                enlarged = resize(values, scale, new_shape=size, kernel=self.kernel)[0]
            else:
                enlarged = apply_matrices(values, self._matrices(lr, hr))[0]
            image = MetaTensor(enlarged, meta=dict(lr.meta))
            image.affine = hr.affine.clone()
            image.meta["spatial_shape"] = size
            image.meta.pop(LR_SCALE, None)
            result[f"{key}{self.output_suffix}"] = image
        return result

    def _matrices(self, lr: MetaTensor, hr: MetaTensor) -> list[Matrix | None]:
        matrices: list[Matrix | None] = []
        sampling = relative_sampling(lr.affine.numpy(), hr.affine.numpy(), hr.shape[1:])
        for n, m, (start, step) in zip(lr.shape[1:], hr.shape[1:], sampling, strict=True):
            positions = start + step * np.arange(m, dtype=np.float64)
            if positions[0] < -1 or positions[-1] > n:
                raise InputError(
                    f"HR voxels lie at LR index {positions[0]:.1f} to {positions[-1]:.1f} on some axis, but "
                    f"LR voxels at 0 to {n - 1}; crop the HR image to the field of view of the LR image"
                )
            matrices.append(kernel_matrix(positions, n, self.kernel))
        return matrices
