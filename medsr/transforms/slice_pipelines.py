"""From the items of a datalist to what networks of slices train and validate on: shared by their bundles."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import (
    Compose,
    LoadImaged,
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandSpatialCropd,
    Transform,
)
from monai.utils import convert_to_tensor

from medsr.degradation import Degradation
from medsr.transforms.grid_operations import mirrored
from medsr.transforms.intensity import NormalizeIntensityRecordedd
from medsr.transforms.interpolation import InterpolateToReferenced
from medsr.transforms.pairs import CheckPairScaled, PadPairedd
from medsr.transforms.patches import CenterPairedCropd, RandPatchd
from medsr.transforms.preparation import PrepareVolumed
from medsr.transforms.simulation import SimulateLowResolutiond
from medsr.transforms.slices import CropEmptySlicesd, ExtractSliced, RandSliced

_PAIR = ("label", "image")  # HR first: the grid that slices and patches are drawn on


class LoadNormalized(Compose):
    """Load HR images (`label`), and LR ones (`image`) where an item has them, to about [0, 1].

    Items of a dataset whose manifest says how a publication prepared it are prepared so, range included; of pictures
    in colour the luminance is taken.

    Args:
        method: of normalisation, by the LR image where there is one; see `NormalizeIntensityRecordedd`.
        reader: passed to MONAI's `LoadImaged`, by its name.
    """

    def __init__(self, method: str = "minmax", reader: str = "medsr.data.readers.VolumeReader") -> None:
        super().__init__(
            [
                LoadImaged(_PAIR, reader=reader, ensure_channel_first=True, allow_missing_keys=True, luminance=True),
                PrepareVolumed(reader=reader),
                NormalizeIntensityRecordedd(_PAIR, ["image", "label"], method, allow_missing_keys=True),
            ]
        )


class SliceTraining(Compose):
    """LR and HR patches of random slices of volumes, for 2D networks of one scale.

    Items hold a volume (or picture) as `label`; LR patches are simulated from HR ones cut with a margin. An item
    that also has an LR volume as `image` (the same slices, coarser in plane) gives real pairs instead.

    Args:
        scale: of the network.
        patch_size: HR pixels; a multiple of the scale.
        degradation: HR to LR.
        plane: anatomical plane of the slices.
        method: of normalisation.
        augment: flip and transpose patches at random.
        context: LR pixels of margin, see `RandPatchd`.
    """

    def __init__(
        self,
        scale: float,
        patch_size: int = 96,
        degradation: Degradation | str | Mapping[str, Any] = "bicubic-no-antialias",
        plane: str = "axial",
        method: str = "minmax",
        augment: bool = True,
        context: int = 4,
    ) -> None:
        super().__init__(
            [
                *LoadNormalized(method).transforms,
                RandSliced(_PAIR, plane, allow_missing_keys=True),
                CheckPairScaled(scale),
                PadPairedd(patch_size, scale),
                _Put(scale=scale),
                RandPatchd(size=patch_size, context=context, permute=augment),
                SimulateLowResolutiond(degradation=degradation),
                CenterPairedCropd(size=patch_size),
                PlainTensorsd(_PAIR),
            ]
        )


class SliceValidation(Compose):
    """The LR and HR images of the middle slice of volumes, for 2D networks of one scale.

    Args:
        scale: of the network.
        degradation: HR to LR, where an item has no LR volume.
        plane: anatomical plane of the slices.
        method: of normalisation.
    """

    def __init__(
        self,
        scale: float,
        degradation: Degradation | str | Mapping[str, Any] = "bicubic-no-antialias",
        plane: str = "axial",
        method: str = "minmax",
    ) -> None:
        super().__init__(
            [
                *LoadNormalized(method).transforms,
                ExtractSliced(_PAIR, plane, allow_missing_keys=True),
                CheckPairScaled(scale),
                SimulateLowResolutiond(degradation=degradation, scale=scale),
                PlainTensorsd(_PAIR),
            ]
        )


class SliceEvaluation(Compose):
    """Volumes, their LR images coarser within slices, and the interpolation to compare with.

    Of a dataset whose manifest says which slices a publication kept these are left, all of them.

    Items give the scale. The HR volume (`label`) is normalised by its own window, as the dissertation does; empty
    slices at its ends are left out; a delineation (`segmentation`) stays on its grid. Results are `image` and
    `image_interpolated`.

    Args:
        degradation: HR to LR, where an item has no LR volume.
        plane: anatomical plane of the slices.
        method: of normalisation.
        kernel: of the interpolation.
    """

    def __init__(
        self,
        degradation: Degradation | str | Mapping[str, Any] = "bicubic-no-antialias",
        plane: str = "axial",
        method: str = "minmax",
        kernel: str = "cubic-0.75",
    ) -> None:
        others = ("image", "segmentation")
        super().__init__(
            [
                LoadImaged(
                    ("label", *others),
                    reader="medsr.data.readers.VolumeReader",
                    ensure_channel_first=True,
                    allow_missing_keys=True,
                    luminance=True,
                ),
                PrepareVolumed(load_segmentation=True),
                NormalizeIntensityRecordedd(_PAIR, "label", method, allow_missing_keys=True),
                CropEmptySlicesd(("label", *others), plane, allow_missing_keys=True),
                SimulateLowResolutiond(degradation=degradation, plane=plane, keys="segmentation", seed=0),
                InterpolateToReferenced("image", kernel=kernel, output_suffix="_interpolated"),
            ]
        )


class SegmentationTraining(Compose):
    """Patches of random slices of volumes and their label maps, for 2D segmentation networks.

    Args:
        patch_size: pixels; smaller slices are mirrored at their far edges, larger ones cropped at random.
        plane: anatomical plane of the slices.
        method: of normalisation.
        augment: rotate (15 degrees), shift and scale (10 %) at random, and bend the grey scale.
    """

    def __init__(
        self, patch_size: int = 128, plane: str = "axial", method: str = "minmax", augment: bool = True
    ) -> None:
        keys = ("image", "label")
        moved = RandAffined(
            keys,
            prob=0.7,
            rotate_range=0.26,
            translate_range=0.05 * patch_size,
            scale_range=(0.1, 0.1),
            mode=("bilinear", "nearest"),
            padding_mode="reflection",
        )
        bent = RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.4))
        super().__init__(
            [
                LoadImaged(keys, reader="medsr.data.readers.VolumeReader", ensure_channel_first=True),
                PrepareVolumed("image", segmentation="label"),
                NormalizeIntensityRecordedd("image", method=method),
                RandSliced(keys, plane, minimum_deviation=0.0),
                _AtLeastd(keys, patch_size),
                RandSpatialCropd(keys, patch_size, random_size=False),
                *([moved, bent] if augment else []),
                PlainTensorsd(keys),
            ]
        )


class _AtLeastd(MapTransform):
    """Mirror small images at their far edges."""

    def __init__(self, keys: KeysCollection, size: int) -> None:
        super().__init__(keys)
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, **{key: mirrored(data[key], self.size) for key in self.key_iterator(data)}}


class PlainTensorsd(MapTransform):
    """Only these keys, without metadata: what a network trains on, and batches of it collate fast."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `keys` of `data` as tensors."""
        return {key: torch.as_tensor(convert_to_tensor(data[key], track_meta=False)) for key in self.keys}


class _Put(Transform):
    """Add constant entries to items."""

    def __init__(self, **entries: Any) -> None:
        self.entries = entries

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result: dict[Hashable, Any] = dict(data)
        result.update(self.entries)
        return result
