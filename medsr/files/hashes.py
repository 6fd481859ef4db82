"""SHA-256 of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from medsr.errors import InputError


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file.

    Raises:
        InputError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: check the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    return digest.hexdigest()
