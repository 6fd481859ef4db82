"""Write files and folders so that they survive a power failure: they are on the disk when a function returns."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def sync_file(path: Path) -> None:
    """Write the content of a file to the disk."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Write the names in a folder and in all folders below it to the disk."""
    for path, _, _ in os.walk(folder):
        sync_folder(Path(path))


def make_folder(path: Path) -> None:
    """Create a folder that only its owner may read."""
    path.mkdir(mode=0o700)
    sync_folder(path.parent)


def move(path: Path, target: Path) -> None:
    """Rename a file or folder within one disk, in one step."""
    os.rename(path, target)
    sync_folder(target.parent)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file if it exists."""
    with suppress(FileNotFoundError):
        path.unlink()
        sync_folder(path.parent)
