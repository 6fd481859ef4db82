"""Write the SR image as pictures, if its source was pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsr.data.formats.stacks import picture_bits, write_stack
from medsr.data.inference_items import NO_PICTURE
from medsr.errors import InputError

_ENTRY = "pictures"  # the entry of a record


def source_bits(source: str, meta: Mapping[str, Any]) -> int:
    """Return the bit depth of the pictures that an image was read from; the result has the same depth.

    Args:
        source: The file or folder, for the message.
        meta: The metadata of the LR image.

    Raises:
        InputError: If the source is not an 8- or 16-bit picture.
    """
    if meta.get("format") != "picture":
        raise InputError(f"{source or 'the image'}: {NO_PICTURE}")
    return picture_bits(str(meta.get("original_dtype")), source)


def write_pictures(folder: Path, values: Any, bits: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write a volume as one PNG file per slice.

    Args:
        folder: The folder to create.
        values: The values in real units, a numpy array (X, Y, Z).
        bits: The bit depth, 8 or 16.
        record: The record of the run. If values are clipped, their number is appended to its warnings.

    Returns:
        The record's entry for the pictures.

    Raises:
        OutputError: If the pictures cannot be written.
    """
    clipped = write_stack(folder, values, bits)
    if clipped:
        record["warnings"].append(
            f"{clipped} of {values.size} values were outside the range 0 to {2**bits - 1} and were clipped; "
            "write .nii.gz to keep them"
        )
    return {"images": values.shape[2], "bits": bits, "clipped": clipped}


def is_picture_result(folder: Path) -> bool:
    """Return whether a folder holds only pictures that `write_pictures` wrote, and their record is beside it."""
    name = re.compile(rf"{re.escape(folder.name)}_\d{{4,}}\.png")
    if not (folder.is_dir() and all(name.fullmatch(path.name) for path in folder.iterdir())):
        return False
    try:
        record = json.loads(folder.with_name(f"{folder.name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and "medsr" in record and _ENTRY in record
