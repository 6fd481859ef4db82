"""Degradations (HR -> LR) as named, versioned, serialisable objects, used by training and by quality control."""

from medsr.degradation.base import Corruption, Degradation, SeparableDegradation, Step
from medsr.degradation.gaussian import GaussianBlurDegradation
from medsr.degradation.interpolating import InterpolationDegradation
from medsr.degradation.jpeg import JpegCompression
from medsr.degradation.kspace import KspaceTruncationDegradation
from medsr.degradation.noise import GaussianNoise, KspaceNoise, RicianNoise
from medsr.degradation.profiles import SliceProfileDegradation
from medsr.degradation.protocol import Protocol
from medsr.degradation.registry import as_degradation, from_dict, get, names

__all__ = [
    "Corruption",
    "Degradation",
    "GaussianBlurDegradation",
    "GaussianNoise",
    "InterpolationDegradation",
    "JpegCompression",
    "KspaceNoise",
    "KspaceTruncationDegradation",
    "Protocol",
    "RicianNoise",
    "SeparableDegradation",
    "SliceProfileDegradation",
    "Step",
    "as_degradation",
    "from_dict",
    "get",
    "names",
]
