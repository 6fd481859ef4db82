"""Pipelines from the items of a datalist to the training and validation images of networks of slices."""

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
)
from monai.utils import convert_to_tensor

from medsr.degradation import Degradation
from medsr.transforms.grid_operations import mirrored
from medsr.transforms.intensity import NormalizeIntensityRecordedd
from medsr.transforms.interpolation import InterpolateToReferenced
from medsr.transforms.many_patches import RandPairedPatchesd, RandPhased
from medsr.transforms.pairs import CheckPairScaled, PadPairedd
from medsr.transforms.preparation import PrepareVolumed
from medsr.transforms.simulation import SimulateLowResolutiond
from medsr.transforms.slices import CropEmptySlicesd, ExtractSliced, RandSliced

_PAIR = ("label", "image")  # HR first: the grid that slices and patches are drawn on


class LoadNormalized(Compose):
    """The pipeline that loads HR images (`label`), and LR images (`image`) if there are any, and normalises both.

    Intensities become about [0, 1]. Items whose manifest describes the preparation of a publication are prepared in
    that way, range included. Colour pictures are converted to luminance.

    Args:
        method: The method of normalisation, by the LR image if there is one; see `NormalizeIntensityRecordedd`.
        reader: The name of the reader, passed to MONAI's `LoadImaged`.
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
    """The pipeline to LR and HR patches of random slices of volumes, for 2D networks of one scale.

    Items have a volume (or picture) as `label`. The LR image of a whole slice is simulated, by a degradation that may
    be drawn anew each time, and then many patches are cut from both; see `medsr.bundle.PatchLoader`. An item that also
    has an LR volume as `image` (the same slices, coarser in plane) gives real pairs instead. The result is a list.

    Args:
        scale: The scale of the network, a whole number.
        patch_size: The size of the patches in HR pixels, a multiple of the scale.
        degradation: The degradation that simulates the LR slices.
        plane: The anatomical plane of the slices.
        method: The method of normalisation.
        augment: Whether to flip and transpose patches at random.
        most_patches: The largest number of patches of a slice; as many are cut as would cover it.
    """

    def __init__(
        self,
        scale: float,
        patch_size: int = 96,
        degradation: Degradation | str | Mapping[str, Any] = "bicubic-no-antialias",
        plane: str = "axial",
        method: str = "minmax",
        augment: bool = True,
        most_patches: int = 1,
    ) -> None:
        super().__init__(
            [
                *LoadNormalized(method).transforms,
                RandSliced(_PAIR, plane, allow_missing_keys=True),
                CheckPairScaled(scale),
                PadPairedd(patch_size, scale),
                RandPhased(int(scale), patch_size),
                SimulateLowResolutiond(degradation=degradation, scale=scale),
                RandPairedPatchesd(size=patch_size, most=most_patches, permute=augment),
                PlainTensorsd(_PAIR),
            ]
        )


class SliceValidation(Compose):
    """The pipeline to LR and HR images of the middle slice of volumes, for 2D networks of one scale.

    Args:
        scale: The scale of the network.
        degradation: The degradation that simulates the LR volume of an item that has none.
        plane: The anatomical plane of the slices.
        method: The method of normalisation.
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
                SimulateLowResolutiond(degradation=degradation, scale=scale, seed=0),
                PlainTensorsd(_PAIR),
            ]
        )


class SliceEvaluation(Compose):
    """The pipeline to volumes, their LR images that are coarser within slices, and the interpolation to compare with.

    If the manifest of a dataset states the slices that a publication kept, exactly these slices remain.

    The items state the scale. The HR volume (`label`) is normalised by its own window, as in the dissertation; empty
    slices at its ends are left out; a delineation (`segmentation`) stays on its grid. The results are `image` and
    `image_interpolated`.

    Args:
        degradation: The degradation that simulates the LR volume of an item that has none.
        plane: The anatomical plane of the slices.
        method: The method of normalisation.
        kernel: The kernel of the interpolation.
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
    """The pipeline to patches of random slices of volumes and their label maps, for 2D segmentation networks.

    Args:
        patch_size: The size in pixels; smaller slices are mirrored at their far edges, larger slices are cropped at
            random.
        plane: The anatomical plane of the slices.
        method: The method of normalisation.
        augment: Whether to rotate (15 degrees), shift and scale (10 %) at random, and to change the contrast.
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
    """A transform that mirrors small images at their far edges."""

    def __init__(self, keys: KeysCollection, size: int) -> None:
        super().__init__(keys)
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, **{key: mirrored(data[key], self.size) for key in self.key_iterator(data)}}


class PlainTensorsd(MapTransform):
    """A transform that keeps only these keys, as plain tensors without metadata, which collate fast."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `keys` of `data` as tensors."""
        return {key: torch.as_tensor(convert_to_tensor(data[key], track_meta=False)) for key in self.keys}
