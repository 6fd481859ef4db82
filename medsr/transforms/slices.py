"""Slices of a volume along an anatomical axis, for training 2D networks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import ensure_tuple

from medsr.errors import InputError
from medsr.geometry import anatomical_axis, shifted_affine

SLICE_AXIS, SLICE_INDEX = "slice_axis", "slice_index"  # keys of `meta`


def extract_slice(volume: MetaTensor, axis: int, index: int) -> MetaTensor:
    """Slice `index` of (C, X, Y, Z) across array axis `axis`, as (C, H, W).

    The affine stays that of the volume's one-slice crop; the axis and index are recorded in `meta`.
    """
    start = [0, 0, 0]
    start[axis] = index
    result = MetaTensor(volume.as_tensor().select(axis + 1, index).contiguous(), meta=dict(volume.meta))
    result.affine = torch.as_tensor(shifted_affine(volume.affine.numpy(), start))
    result.meta[SLICE_AXIS], result.meta[SLICE_INDEX] = axis, index
    return result


class ExtractSliced(MapTransform):
    """Turn volumes into one slice, chosen by the item's index or the middle one.

    Args:
        keys: volumes (C, X, Y, Z) on one grid.
        plane: "axial", "coronal" or "sagittal"; the array axis follows from the affine.
        index_key: key of the slice index in the item; the middle slice where absent.
        allow_missing_keys: skip absent keys.

    Raises:
        InputError: an index outside the volume.
    """

    def __init__(
        self,
        keys: KeysCollection,
        plane: str = "axial",
        index_key: str = SLICE_INDEX,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.plane = plane
        self.index_key = index_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with (C, H, W) slices."""
        result = dict(data)
        for key in self.key_iterator(result):
            volume = result[key]
            axis = anatomical_axis(volume.affine.numpy(), self.plane)
            count = volume.shape[axis + 1]
            index = int(result.get(self.index_key, count // 2))
            if not 0 <= index < count:
                raise InputError(f"slice {index} does not exist; the volume has {count} {self.plane} slices")
            result[key] = extract_slice(volume, axis, index)
        return result


class RandSliced(RandomizableTransform):
    """Turn volumes on one grid into the same random slice that is not nearly empty.

    Args:
        keys: volumes (C, X, Y, Z) on one grid.
        plane: "axial", "coronal" or "sagittal"; the array axis follows from the affine.
        minimum_deviation: standard deviation of the first volume's slice below which another is drawn.
        tries: draws before an empty slice is accepted.
    """

    def __init__(
        self, keys: KeysCollection, plane: str = "axial", minimum_deviation: float = 0.02, tries: int = 20
    ) -> None:
        super().__init__(1.0)
        self.keys = ensure_tuple(keys)
        self.plane = plane
        self.minimum_deviation = minimum_deviation
        self.tries = tries

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with (C, H, W) slices."""
        result = dict(data)
        first = result[self.keys[0]]
        axis = anatomical_axis(first.affine.numpy(), self.plane)
        for _ in range(self.tries):
            index = int(self.R.randint(first.shape[axis + 1]))
            if first.as_tensor().select(axis + 1, index).std() > self.minimum_deviation:
                break
        for key in self.keys:
            result[key] = extract_slice(result[key], axis, index)
        return result
