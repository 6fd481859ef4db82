"""MONAI dictionary transforms for super-resolution."""

from medsr.transforms.crops import RandPairedCropd, RandPatchd
from medsr.transforms.grid import SetSuperResolutionGridd
from medsr.transforms.intensity import NormalizeIntensityRecordedd, RestoreIntensityd
from medsr.transforms.simulation import InterpolateToReferenced, RandScaled, SimulateLowResolutiond
from medsr.transforms.slices import ExtractSliced, RandSliced

__all__ = [
    "ExtractSliced",
    "InterpolateToReferenced",
    "NormalizeIntensityRecordedd",
    "RandPairedCropd",
    "RandPatchd",
    "RandScaled",
    "RandSliced",
    "RestoreIntensityd",
    "SetSuperResolutionGridd",
    "SimulateLowResolutiond",
]
