"""The notes beside a weight file: what the network was trained on, which those who run it must know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsr.errors import InputError

STARTS = INTERPOLATED, CONSISTENT = "interpolated", "consistent"  # what a restore network reads


def check_start(start: str) -> str:
    """Return the start itself, once it is checked.

    Raises:
        InputError: If it is not one of `STARTS`.
    """
    if start not in STARTS:
        raise InputError(f"a restore network starts from the {' or the '.join(STARTS)} image, got {start!r}")
    return start


def notes_path(weights: str | Path) -> Path:
    """Return the path of the notes of a weight file: model.json for model.pt."""
    return Path(weights).with_suffix(".json")


def read_notes(weights: str | Path) -> Mapping[str, Any]:
    """Return the notes of a weight file; empty if it has none.

    Raises:
        InputError: If the notes cannot be read.
    """
    path = notes_path(weights)
    if not path.is_file():
        return {}
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}, the notes of {Path(weights).name}, cannot be read ({error}); restore them") from None
    if not isinstance(notes, dict):
        raise InputError(f"expected a JSON object in {path}, got {type(notes).__name__}; restore it")
    return notes


def start_of(weights: str | Path | None) -> str:
    """Return what a restore network reads with these weights: "interpolated" if no notes say otherwise.

    Raises:
        InputError: If the notes cannot be read, or name another start.
    """
    return check_start(str((read_notes(weights) if weights else {}).get("start", INTERPOLATED)))
