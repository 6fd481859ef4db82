"""Find the images in a folder: volumes, DICOM series at any depth, or the slices of a stack of pictures."""

from __future__ import annotations

import os
from pathlib import Path

from medsr.data.dicom.reading import is_dicom
from medsr.files.suffixes import ANALYZE, IMAGE_SUFFIXES, PICTURE, natural_key


def visible(folder: Path) -> list[Path]:
    """Return the entries of a folder that are not hidden, in natural order ("2" before "10").

    Raises:
        OSError: If the folder cannot be listed.
    """
    return sorted((e for e in folder.iterdir() if not e.name.startswith(".")), key=lambda e: natural_key(e.name))


def stack_slices(folder: Path) -> list[Path]:
    """Return the pictures of a folder that form one image, a stack, in the natural order of their names.

    A folder is a stack if it holds pictures, no volume of any format beside them, and no DICOM file at any depth. In a
    folder of results the pictures are previews, which lie beside volumes.

    Returns:
        The pictures, or an empty list if the folder is not a stack.

    Raises:
        OSError: If the folder cannot be listed.
    """
    files = [entry for entry in visible(folder) if entry.is_file()]
    slices = [file for file in files if file.name.lower().endswith(PICTURE)]
    if not slices or any(file.name.lower().endswith(IMAGE_SUFFIXES + ANALYZE) for file in files):
        return []
    return [] if dicom_folders(folder) else slices


def dicom_folders(folder: Path) -> list[Path]:
    """Return the topmost folders, beginning with `folder`, that directly contain DICOM files."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=natural_key)
        if any(is_dicom_file(Path(root, name)) for name in names):
            found.append(Path(root))
            folders.clear()  # a series may be spread over subfolders, so the folder is read as a whole
    return found


def is_dicom_file(path: Path) -> bool:
    """Return whether a file is DICOM, False if it cannot be read."""
    try:
        return is_dicom(path)
    except OSError:  # an unreadable file does not make its folder a DICOM folder; if one is read, it raises an error
        return False
