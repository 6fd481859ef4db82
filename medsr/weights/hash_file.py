"""The file of hashes beside weight files, in the format of `sha256sum --check`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from medsr.errors import InputError
from medsr.files.atomic import write_text
from medsr.files.hashes import file_sha256

HASH_FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/\\]+)")


def read_hashes(folder: str | Path) -> dict[str, str]:
    """Return the hashes in a folder's file of hashes by file name, or an empty dict if there is no such file.

    Raises:
        InputError: If the file cannot be read, or is not a file of hashes.
    """
    path = Path(folder) / HASH_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}; copy it again") from None
    hashes = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{path}: expected lines 'SHA-256  FILE', got {line[:80]!r}; copy it again")
        hashes[match[2]] = match[1]
    return hashes


def check_hash(path: str | Path) -> bool:
    """Compare a weight file with the hash that is recorded beside it.

    Returns:
        True if they agree, False if no hash is recorded, as for weights of a user's own.

    Raises:
        InputError: If they differ, or the file cannot be read.
    """
    path = Path(path)
    expected = read_hashes(path.parent).get(path.name)
    if expected is None:
        return False
    came = file_sha256(path)
    if came != expected:
        raise InputError(
            f"{path} has SHA-256 {came[:16]}..., expected {expected[:16]}... by {HASH_FILE}; copy it again, or if it "
            f"is a network of your own, run: medsr weights record {path.parent}"
        )
    return True


def write_hashes(folder: str | Path, files: Iterable[Path]) -> Path:
    """Write the file of hashes of a folder, readable for everyone, in place of an older one.

    Args:
        folder: The folder of the files.
        files: The files to hash, all of them in the folder.

    Returns:
        The file of hashes.

    Raises:
        OutputError: If the file cannot be written.
    """
    path = Path(folder) / HASH_FILE
    write_text(path, "".join(f"{file_sha256(file)}  {file.name}\n" for file in sorted(files)), mode=0o644)
    return path
