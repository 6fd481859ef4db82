"""HR -> LR as named, versioned, serialisable objects, used by training and by quality control."""

from medsr.degradation.base import Degradation, SeparableDegradation, Step
from medsr.degradation.gaussian import GaussianBlurDegradation
from medsr.degradation.registry import from_dict, get, names

__all__ = [
    "Degradation",
    "GaussianBlurDegradation",
    "SeparableDegradation",
    "Step",
    "from_dict",
    "get",
    "names",
]
