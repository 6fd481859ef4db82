"""MONAI dictionary transforms for super-resolution."""

from medsr.transforms.any_scale import ArbitraryScaleTraining, ArbitraryScaleValidation, RandScalePatchd, patch_sizes
from medsr.transforms.crops import CenterPairedCropd, RandPairedCropd, RandPatchd
from medsr.transforms.grid import SetSuperResolutionGridd
from medsr.transforms.intensity import NormalizeIntensityRecordedd, RestoreIntensityd, StandardizeIntensityRecordedd
from medsr.transforms.pipelines import (
    LoadNormalized,
    SegmentationTraining,
    SliceEvaluation,
    SliceTraining,
    SliceValidation,
)
from medsr.transforms.preparation import PrepareVolumed
from medsr.transforms.simulation import InterpolateToReferenced, RandScaled, SimulateLowResolutiond
from medsr.transforms.slices import CropEmptySlicesd, CropInformatived, ExtractSliced, RandSliced
from medsr.transforms.volume_pipelines import VolumeEvaluation, VolumeTraining, VolumeValidation

__all__ = [
    "ArbitraryScaleTraining",
    "ArbitraryScaleValidation",
    "CenterPairedCropd",
    "CropEmptySlicesd",
    "CropInformatived",
    "ExtractSliced",
    "InterpolateToReferenced",
    "LoadNormalized",
    "NormalizeIntensityRecordedd",
    "PrepareVolumed",
    "RandPairedCropd",
    "RandPatchd",
    "RandScalePatchd",
    "RandScaled",
    "RandSliced",
    "RestoreIntensityd",
    "SegmentationTraining",
    "SetSuperResolutionGridd",
    "SimulateLowResolutiond",
    "SliceEvaluation",
    "SliceTraining",
    "SliceValidation",
    "StandardizeIntensityRecordedd",
    "VolumeEvaluation",
    "VolumeTraining",
    "VolumeValidation",
    "patch_sizes",
]
