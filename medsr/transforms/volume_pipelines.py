"""Pipelines from the items of a datalist to the training and validation images of 3D restore networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.transforms import CenterSpatialCropd, Compose, LoadImaged, SelectItemsd, Transform

from medsr.degradation import Degradation
from medsr.geometry import ScaleLike
from medsr.transforms.consistency import ConsistentStartd
from medsr.transforms.intensity import NormalizeIntensityRecordedd
from medsr.transforms.interpolation import InterpolateToReferenced
from medsr.transforms.many_patches import RandPatchesd
from medsr.transforms.simulation import RandScaled, SimulateLowResolutiond
from medsr.weights import INTERPOLATED, check_start

Formation = Degradation | str | Mapping[str, Any]
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
    """The pipeline to patches of volumes and of what can be known of them from an LR image, at a drawn scale.

    Items hold a volume as `label`. Its LR image is simulated at a drawn scale (Pham et al. 2017, sections 2 and 4), by
    a degradation that may be drawn too, and brought back to the HR grid; then many patches are cut from both. An item
    that also has an LR volume as `image` gives real pairs instead, whose LR image is interpolated.

    Args:
        scales: The scales to draw from, each one number or one per axis.
        weights: The relative frequencies of the scales; equal by default.
        patch_size: The size of the patches in voxels along every axis.
        degradation: The degradation that simulates the LR volumes.
        start: What the network restores: the "interpolated" image, or the "consistent" one, which obeys its formation
            too.
        withheld: The share of the draws in which the formation is withheld, and one of `assumed` taken in its place.
        assumed: The formations that are assumed then.
        most_patches: The largest number of patches of a simulated volume.
    """

    def __init__(
        self,
        scales: Sequence[ScaleLike],
        weights: Sequence[float] | None = None,
        patch_size: int = 32,
        degradation: Formation = "gaussian-blur",
        start: str = INTERPOLATED,
        withheld: float = 0.0,
        assumed: Sequence[Formation] = ("kspace-truncation",),
        most_patches: int = 32,
    ) -> None:
        super().__init__(
            [
                *_LoadInterpolated().transforms,
                RandScaled(scales, weights),
                *_simulated(degradation, start, withheld, assumed),
                RandPatchesd(_PAIR, patch_size, most=most_patches),
            ]
        )


class VolumeValidation(Compose):
    """The pipeline to the image that the network restores, and the HR image, of the centre of volumes, at one scale.

    Args:
        scale: The scale, one number or one per axis.
        degradation: The degradation that simulates the LR volume of an item that has none, and that has no entry
            `degradation` of its own.
        size: The size of the centre in voxels along every axis.
        start: What the network restores, one of `medsr.weights.STARTS`; the formation is known.
    """

    def __init__(
        self,
        scale: ScaleLike,
        degradation: Formation = "gaussian-blur",
        size: int = 96,
        start: str = INTERPOLATED,
    ) -> None:
        super().__init__(
            [
                *_LoadInterpolated().transforms,
                CenterSpatialCropd(_PAIR, roi_size=size, allow_missing_keys=True),
                *_simulated(degradation, start, scale=scale, seed=0),
                SelectItemsd(_PAIR),
            ]
        )


class VolumeEvaluation(Compose):
    """The pipeline to volumes, their LR images, and the interpolation to compare with, at the scale of each item.

    HR and LR are normalised by the window of the LR image, the only one that is known at inference.

    Args:
        degradation: The degradation that simulates the LR volume of an item that has none.
    """

    def __init__(self, degradation: Formation = "gaussian-blur") -> None:
        super().__init__(
            [
                LoadImaged(_PAIR, reader=READER, ensure_channel_first=True, allow_missing_keys=True),
                SimulateLowResolutiond(degradation=degradation, seed=0),
                NormalizeIntensityRecordedd(_PAIR, reference="image"),
                InterpolateToReferenced("image", output_suffix="_interpolated"),
            ]
        )


def _simulated(
    degradation: Formation,
    start: str,
    withheld: float = 0.0,
    assumed: Sequence[Formation] = ("kspace-truncation",),
    **options: Any,
) -> list[Transform]:
    """Return the transforms that simulate the LR image of an HR image and bring it back to the HR grid."""
    simulate = SimulateLowResolutiond(degradation=degradation, **options)
    if check_start(start) == INTERPOLATED:
        return [simulate, InterpolateToReferenced("image")]
    spread = 1.0 if "seed" in options else 1.5  # at inference the size of the noise is an estimate
    return [simulate, ConsistentStartd(withheld=withheld, assumed=assumed, noise_spread=spread)]
