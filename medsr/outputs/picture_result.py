"""Write the SR image of pictures as pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsr.data.formats.stacks import picture_bits, write_stack
from medsr.data.inference_items import NO_PICTURE
from medsr.errors import InputError

_ENTRY = "pictures"  # of a record


def source_bits(source: str, meta: Mapping[str, Any]) -> int:
    """Bit depth of the pictures that an image was read from, which is that of pictures made of it.

    Args:
        source: The file or folder, for the message.
        meta: The meta data of the LR image.

    Raises:
        InputError: If the source is no 8- or 16-bit picture.
    """
    if meta.get("format") != "picture":
        raise InputError(f"{source or 'the image'}: {NO_PICTURE}")
    return picture_bits(str(meta.get("original_dtype")), source)


def write_pictures(folder: Path, values: Any, bits: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write (X, Y, Z) as one PNG a slice.

    Args:
        folder: The folder to appear.
        values: The values, in real units, a numpy array.
        bits: 8 or 16.
        record: The record of the run, to whose warnings it is added how many values were clipped.

    Returns:
        What the record says of the pictures.

    Raises:
        OutputError: If they cannot be written.
    """
    clipped = write_stack(folder, values, bits)
    if clipped:
        record["warnings"].append(
            f"{clipped} of {values.size} values lay outside 0 to {2**bits - 1} and were clipped to it; "
            "write .nii.gz to keep them"
        )
    return {"images": values.shape[2], "bits": bits, "clipped": clipped}


def is_picture_result(folder: Path) -> bool:
    """Return whether a folder holds nothing but what `write_pictures` writes, by the record beside it."""
    name = re.compile(rf"{re.escape(folder.name)}_\d{{4,}}\.png")
    if not (folder.is_dir() and all(name.fullmatch(path.name) for path in folder.iterdir())):
        return False
    try:
        record = json.loads(folder.with_name(f"{folder.name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and "medsr" in record and _ENTRY in record
