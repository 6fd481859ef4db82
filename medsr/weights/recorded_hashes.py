"""Hashes of weight files, recorded beside them in a file that `sha256sum --check` reads too."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from medsr.errors import InputError, OutputError
from medsr.files.hashes import file_sha256

RECORD = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/\\]+)")


def read_record(folder: str | Path) -> dict[str, str]:
    """File names and hashes recorded in a folder; empty where there is no record.

    Raises:
        InputError: the record is not one.
    """
    path = Path(folder) / RECORD
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    hashes = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{path}: expected lines 'SHA-256  FILE', got {line[:80]!r}; copy it again")
        hashes[match[2]] = match[1]
    return hashes


def check_recorded(path: str | Path) -> bool:
    """Compare a weight file with the hash recorded beside it.

    Returns:
        True if they agree, False if none is recorded: weights of a user's own.

    Raises:
        InputError: they differ, or the file cannot be read.
    """
    path = Path(path)
    expected = read_record(path.parent).get(path.name)
    if expected is None:
        return False
    came = file_sha256(path)
    if came != expected:
        raise InputError(
            f"{path} has SHA-256 {came[:16]}..., expected {expected[:16]}... by {RECORD}: copy it again; if it is a "
            f"network of your own, record that by: medsr weights record {path.parent}"
        )
    return True


def record_hashes(folder: str | Path, files: Iterable[Path]) -> Path:
    """Write the record of a folder, in place of an older one.

    Args:
        folder: of the files.
        files: to record, all in the folder.

    Returns:
        The record.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(folder) / RECORD
    text = "".join(f"{file_sha256(file)}  {file.name}\n" for file in sorted(files))
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=".medsr-", dir=folder)
        with open(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # it is as public as the weights
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; check the folder's permissions") from None
    finally:
        if temporary:
            with suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
    return path
