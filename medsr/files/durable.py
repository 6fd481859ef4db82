"""Changes to the queue that survive a power failure: files and folders are on the disk when a function returns."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from medsr.files.atomic import write_json_atomic

_HIDDEN = ".medsr-*"  # what `medsr.files.atomic` and `medsr.files.staging` write to before the real name


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Have the names in a folder and all below it on the disk."""
    for path, _, _ in os.walk(folder):
        sync_folder(Path(path))


def write(temporary: Path, path: Path, fill: Callable[[IO[bytes]], None]) -> None:
    """Write a file that appears complete, on the disk, or not at all.

    Args:
        temporary: name to write to, on the same disk.
        path: the real name; what is there is replaced.
        fill: writes the content.

    Raises:
        OSError: it cannot be written; nothing is left.
    """
    try:
        with temporary.open("xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """As `write_json_atomic`, and on the disk."""
    write_json_atomic(path, content)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder that only its owner may read."""
    path.mkdir(mode=0o700)
    sync_folder(path.parent)


def move(path: Path, target: Path) -> None:
    """Rename within one disk, at once."""
    os.rename(path, target)
    sync_folder(target.parent)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    with suppress(FileNotFoundError):
        path.unlink()
        sync_folder(path.parent)


def remove_hidden(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder and below it."""
    for path in list(folder.rglob(_HIDDEN)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
