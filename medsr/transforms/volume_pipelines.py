"""From the items of a datalist to what 3D networks that restore interpolated volumes train and validate on."""

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
    """Load HR images, and LR ones where items have them, in the LR image's window; bring LR to the HR grid."""

    def __init__(self) -> None:
        super().__init__(
            [
                LoadImaged(_PAIR, reader=READER, ensure_channel_first=True, allow_missing_keys=True),
                NormalizeIntensityRecordedd(_PAIR, ["image", "label"], allow_missing_keys=True),
                InterpolateToReferenced("image", allow_missing_keys=True),
            ]
        )


class VolumeTraining(Compose):
    """Interpolated and HR patches of volumes at a drawn scale (Pham et al. 2017, sections 2 and 4).

    Items hold a volume as `label`; the LR image is simulated from a patch of it with a margin, and interpolated back.
    An item that also has an LR volume as `image` gives real pairs instead.

    Args:
        scales: to draw from, each one number or one per axis.
        weights: their relative frequencies; equal by default.
        patch_size: voxels along every axis.
        minimum_size: voxels to which smaller volumes are mirrored first.
        degradation: HR to LR.
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
    """The interpolated and the HR image of the centre of volumes, at one scale.

    Args:
        scale: one number, or one per axis.
        degradation: HR to LR, where an item has no LR volume.
        size: voxels of the centre, along every axis.
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
    """Volumes, their LR images, and the interpolation to compare with, at the scale of each item.

    Both are normalised by the window of the LR image, which is all that inference has.

    Args:
        degradation: HR to LR, where an item has no LR volume.
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
    """The LR image of the HR one, interpolated back to its grid."""
    return [SimulateLowResolutiond(degradation=degradation, **options), InterpolateToReferenced("image")]
