"""Pipelines from the items of a datalist to the training and validation images of 3D restore networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.transforms import CenterSpatialCropd, Compose, LoadImaged, SelectItemsd, SpatialPadd, Transform

from medsr.degradation import Degradation
from medsr.geometry import ScaleLike
from medsr.transforms.intensity import NormalizeIntensityRecordedd
from medsr.transforms.interpolation import InterpolateToReferenced
from medsr.transforms.patches import RandPatchd
from medsr.transforms.simulation import RandScaled, SimulateLowResolutiond

READER = "medsr.data.readers.VolumeReader"
_PAIR = ("image", "label")


class _LoadInterpolated(Compose):
    """The pipeline that loads HR and LR images, normalises them, and interpolates LR images to the HR grid.

    The LR image of an item, if it has one, gives the window of both.
    """

    def __init__(self) -> None:
        super().__init__(
            [
                LoadImaged(_PAIR, reader=READER, ensure_channel_first=True, allow_missing_keys=True),
                NormalizeIntensityRecordedd(_PAIR, ["image", "label"], allow_missing_keys=True),
                InterpolateToReferenced("image", allow_missing_keys=True),
            ]
        )


class VolumeTraining(Compose):
    """The pipeline to interpolated and HR patches of volumes at a drawn scale (Pham et al. 2017, sections 2 and 4).

    Items hold a volume as `label`; the LR image is simulated from a patch of it with a margin, and interpolated back.
    An item that also has an LR volume as `image` gives real pairs instead.

    Args:
        scales: The scales to draw from, each one number or one per axis.
        weights: The relative frequencies of the scales; equal by default.
        patch_size: The size of the patches in voxels along every axis.
        minimum_size: The size in voxels to which smaller volumes are mirrored first.
        degradation: The degradation that simulates the LR patches.
    """

    def __init__(
        self,
        scales: Sequence[ScaleLike],
        weights: Sequence[float] | None = None,
        patch_size: int = 32,
        minimum_size: int = 40,
        degradation: Degradation | str | Mapping[str, Any] = "gaussian-blur",
    ) -> None:
        pad = SpatialPadd(_PAIR, spatial_size=minimum_size, mode="reflect", allow_missing_keys=True)
        super().__init__(
            [
                *_LoadInterpolated().transforms,
                pad,
                RandScaled(scales, weights),
                RandPatchd(size=patch_size),
                *_simulated(degradation),
                CenterSpatialCropd(_PAIR, roi_size=patch_size),
                SelectItemsd(_PAIR),
            ]
        )


class VolumeValidation(Compose):
    """The pipeline to the interpolated and the HR image of the centre of volumes, at one scale.

    Args:
        scale: The scale, one number or one per axis.
        degradation: The degradation that simulates the LR volume of an item that has none.
        size: The size of the centre in voxels along every axis.
    """

    def __init__(
        self,
        scale: ScaleLike,
        degradation: Degradation | str | Mapping[str, Any] = "gaussian-blur",
        size: int = 96,
    ) -> None:
        super().__init__(
            [
                *_LoadInterpolated().transforms,
                CenterSpatialCropd(_PAIR, roi_size=size, allow_missing_keys=True),
                *_simulated(degradation, scale=scale),
                SelectItemsd(_PAIR),
            ]
        )


class VolumeEvaluation(Compose):
    """The pipeline to volumes, their LR images, and the interpolation to compare with, at the scale of each item.

    HR and LR are normalised by the window of the LR image, the only one that is known at inference.

    Args:
        degradation: The degradation that simulates the LR volume of an item that has none.
    """

    def __init__(self, degradation: Degradation | str | Mapping[str, Any] = "gaussian-blur") -> None:
        super().__init__(
            [
                LoadImaged(_PAIR, reader=READER, ensure_channel_first=True, allow_missing_keys=True),
                SimulateLowResolutiond(degradation=degradation, seed=0),
                NormalizeIntensityRecordedd(_PAIR, reference="image"),
                InterpolateToReferenced("image", output_suffix="_interpolated"),
            ]
        )


def _simulated(degradation: Degradation | str | Mapping[str, Any], **options: Any) -> list[Transform]:
    """Return the transforms that simulate the LR image of an HR image and interpolate it back to the HR grid."""
    return [SimulateLowResolutiond(degradation=degradation, **options), InterpolateToReferenced("image")]
