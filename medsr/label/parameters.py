"""What a client of the server may ask for, checked before any work is done."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medsr.errors import InputError
from medsr.files.suffixes import split_suffix
from medsr.outputs.naming import DICOM, EXTENSIONS

# Entries of a bundle's inference.json that a client may set, and how a value is read.
_NUMBERS = ("scale", "spacing")
_COUNTS = ("back_projection", "memory_mb")
_TEXTS = ("precision", "series")
_SWITCHES = ("consistency", "uncertainty")
_FORMATS = (*EXTENSIONS, DICOM)  # no pictures: none are taken either
PARAMETERS = (*_NUMBERS, *_SWITCHES, *_COUNTS, *_TEXTS, "device", "result_extension", "result_dtype")

# What MONAI Label and its clients add to every request.
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
        settings: entries of the bundle's `inference.json` to replace.
        device: as the client calls it; None for the server's choice.
        extension: of the result, or "dicom" for a derived series; None for that of the input.
        consistency: also give the map |degrade(SR) - LR|, on the LR grid.
        uncertainty: average over flips, and also give their standard deviation.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    device: str | None = None
    extension: str | None = None
    consistency: bool = False
    uncertainty: bool = False

    def extension_for(self, name: str) -> str:
        """Extension of the result for an input file or folder of this name."""
        given = split_suffix(name)[1].lower()
        return self.extension or (given if given in EXTENSIONS else EXTENSIONS[0])


def parse_request(params: Mapping[str, Any]) -> LabelRequest:
    """Read the `params` of a request.

    Args:
        params: `scale` or `spacing` (one number or three: 2, "1 1 2.5", [1, 1, 2.5]), `consistency`, `uncertainty`,
            `back_projection`, `precision`, `memory_mb`, `series`, `device`, `result_extension`. An empty text or null
            is as if it were not there: forms send all their fields.

    Raises:
        InputError: an unknown parameter, a value that is not one, or an integer `result_dtype`.
    """
    given = {key: value for key, value in params.items() if value is not None and value != ""}
    unknown = sorted(set(given) - _OF_THE_HOST - set(PARAMETERS))
    if unknown:
        raise InputError(f"there is no parameter {_shown(unknown[0])}; known are {', '.join(PARAMETERS)}")
    if "scale" in given and "spacing" in given:
        raise InputError("expected a scale or a target spacing, got both; leave one out")
    _check_dtype(given.get("result_dtype"))
    settings: dict[str, Any] = {key: _number_or_three(key, given[key]) for key in _NUMBERS if key in given}
    if "spacing" in settings:
        settings["scale"] = None  # the bundle's own default
    settings.update({key: _count(key, given[key]) for key in _COUNTS if key in given})
    settings.update({key: _text(key, given[key]) for key in _TEXTS if key in given})
    switches = {key: _switch(key, given[key]) for key in _SWITCHES if key in given}
    return LabelRequest(settings, _device(given.get("device")), _extension(given.get("result_extension")), **switches)


def _check_dtype(dtype: Any) -> None:
    if dtype is None:
        return
    try:
        kind = np.dtype(str(dtype))
    except TypeError:
        raise InputError(f"expected a result_dtype such as float32, got {_shown(dtype)}") from None
    if kind != np.float32:
        loss = "; integers would round intensities, or wrap them around" if kind.kind in "iub" else ""
        raise InputError(f"results are float32, got result_dtype {kind.name}{loss}; leave result_dtype out")


def _number_or_three(key: str, value: Any) -> float | list[float]:
    if isinstance(value, str):
        value = [word for word in re.split(r"[\s,x]+", value.strip("[]() ")) if word]
    items = list(value) if isinstance(value, list | tuple) else [value]
    try:
        numbers = [float(item) for item in items if not isinstance(item, bool)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != len(items) or len(numbers) not in (1, 3) or not all(map(math.isfinite, numbers)):
        raise InputError(f"expected one number or three (one per array axis) for {key}, got {_shown(value)}")
    return numbers[0] if len(numbers) == 1 else numbers


def _count(key: str, value: Any) -> int:
    if isinstance(value, bool) or not str(value).isdigit():
        raise InputError(f"expected a whole number for {key}, got {_shown(value)}")
    return int(value)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\w.:-]{1,64}", value):
        raise InputError(f"expected a short word for {key}, got {_shown(value)}")
    return value


def _device(value: Any) -> str | None:
    value = value[0] if isinstance(value, list) and value else value  # a form's list of devices, sent back as it was
    if value is not None and not isinstance(value, str):
        raise InputError(f"expected the name of a device, got {_shown(value)}")
    return value


def _switch(key: str, value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise InputError(f"expected true or false for {key}, got {_shown(value)}")
    return value


def _extension(value: Any) -> str | None:
    if value is None:
        return None
    extension = str(value).lower()
    extension = extension if extension.startswith(".") or extension == DICOM else f".{extension}"
    if extension not in _FORMATS:
        raise InputError(f"results are written as {', '.join(_FORMATS)}, got {_shown(value)}")
    return extension


def _shown(value: Any) -> str:
    """A client's value in a message: short, on one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
