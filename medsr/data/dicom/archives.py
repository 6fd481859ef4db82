"""Unpack archives of DICOM images into a private folder while they are read, after checking them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medsr.data.volume import one_line
from medsr.errors import InputError, MedsrError

ARCHIVE = (".zip",)

_CHUNK = 1 << 20
_MIB = 1 << 20
_ENCRYPTED = 0x1  # a bit of the flags of a zip entry


@dataclass(frozen=True)
class ArchiveLimits:
    """The limits of an archive, which are checked by its directory before anything is unpacked.

    Attributes:
        files: The largest number of files.
        bytes: The largest size of all files together, unpacked.
        ratio: The largest ratio of unpacked to packed size, from `small` bytes upwards. Deflate reaches 1032; medical
            images reach five, and their empty slices hundreds.
        small: The size in bytes up to which the ratio is not checked.
    """

    files: int = 50_000
    bytes: int = 16 << 30
    ratio: float = 100.0
    small: int = 64 << 20


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is an archive according to its name."""
    return os.fspath(path).lower().endswith(ARCHIVE)


@contextmanager
def unpacked(archive: Path, limits: ArchiveLimits | None = None) -> Iterator[Path]:
    """Unpack an archive into a new folder that only its owner can enter and that is removed afterwards.

    In errors of the block, the name of the archive replaces that of the folder.

    Args:
        archive: A .zip file.
        limits: The limits of its content.

    Yields:
        The folder.

    Raises:
        InputError: If the file is not a zip archive, it is damaged, encrypted or beyond the limits, or it would write
            anything but files below the folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="medsr-"))  # mode 0700
    try:
        _unpack(archive, folder, limits or ArchiveLimits())
        yield folder
    except MedsrError as error:
        if str(folder) not in str(error):
            raise
        raise type(error)(str(error).replace(str(folder), str(archive))) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(archive: Path, folder: Path, limits: ArchiveLimits) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            targets = [_target(archive, folder, entry) for entry in entries]
            _check_limits(archive, entries, limits)
            _check_distinct(archive, targets)
            _check_room(archive, folder, sum(entry.file_size for entry in entries))
            for entry, target in zip(entries, targets, strict=True):
                _extract(opened, entry, target)
    except MedsrError:
        raise
    except PermissionError as error:
        raise InputError(f"{archive}: cannot be read: {error.strerror or error}; check its permissions") from error
    except Exception as error:  # zipfile raises anything from BadZipFile to IndexError
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{archive}: cannot be unpacked: {error.strerror}; set TMPDIR to another folder"
            ) from error
        raise InputError(
            f"{archive}: expected a complete zip archive, got a damaged one ({one_line(error)}); copy it again"
        ) from error


def _target(archive: Path, folder: Path, entry: zipfile.ZipInfo) -> Path:
    """Return the path of an entry below the folder, after checking the entry."""
    name = entry.filename
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in parts or not parts:
        raise InputError(
            f"{archive}: expected names inside the archive, got {name!r}, which leads out of it; do not use it"
        )
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind = "a link" if stat.S_ISLNK(mode) else "a device"
        raise InputError(f"{archive}: expected files and folders, got {kind} ({name!r}); pack the files themselves")
    if entry.flag_bits & _ENCRYPTED:
        raise InputError(f"{archive}: expected an archive without password, got an encrypted one; unpack it first")
    return folder.joinpath(*parts)


def _check_distinct(archive: Path, targets: Sequence[Path]) -> None:
    name, count = Counter(targets).most_common(1)[0] if targets else (archive, 1)
    if count > 1:
        raise InputError(f"{archive}: expected one file of each name, got {count} called {name.name!r}; pack it again")


def _check_limits(archive: Path, entries: Sequence[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    if len(entries) > limits.files:
        raise InputError(f"{archive}: expected at most {limits.files} files, got {len(entries)}; unpack it yourself")
    size = sum(entry.file_size for entry in entries)
    if size > limits.bytes:
        raise InputError(
            f"{archive}: expected at most {limits.bytes // _MIB} MiB unpacked, got {size // _MIB} MiB; "
            "unpack it yourself"
        )
    stored = archive.stat().st_size
    if sum(entry.compress_size for entry in entries) > stored:
        raise InputError(f"{archive}: expected files one after another, got files that overlap; do not use it")
    if size > limits.small and size > limits.ratio * stored:
        raise InputError(
            f"{archive}: expected at most {limits.ratio:g} times its {stored} bytes unpacked, got {size}; if you trust "
            "it, unpack it yourself"
        )


def _check_room(archive: Path, folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InputError(
            f"{archive}: expected {size // _MIB} MiB of room in {folder.parent}, got {free // _MIB} MiB; make room or "
            "set TMPDIR to another folder"
        )


def _extract(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # zipfile reads no more than the size that the directory states, so the limits hold for the files that are written.
    with opened.open(entry) as source, open(target, "xb") as sink:
        shutil.copyfileobj(source, sink, _CHUNK)
