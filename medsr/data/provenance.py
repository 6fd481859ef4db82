"""The provenance of an image: what later steps need from its files, taken while they were read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medsr.carried import Carried
from medsr.errors import InputError
from medsr.files.hashes import sha256_of

PROVENANCE = "provenance"  # key of `meta`: a list with an entry for each file or folder, one a channel

Stamps = dict[Path, tuple[int, int, int]]


def stamps(path: Path) -> Stamps:
    """Return what tells that a file has changed, for a file or all files below a folder."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    found = {}
    for file in files:
        try:
            state = file.stat()
        except OSError:  # it is gone, and so has no stamp
            continue
        found[file] = (state.st_ino, state.st_size, state.st_mtime_ns)
    return found


@dataclass(frozen=True, eq=False)
class Provenance(Carried):
    """The source of an image, as it was when it was read.

    Nobody has to go back to the files: they may change or vanish afterwards, and an archive is unpacked but once.

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
        """Return the provenance of each channel of an image; none where it was not read by `VolumeReader`."""
        found = meta.get(PROVENANCE) or []
        return list(found) if all(isinstance(entry, Provenance) for entry in found) else []

    def check_unchanged(self) -> None:
        """Raise InputError if a file has changed or vanished since it was read."""
        now = stamps(self.path)
        changed = next((file for file, stamp in self.stamps.items() if now.get(file) != stamp), None)
        if changed is not None:
            raise InputError(
                f"{changed}: expected the file as it was when it was read, got one that has changed or is gone; "
                "run again when nobody writes there"
            )

    @cached_property
    def sha256(self) -> str:
        """The hash of the source, of which it is certain that the image was read from it.

        Raises:
            InputError: If the source has changed since.
        """
        self.check_unchanged()
        digest = sha256_of(self.path)
        self.check_unchanged()
        return digest
