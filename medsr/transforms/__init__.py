"""MONAI dictionary transforms for super-resolution."""

from medsr.transforms.crops import RandPairedCropd, RandPatchd
from medsr.transforms.intensity import NormalizeIntensityRecordedd, RestoreIntensityd
from medsr.transforms.simulation import InterpolateToReferenced, RandScaled, SimulateLowResolutiond

__all__ = [
    "InterpolateToReferenced",
    "NormalizeIntensityRecordedd",
    "RandPairedCropd",
    "RandPatchd",
    "RandScaled",
    "RestoreIntensityd",
    "SimulateLowResolutiond",
]
