"""MONAI dictionary transforms for super-resolution.

The arguments that name the images of an item have the same names in all transforms: `keys` are the images that are all
changed in the same way; `lr` and `hr` are the two images of a pair ("image" and "label" by default), which are changed
in different ways; `reference` is an image that is only read.
"""

from medsr.transforms.any_scale_pipelines import ArbitraryScaleTraining, ArbitraryScaleValidation
from medsr.transforms.consistency import ConsistentStartd
from medsr.transforms.intensity import NormalizeIntensityRecordedd, RestoreIntensityd, StandardizeIntensityRecordedd
from medsr.transforms.interpolation import InterpolateToReferenced
from medsr.transforms.many_patches import RandPairedPatchesd, RandPatchesd, RandPhased
from medsr.transforms.patches import CenterPairedCropd, RandPairedCropd, RandPatchd
from medsr.transforms.preparation import PrepareVolumed
from medsr.transforms.scale_patches import RandScalePatchd, patch_sizes
from medsr.transforms.simulation import RandScaled, SimulateLowResolutiond
from medsr.transforms.slice_pipelines import (
    LoadNormalized,
    SegmentationTraining,
    SliceEvaluation,
    SliceTraining,
    SliceValidation,
)
from medsr.transforms.slices import CropEmptySlicesd, CropInformatived, ExtractSliced, RandSliced
from medsr.transforms.sr_grid import SetSuperResolutionGridd
from medsr.transforms.volume_pipelines import VolumeEvaluation, VolumeTraining, VolumeValidation

__all__ = [
    "ArbitraryScaleTraining",
    "ArbitraryScaleValidation",
    "CenterPairedCropd",
    "ConsistentStartd",
    "CropEmptySlicesd",
    "CropInformatived",
    "ExtractSliced",
    "InterpolateToReferenced",
    "LoadNormalized",
    "NormalizeIntensityRecordedd",
    "PrepareVolumed",
    "RandPairedCropd",
    "RandPairedPatchesd",
    "RandPatchd",
    "RandPatchesd",
    "RandPhased",
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
