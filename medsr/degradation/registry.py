"""Degradations and corruptions by name, and back from the dictionaries that runs leave behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medsr.degradation.base import Step
from medsr.degradation.gaussian import GaussianBlurDegradation
from medsr.degradation.interpolating import InterpolationDegradation
from medsr.degradation.jpeg import JpegCompression
from medsr.degradation.kspace import KspaceTruncationDegradation
from medsr.degradation.noise import GaussianNoise, KspaceNoise, RicianNoise
from medsr.degradation.profiles import SliceProfileDegradation
from medsr.degradation.protocol import Protocol
from medsr.errors import InputError

_CV2_CUBIC = {"kernel": "cubic-0.75", "antialias": False, "boundary": "nearest"}

# name -> class and the parameters in which the protocol differs from the class's defaults
_REGISTERED: dict[str, tuple[type[Step], dict[str, Any]]] = {
    "gaussian-blur": (GaussianBlurDegradation, {}),
    "pham-scipy-zoom": (
        GaussianBlurDegradation,
        {"alignment": "corner", "interpolation_boundary": "mirror", "blur_unscaled_axes": True},
    ),
    "bicubic": (InterpolationDegradation, {}),
    "bicubic-no-antialias": (InterpolationDegradation, _CV2_CUBIC),
    "bicubic-binomial": (InterpolationDegradation, {**_CV2_CUBIC, "lr_blur": True, "alignment": "edges"}),
    "decimation": (
        InterpolationDegradation,
        {"kernel": "linear", "antialias": False, "boundary": "nearest", "alignment": "first-voxel"},
    ),
    "block-mean": (SliceProfileDegradation, {"profile": "box"}),
    "slice-profile": (SliceProfileDegradation, {}),
    "kspace-truncation": (KspaceTruncationDegradation, {}),
    "gaussian-noise": (GaussianNoise, {}),
    "kspace-noise": (KspaceNoise, {}),
    "rician-noise": (RicianNoise, {}),
    "jpeg": (JpegCompression, {}),
}


def names() -> tuple[str, ...]:
    """All registered names."""
    return tuple(_REGISTERED)


def get(name: str, **parameters: Any) -> Any:
    """A registered degradation or corruption, with its published parameters unless told otherwise.

    Raises:
        InputError: unknown name or parameter.
    """
    if name not in _REGISTERED:
        raise InputError(f"a degradation is one of {', '.join(_REGISTERED)}, got {name!r}")
    cls, defaults = _REGISTERED[name]
    try:
        return cls(name=name, **{**defaults, **parameters})
    except TypeError as error:
        raise InputError(f"degradation {name!r} does not take these parameters: {error}") from None


def from_dict(description: Mapping[str, Any]) -> Any:
    """The degradation, corruption or protocol that `to_dict` described; parameters left out are the defaults.

    Raises:
        InputError: unknown name, parameter or version.
    """
    parameters = dict(description)
    name, version = parameters.pop("name", None), parameters.pop("version", 1)
    if "steps" in parameters:
        return Protocol(name=name, version=version, steps=tuple(from_dict(s) for s in parameters["steps"]))
    step = get(name, **parameters)
    if step.version != version:
        raise InputError(f"degradation {name!r} is at version {step.version} here, but version {version} was recorded")
    return step
