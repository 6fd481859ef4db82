"""Build degradations and corruptions from their names, or from the dictionaries that runs leave behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medsr.degradation.acquisition import AcquisitionDegradation, MixtureDegradation
from medsr.degradation.base import Degradation, Step
from medsr.degradation.gaussian import GaussianBlurDegradation
from medsr.degradation.interpolating import InterpolationDegradation
from medsr.degradation.jpeg import JpegCompression
from medsr.degradation.kspace import KspaceTruncationDegradation
from medsr.degradation.noise import GaussianNoise, KspaceNoise, RicianNoise
from medsr.degradation.per_axis import PerAxisDegradation
from medsr.degradation.profiles import SliceProfileDegradation
from medsr.degradation.protocol import Protocol
from medsr.errors import InputError

_CV2_CUBIC = {"kernel": "cubic-0.75", "antialias": False, "boundary": "nearest"}

# name -> the class, and the parameters that differ from the defaults of the class
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
    "acquisition-3d": (AcquisitionDegradation, {}),
    "acquisition-2d-multislice": (AcquisitionDegradation, {"acquisition": "2d-multislice"}),
    "acquisition-ct": (AcquisitionDegradation, {"acquisition": "ct", "noise": (0.0, 0.03)}),
    "gaussian-noise": (GaussianNoise, {}),
    "kspace-noise": (KspaceNoise, {}),
    "rician-noise": (RicianNoise, {}),
    "jpeg": (JpegCompression, {}),
}


def names() -> tuple[str, ...]:
    """Return all registered names."""
    return tuple(_REGISTERED)


def get(name: str, **parameters: Any) -> Any:
    """Return a registered degradation or corruption.

    Args:
        name: One of `names()`.
        **parameters: The parameters to change; the others are as published.

    Raises:
        InputError: If the name or a parameter is unknown.

    Examples:
        >>> import torch
        >>> from medsr import degradation
        >>> hr = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> block_mean = degradation.get("block-mean")
        >>> block_mean(hr, scale=2)
        tensor([[[[ 2.5000,  4.5000],
                  [10.5000, 12.5000]]]])
        >>> block_mean(hr, scale=(1, 2)).shape  # reduce the last axis only
        torch.Size([1, 1, 4, 2])
        >>> degradation.from_dict(block_mean.to_dict()) == block_mean
        True
    """
    if name not in _REGISTERED:
        raise InputError(f"a degradation is one of {', '.join(_REGISTERED)}, got {name!r}")
    cls, defaults = _REGISTERED[name]
    try:
        return cls(name=name, **{**defaults, **parameters})
    except TypeError as error:
        raise InputError(f"degradation {name!r} does not take these parameters: {error}") from None


def from_dict(description: Mapping[str, Any]) -> Any:
    """Return the degradation, corruption or protocol that `to_dict` described.

    Parameters that the description leaves out have the published values.

    Raises:
        InputError: If the name, a parameter or the version is unknown.
    """
    parameters = dict(description)
    name, version = parameters.pop("name", None), parameters.pop("version", 1)
    if "steps" in parameters:
        return Protocol(name=name, version=version, steps=tuple(from_dict(s) for s in parameters["steps"]))
    if "axes" in parameters:
        axes = tuple(None if axis is None else as_degradation(axis) for axis in parameters["axes"])
        return PerAxisDegradation(name=name or "per-axis", version=version, axes=axes)
    if "choices" in parameters:
        choices = tuple(as_degradation(choice) for choice in parameters["choices"])
        weights = tuple(parameters.get("weights") or ())
        return MixtureDegradation(name=name or "mixture", version=version, choices=choices, weights=weights)
    step = get(name, **parameters)
    if step.version != version:
        raise InputError(f"degradation {name!r} is at version {step.version} here, but version {version} was recorded")
    return step


def as_degradation(description: Degradation | str | Mapping[str, Any]) -> Degradation:
    """Return a degradation from itself, its registered name, or its dictionary."""
    if isinstance(description, str):
        return get(description)
    if isinstance(description, Mapping):
        return from_dict(description)
    return description
