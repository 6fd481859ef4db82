"""The provenance of an image: the facts about its files that later steps need, taken while they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medsr.carried import Carried
from medsr.errors import InputError
from medsr.files.hashes import sha256_of

PROVENANCE = "provenance"  # key of `meta`: a list with an entry for each file or folder, one per channel

Stamps = dict[Path, tuple[int, int, int]]


def stamps(path: Path) -> Stamps:
    """Return inode, size and modification time (ns) of a file or of all files below a folder, to detect changes."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    found = {}
    for file in files:
        try:
            state = file.stat()
        except OSError:  # the file has vanished, and a missing stamp says so
            continue
        found[file] = (state.st_ino, state.st_size, state.st_mtime_ns)
    return found


@dataclass(frozen=True, eq=False)
class Provenance(Carried):
    """The source of an image, as it was when it was read.

    Later steps need not read the files again: these may change or vanish, and an archive is unpacked only once.

    Attributes:
        path: The file, folder or archive.
        stamps: The stamps of its files before they were read.
        headers: The headers of a DICOM series, without pixels, in the order of the volume; none for other formats.
    """

    path: Path
    stamps: Stamps
    headers: tuple[Any, ...] = ()

    @staticmethod
    def of(meta: Mapping[str, Any]) -> list[Provenance]:
        """Return the provenance of each channel of an image, an empty list if `VolumeReader` did not read it."""
        found = meta.get(PROVENANCE) or []
        return list(found) if all(isinstance(entry, Provenance) for entry in found) else []

    def check_unchanged(self) -> None:
        """Raise InputError if a file has changed or vanished since it was read."""
        now = stamps(self.path)
        changed = next((file for file, stamp in self.stamps.items() if now.get(file) != stamp), None)
        if changed is not None:
            raise InputError(
                f"{changed}: expected the file as it was when it was read, got one that has changed or is gone; "
                "run again when no program writes to it"
            )

    @cached_property
    def sha256(self) -> str:
        """The hash of the source, after a check that it has not changed since the image was read.

        Raises:
            InputError: If the source has changed.
        """
        self.check_unchanged()
        digest = sha256_of(self.path)
        self.check_unchanged()
        return digest
