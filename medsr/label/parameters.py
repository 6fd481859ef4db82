"""The parameters that a client of the server may send, checked before any work is done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np

from medsr.bundle.settings import SETTINGS, shown
from medsr.errors import InputError, MedsrError
from medsr.files.suffixes import split_suffix
from medsr.outputs.naming import DICOM, EXTENSIONS

# The entries of a bundle's inference.json that a client may set. `compile` is not among them, because it would keep
# the server busy for minutes on one image.
_SETTINGS = (
    *("scale", "spacing", "formation", "safe", "memory_mb", "tile_size", "between_scales", "precision", "series"),
)
_WORDS = ("precision", "series", "between_scales")
_SWITCHES = ("consistency", "uncertainty")
_FORMATS = (*EXTENSIONS, DICOM)  # no pictures, because the server reads none
PARAMETERS = (*_SETTINGS, *_SWITCHES, "device", "result_extension", "result_dtype")

# The entries that MONAI Label and its clients add to every request.
_OF_THE_HOST = frozenset(
    {"model", "image", "images", "description", "label", "session", "session_id", "user", "client_id", "timeout"}
    | {"save_label", "label_tag", "labels", "logging", "_id", "_image_id", "bundle_path", "output"}
    | {"multi_gpu", "gpus", "max_workers", "max_batch_size", "result_compress", "result_write_to_file"}
    | {"skip_writer", "cache_transforms", "model_filename", "largest_cc", "restore_label_idx"}
)


@dataclass(frozen=True)
class LabelRequest:
    """A request for an SR image.

    Attributes:
        settings: The entries of the bundle's `inference.json` to replace.
        device: The device as the client names it; None leaves the choice to the server.
        extension: The extension of the result, or "dicom" for a derived series; None takes that of the input.
        consistency: Whether to return the map |degrade(SR) - LR| on the LR grid too.
        uncertainty: Whether to average over flips and return their standard deviation too.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    device: str | None = None
    extension: str | None = None
    consistency: bool = False
    uncertainty: bool = False

    def extension_for(self, name: str) -> str:
        """Return the extension of the result for an input file or folder of this name."""
        given = split_suffix(name)[1].lower()
        return self.extension or (given if given in EXTENSIONS else EXTENSIONS[0])


def parse_request(params: Mapping[str, Any]) -> LabelRequest:
    """Read the `params` of a request.

    Args:
        params: The parameters `scale` or `spacing` (one number or three: 2, "1 1 2.5", [1, 1, 2.5]), `consistency`,
            `uncertainty`, `formation`, `safe`, `precision`, `memory_mb`, `tile_size`, `between_scales`, `series`,
            `device` and `result_extension`. An empty text or null counts as absent, because forms send all their
            fields.

    Raises:
        InputError: If a parameter is unknown or has a wrong value, or `result_dtype` is not float32.
    """
    given = {key: value for key, value in params.items() if value is not None and value != ""}
    for name in sorted(set(given) - _OF_THE_HOST - set(PARAMETERS)):
        nearest = get_close_matches(name, PARAMETERS, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise InputError(f"there is no parameter {shown(name)}; known are {', '.join(PARAMETERS)}{hint}")
    if "scale" in given and "spacing" in given:
        raise InputError("expected a scale or a target spacing, got both; leave one out")
    _check_dtype(given.get("result_dtype"))
    settings = {key: _value(key, given[key]) for key in _SETTINGS if key in given}
    if "spacing" in settings:
        settings["scale"] = None  # the bundle's own default
    switches = {key: _switch(key, given[key]) for key in _SWITCHES if key in given}
    return LabelRequest(settings, _device(given.get("device")), _extension(given.get("result_extension")), **switches)


def _check_dtype(dtype: Any) -> None:
    """Refuse a type of the result other than float32.

    Raises:
        InputError: If the type is unknown, or not float32.
    """
    if dtype is None:
        return
    try:
        kind = np.dtype(str(dtype))
    except TypeError:
        raise InputError(f"expected a result_dtype such as float32, got {shown(dtype)}; leave it out") from None
    if kind != np.float32:
        loss = "; integers would round intensities, or wrap them around" if kind.kind in "iub" else ""
        raise InputError(f"results are float32, got result_dtype {kind.name}{loss}; leave result_dtype out")


def _value(key: str, value: Any) -> Any:
    """Return a value as the table of settings reads it.

    Raises:
        InputError: If the value is wrong; the message is short, because it goes over the network.
    """
    if key in _WORDS and not (isinstance(value, str) and re.fullmatch(r"[\w.:-]{1,64}", value)):
        raise InputError(f"expected a short word for {key}, got {shown(value)}; correct it")
    try:
        return SETTINGS[key].parse(key, value)
    except MedsrError:
        raise InputError(f"expected {SETTINGS[key].expected} for {key}, got {shown(value)}; correct it") from None


def _device(value: Any) -> str | None:
    """Return the name of a device.

    Raises:
        InputError: If the value is not a text.
    """
    value = value[0] if isinstance(value, list) and value else value  # forms send back the whole list of devices
    if value is not None and not isinstance(value, str):
        raise InputError(f"expected the name of a device, got {shown(value)}; write auto, cpu or cuda")
    return value


def _switch(key: str, value: Any) -> bool:
    """Return the value of a switch.

    Raises:
        InputError: If the value is neither true nor false.
    """
    if isinstance(value, int) and not isinstance(value, bool):  # JSON has true and false
        raise InputError(f"expected true or false for {key}, got {shown(value)}; correct it")
    return bool(SETTINGS["ensemble"].parse(key, value))


def _extension(value: Any) -> str | None:
    """Return the extension of the result, with a leading dot unless it is "dicom".

    Raises:
        InputError: If results are not written in this format.
    """
    if value is None:
        return None
    extension = str(value).lower()
    extension = extension if extension.startswith(".") or extension == DICOM else f".{extension}"
    if extension not in _FORMATS:
        raise InputError(f"results are written as {', '.join(_FORMATS)}, got {shown(value)}; choose one of these")
    return extension
