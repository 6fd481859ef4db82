"""Extract slices of a volume along an anatomical axis, for training 2D networks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform, generate_spatial_bounding_box
from monai.utils import ensure_tuple

from medsr.errors import InputError
from medsr.geometry import anatomical_axis, reoriented_affine, shifted_affine
from medsr.transforms.grid_operations import crop
from medsr.transforms.places import InformativePlaces

SLICE_AXIS, SLICE_INDEX = "slice_axis", "slice_index"  # keys of `meta`


def extract_slice(volume: MetaTensor, axis: int, index: int) -> MetaTensor:
    """Return slice `index` of (C, X, Y, Z) across array axis `axis`, as (C, H, W).

    The affine is that of the volume cropped to this slice, with the two axes of the slice first, as 2D images need it.
    The axis and the index are recorded in `meta`.
    """
    start = [0, 0, 0]
    start[axis] = index
    order = [*(a for a in range(3) if a != axis), axis]
    affine = reoriented_affine(shifted_affine(volume.affine.numpy(), start), volume.shape[1:], order, [])
    result = MetaTensor(volume.as_tensor().select(axis + 1, index).contiguous(), meta=dict(volume.meta))
    result.affine = torch.as_tensor(affine)
    result.meta[SLICE_AXIS], result.meta[SLICE_INDEX] = axis, index
    return result


class ExtractSliced(MapTransform):
    """A transform that replaces volumes by one slice, at the item's index or in the middle.

    Args:
        keys: The keys of volumes (C, X, Y, Z) on one grid.
        plane: The plane of the slice ("axial", "coronal" or "sagittal"); the affine gives the array axis.
        index_key: The key of the slice index in the item; without an index, the middle slice is taken.
        allow_missing_keys: Whether to skip absent keys.

    Raises:
        InputError: If the index is outside the volume.
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


class CropEmptySlicesd(MapTransform):
    """A transform that removes constant slices at both ends of a volume, so that no metric counts them.

    A slice is constant if every channel of it is.

    Args:
        keys: The keys of volumes (C, X, Y, Z) on one grid; the first volume decides.
        plane: The plane of the slices ("axial", "coronal" or "sagittal"); the affine gives the array axis.
        allow_missing_keys: Whether to skip absent keys.
    """

    def __init__(self, keys: KeysCollection, plane: str = "axial", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.plane = plane

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with cropped volumes; a volume of constant slices only stays whole."""
        result = dict(data)
        axis = anatomical_axis(result[self.keys[0]].affine.numpy(), self.plane)
        slices = result[self.keys[0]].as_tensor().movedim(axis + 1, 0).flatten(2)  # (slices, C, pixels)
        kept = torch.nonzero((slices.amax(2) > slices.amin(2)).any(1)).flatten().tolist()
        for key in self.key_iterator(result):
            image, start = result[key], [0, 0, 0]
            size = list(image.shape[1:])
            if kept:
                start[axis], size[axis] = kept[0], kept[-1] + 1 - kept[0]
            result[key] = crop(image, start, size)
        return result


class CropInformatived(MapTransform):
    """A transform that crops images to all voxels brighter than the background: the "maximal informational crop".

    Tan et al. 2020, section 4: half of a brain image is black, so patches and metrics are taken from the crop that
    corresponds to the brain. The publication does not say how the crop is found; here it is MONAI's foreground box.

    Args:
        keys: The keys of images (C, *spatial) on one grid; the first image decides, by any of its channels.
        threshold: The intensity, on images in about [0, 1], above which a voxel is foreground; from 0 to below 1.
        margin: The number of voxels kept around the box, within the image.
        unless: The key of an LR image; an item that has it stays as it is, because the grid of its LR image differs.
        allow_missing_keys: Whether to skip absent keys.

    Raises:
        InputError: If the threshold would keep every image whole, or the margin is negative.
    """

    def __init__(
        self,
        keys: KeysCollection,
        threshold: float = 0.05,
        margin: int = 0,
        unless: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 0 <= threshold < 1 or margin < 0:
            raise InputError(
                f"expected a threshold from 0 to below 1 on images about [0, 1], and a margin of voxels, got "
                f"{threshold} and {margin}"
            )
        self.threshold = threshold
        self.margin = margin
        self.unless = unless

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with cropped images; an image without foreground stays whole.

        Raises:
            InputError: If the images have different sizes.
        """
        result = dict(data)
        if self.unless in result:
            return result
        first = result[self.keys[0]]
        start, end = generate_spatial_bounding_box(
            first.as_tensor(), lambda x: x > self.threshold, margin=self.margin, allow_smaller=True
        )
        if any(b <= a for a, b in zip(start, end, strict=True)):
            return result
        for key in self.key_iterator(result):
            if result[key].shape[1:] != first.shape[1:]:
                raise InputError(
                    f"expected {key!r} on the grid of {self.keys[0]!r}, {tuple(first.shape[1:])}, got "
                    f"{tuple(result[key].shape[1:])}; leave such items alone (unless={key!r})"
                )
            result[key] = crop(result[key], start, [int(b - a) for a, b in zip(start, end, strict=True)])
        return result


class RandSliced(RandomizableTransform):
    """A transform that replaces volumes on one grid by the same random slice that is not nearly empty.

    Args:
        keys: The keys of volumes (C, X, Y, Z) on one grid.
        plane: The plane of the slice ("axial", "coronal" or "sagittal"); the affine gives the array axis.
        minimum_deviation: The standard deviation of the first volume's slice below which another slice is drawn.
        tries: The number of draws before an empty slice is accepted.
        allow_missing_keys: Whether to skip absent keys after the first.
    """

    def __init__(
        self,
        keys: KeysCollection,
        plane: str = "axial",
        minimum_deviation: float = 0.02,
        tries: int = 20,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(1.0)
        self.keys = ensure_tuple(keys)
        self.plane = plane
        self.places = InformativePlaces(minimum_deviation, tries)
        self.allow_missing_keys = allow_missing_keys

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with (C, H, W) slices.

        Raises:
            InputError: If the volumes have different numbers of slices.
        """
        result = dict(data)
        first = result[self.keys[0]]
        axis = anatomical_axis(first.affine.numpy(), self.plane)
        count = first.shape[axis + 1]
        (index,), _ = self.places.draw(self.R, [count], lambda place: first.as_tensor().select(axis + 1, place[0]))
        for key in self.keys:
            if key in result or not self.allow_missing_keys:
                result[key] = extract_slice(_with_slices(result[key], axis, first), axis, index)
        return result


def _with_slices(volume: MetaTensor, axis: int, first: MetaTensor) -> MetaTensor:
    """Return the volume, or refuse it if its number of slices differs from that of the first volume."""
    if volume.shape[axis + 1] != first.shape[axis + 1]:
        raise InputError(
            f"a pair for a network of slices has the same slices, got {tuple(volume.shape[1:])} and "
            f"{tuple(first.shape[1:])} voxels, which differ along axis {axis}; make LR images that are coarser in plane"
        )
    return volume
