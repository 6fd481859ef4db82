"""Files and folders that survive a power failure: they are on the disk when a function returns."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def sync_file(path: Path) -> None:
    """Have the content of a file on the disk."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


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
