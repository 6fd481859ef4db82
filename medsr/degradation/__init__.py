"""Degradations (HR -> LR) as named, versioned, serialisable objects, used by training and by quality control."""

from medsr.degradation.acquisition import AcquisitionDegradation, MixtureDegradation, RandomDegradation
from medsr.degradation.base import AxiswiseDegradation, Corruption, Degradation, SeparableDegradation, Step
from medsr.degradation.consistency import ExactConsistency, mu_of_noise
from medsr.degradation.gaussian import GaussianBlurDegradation
from medsr.degradation.interpolating import InterpolationDegradation
from medsr.degradation.jpeg import JpegCompression
from medsr.degradation.kspace import KspaceTruncationDegradation
from medsr.degradation.noise import GaussianNoise, KspaceNoise, RicianNoise
from medsr.degradation.per_axis import PerAxisDegradation
from medsr.degradation.profiles import SliceProfileDegradation
from medsr.degradation.protocol import Protocol
from medsr.degradation.registry import as_degradation, from_dict, get, names

__all__ = [
    "AcquisitionDegradation",
    "AxiswiseDegradation",
    "Corruption",
    "Degradation",
    "ExactConsistency",
    "GaussianBlurDegradation",
    "GaussianNoise",
    "InterpolationDegradation",
    "JpegCompression",
    "KspaceNoise",
    "KspaceTruncationDegradation",
    "MixtureDegradation",
    "PerAxisDegradation",
    "Protocol",
    "RandomDegradation",
    "RicianNoise",
    "SeparableDegradation",
    "SliceProfileDegradation",
    "Step",
    "as_degradation",
    "from_dict",
    "get",
    "mu_of_noise",
    "names",
]
