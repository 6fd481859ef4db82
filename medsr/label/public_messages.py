"""Messages for clients, without the server's paths and file names, which may identify a patient."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from medsr.data.dicom.archives import is_archive

# At least two levels, because a single "/" is also a division, or part of "and/or".
_ABSOLUTE = re.compile(r"(?<![\w/.])(?:/[^\s/:,;'\"()]+){2,}/?")
_TELLS_NOBODY = re.compile(r"\d{0,4}")  # a file name like this identifies nobody, and occurs in many numbers


def public(message: str, names: Mapping[Path, str], places: Mapping[Path, str] | None = None) -> str:
    """Take paths and file names out of a message.

    Args:
        message: The message of an error.
        names: The clients' names of images, by file or folder. The files in a folder or an archive become "file 3 of
            NAME", counted in the order of their names.
        places: The names to use for folders of the server whose files keep their names.

    Returns:
        The message on one line.
    """
    for path, name in names.items():
        for place, inner in enumerate(_files_within(path), start=1):
            for text in (f"{path}{os.sep}{inner}", inner, Path(inner).name):
                message = _replaced(message, text, f"file {place} of {name}")
    for path in sorted(names, key=lambda path: -len(str(path))):
        message = _replaced(message.replace(str(path), names[path]), path.name, names[path])
    for path, name in (places or {}).items():
        message = message.replace(str(path), name)
    return _ABSOLUTE.sub("(a file of the server)", " ".join(message.split()))


def _replaced(message: str, text: str, by: str) -> str:
    """Return a message with every whole occurrence of a text replaced, unless the text identifies nobody."""
    if text == by or _TELLS_NOBODY.fullmatch(text):
        return message
    return re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", lambda _: by, message)


def _files_within(path: Path) -> list[str]:
    """Return the names of the files in a folder or archive, relative to it."""
    if path.is_dir():
        return sorted(str(Path(folder, file).relative_to(path)) for folder, _, files in os.walk(path) for file in files)
    if is_archive(path):
        with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            return sorted(name for name in archive.namelist() if not name.endswith("/"))
    return []
