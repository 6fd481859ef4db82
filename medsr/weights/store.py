"""The folder in which the weight files of other publishers are kept on this computer."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import torch

from medsr.errors import InputError
from medsr.files.hashes import copy_known, file_sha256
from medsr.networks.checkpoints import read_checkpoint
from medsr.weights.catalogue import EXTERNAL, ExternalFile

DIRECTORY_VARIABLE = "MEDSR_WEIGHTS"


def directory() -> Path:
    """Return the folder of imported files: $MEDSR_WEIGHTS, else `medsr/weights` in the platform's user data folder."""
    named = os.environ.get(DIRECTORY_VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_data_dir("medsr", appauthor=False)) / "weights"


def locate(entry: ExternalFile) -> Path | None:
    """Return the path of a file in medsr's folder, else in torch's cache, which is only read; None if in neither."""
    candidates = (directory() / entry.file, Path(torch.hub.get_dir()) / "checkpoints" / entry.file)
    return next((path for path in candidates if _is_file(path)), None)


def find(name: str) -> Path:
    """Return the path of a weight file of another publisher, after a check of its hash.

    Args:
        name: The name in the catalogue, such as "vgg19-imagenet".

    Returns:
        The path of the file; load it with `weights_only=True`.

    Raises:
        InputError: If the name is unknown, the file is not here (the message says how to get it), or its hash differs.
    """
    if name not in EXTERNAL:
        raise InputError(f"no weight file is called {name!r}; choose from {', '.join(EXTERNAL)}")
    entry = EXTERNAL[name]
    path = locate(entry)
    if path is None:
        raise InputError(
            f"{entry.file} ({entry.purpose}) is not in {directory()}; download {entry.source} "
            f"(SHA-256 {entry.sha256}), then run: medsr weights import {entry.file}"
        )
    check(entry, path)
    return path


def check(entry: ExternalFile, path: Path) -> None:
    """Check that a file has the size and the hash of its entry.

    Raises:
        InputError: If the size or the hash differs.
    """
    size = path.stat().st_size
    if size != entry.size:
        raise InputError(f"{path} has {size:,} bytes, expected {entry.size:,}; download it again from {entry.source}")
    came = file_sha256(path)
    if came != entry.sha256:
        raise InputError(
            f"{path} has SHA-256 {came[:16]}..., expected {entry.sha256[:16]}...; download it again from {entry.source}"
        )


def place_copy(source: Path, target: Path, sha256: str) -> None:
    """Copy a weight file to its place, after a check of its hash and that it holds only tensors.

    Args:
        source: The file to copy.
        target: The new path; missing folders are made, and an older file is replaced.
        sha256: The SHA-256 that the copy must have.

    Raises:
        InputError: If the source cannot be read, has another hash, or holds more than weights.
        OutputError: If the target cannot be written.
    """
    copy_known(source, target, sha256, read_checkpoint)


def _is_file(path: Path) -> bool:
    """Return whether a path is a file that can be reached."""
    try:
        return path.is_file()
    except OSError:  # a folder that may not be entered
        return False
