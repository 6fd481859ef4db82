"""The file of hashes beside weight files, which `sha256sum --check` reads too."""

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
    """Return the file names and hashes that stand in a folder's file of hashes; none where there is no such file.

    Raises:
        InputError: If it is no file of hashes.
    """
    path = Path(folder) / HASH_FILE
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


def check_hash(path: str | Path) -> bool:
    """Compare a weight file with the hash that stands beside it.

    Returns:
        True if they agree, False if there is no hash of it: weights of a user's own.

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
            f"{path} has SHA-256 {came[:16]}..., expected {expected[:16]}... by {HASH_FILE}: copy it again; if it is a "
            f"network of your own, record that by: medsr weights record {path.parent}"
        )
    return True


def write_hashes(folder: str | Path, files: Iterable[Path]) -> Path:
    """Write the file of hashes of a folder, in place of an older one; it is as public as the weights.

    Args:
        folder: The folder of the files.
        files: The files to hash, all in the folder.

    Returns:
        The file of hashes.

    Raises:
        OutputError: If it cannot be written.
    """
    path = Path(folder) / HASH_FILE
    write_text(path, "".join(f"{file_sha256(file)}  {file.name}\n" for file in sorted(files)), mode=0o644)
    return path
