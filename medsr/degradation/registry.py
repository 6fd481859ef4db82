"""Degradations and their parts by name, and back from the dictionaries that runs leave behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from medsr.degradation.base import Step
from medsr.degradation.gaussian import GaussianBlurDegradation
from medsr.errors import InputError

_FACTORIES: dict[str, Callable[..., Step]] = {
    "gaussian-blur": GaussianBlurDegradation,
}


def names() -> tuple[str, ...]:
    """All registered names."""
    return tuple(_FACTORIES)


def get(name: str, **parameters: Any) -> Any:
    """A registered degradation (or noise, compression), with its published parameters unless told otherwise.

    Raises:
        InputError: unknown name or parameter.
    """
    if name not in _FACTORIES:
        raise InputError(f"a degradation is one of {', '.join(_FACTORIES)}, got {name!r}")
    try:
        return _FACTORIES[name](**parameters)
    except TypeError as error:
        raise InputError(f"degradation {name!r} does not take these parameters: {error}") from None


def from_dict(description: Mapping[str, Any]) -> Any:
    """The degradation that `to_dict` described.

    Raises:
        InputError: unknown name, parameter or version.
    """
    parameters = dict(description)
    name, version = parameters.pop("name", None), parameters.pop("version", 1)
    step = get(name, **parameters)
    if step.version != version:
        raise InputError(
            f"degradation {name!r} is at version {step.version} here, but version {version} was recorded"
        )
    return step
