"""Compute the SHA-256 of files and folders, and copy files that must have a known one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from medsr.errors import InputError
from medsr.files.atomic import atomic_path


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        InputError: If the file cannot be read.
    """
    digest = hashlib.sha256()
    for block in _blocks(Path(path)):
        digest.update(block)
    return digest.hexdigest()


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, or of the sorted names and contents of the files of a folder (a DICOM series).

    Raises:
        InputError: If a file cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(str(file.relative_to(path)).encode())
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()


def copy_known(source: Path, target: Path, sha256: str, check: Callable[[Path], object]) -> None:
    """Copy a file whose hash is known, completely or not at all; only its owner can read the unfinished copy.

    The copy is hashed and checked, because the source may change meanwhile.

    Args:
        source: The file to copy.
        target: The name of the copy; missing folders are created, and an older file is replaced.
        sha256: The SHA-256 that the copy must have.
        check: A function that checks the copy; its errors are raised with the name of the source.

    Raises:
        InputError: If the source cannot be read, has another hash, or does not pass the check.
        OutputError: If the target cannot be written.
    """
    with atomic_path(target) as temporary:
        digest = hashlib.sha256()
        with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as out:
            for block in _blocks(source):
                digest.update(block)
                out.write(block)
        if digest.hexdigest() != sha256:
            raise InputError(
                f"{source} has SHA-256 {digest.hexdigest()[:16]}..., expected {sha256[:16]}...; download it again"
            )
        try:
            check(temporary)
        except InputError as error:
            raise InputError(str(error).replace(str(temporary), str(source))) from None
        temporary.chmod(0o644)


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield the content of a file in parts."""
    try:
        with path.open("rb") as stream:
            yield from iter(lambda: stream.read(1 << 20), b"")
    except FileNotFoundError:
        raise InputError(f"{path} is missing and cannot be read; check the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from None
