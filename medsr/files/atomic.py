"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medsr.errors import OutputError
from medsr.files.durable import sync_file, sync_folder
from medsr.files.leftovers import hidden_name, tidy
from medsr.files.suffixes import split_suffix

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would be larger than allowed here; choose another folder",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOTDIR: "a part of its path is a file, not a folder; choose another folder",
    errno.EEXIST: "a part of its path is a file, not a folder; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


@contextmanager
def atomic_path(
    path: str | os.PathLike[str], *, overwrite: bool = True, on_disk: bool = False, through: Path | None = None
) -> Iterator[Path]:
    """Yield a temporary name to write to, and rename the file when the block ends without an error.

    The temporary file is in the same folder (a rename across disks is not atomic), is hidden, and keeps the suffix, by
    which libraries choose the format. It is removed if the block raises any error, also KeyboardInterrupt and
    SystemExit. Files that a killed process left in the folder are removed first. Missing folders are created.

    Args:
        path: The file to create.
        overwrite: Whether an existing file is replaced.
        on_disk: Whether the new name must be on the disk at the end of the block. The content always is, but without
            this a power failure within a few seconds may lose the name.
        through: Another folder on the same disk for the temporary file.

    Yields:
        The temporary name. No file exists there yet.

    Raises:
        OutputError: If the file cannot be written (any OSError of the block, of the flush or of the rename).
    """
    path = Path(path).expanduser()
    temporary = (through or path.parent) / hidden_name(split_suffix(path)[1])
    try:
        if path.is_dir():
            raise OutputError(f"{path}: expected a name for a file, got an existing folder; add a file name")
        if not overwrite and path.exists():
            raise OutputError(
                f"{path}: expected no file of that name, got one; allow overwriting or choose another name"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        tidy(path.parent)
        yield temporary
        sync_file(
            temporary
        )  # a crash after the rename could else leave an empty file, and a full disk may fail only here
        os.replace(temporary, path)
        if on_disk:
            sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {reason_of(error)}") from error
    finally:
        with suppress(OSError):  # there is nothing to remove, for example because the parent is a file
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = True,
    replaceable: Callable[[Path], bool] = lambda folder: False,
) -> Iterator[Path]:
    """Yield a hidden folder beside the real one to write to, and rename it when the block ends without an error.

    Args:
        path: The folder to create. Missing folders above it are created.
        overwrite: Whether an existing folder may be replaced.
        replaceable: A function that returns whether the content of an existing folder may be replaced, so that other
            files are never removed. An empty folder is always replaced.

    Yields:
        The hidden folder, which exists and is empty. It is removed if the block raises any error.

    Raises:
        OutputError: If the folder cannot be written, or another folder has its name.
    """
    path = Path(path).expanduser()
    hidden = path.with_name(hidden_name())
    try:
        check_folder(path, overwrite=overwrite, replaceable=replaceable)
        hidden.mkdir(parents=True)
        tidy(path.parent)
        yield hidden
        for file in hidden.rglob("*"):
            if file.is_file():
                sync_file(file)
        put_in_place(hidden, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {reason_of(error)}") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def check_folder(
    path: Path, *, overwrite: bool = True, replaceable: Callable[[Path], bool] = lambda folder: False
) -> None:
    """Raise OutputError unless a folder of this name may be created; see `atomic_folder`."""
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(f"{path}: expected a name for a folder, got an existing file; choose another name")
    if any(path.iterdir()) and not (overwrite and replaceable(path)):
        what = "one that holds other files" if overwrite else "one"
        raise OutputError(f"{path}: expected no folder of that name, got {what}; remove it or choose another name")


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a finished file or folder its real name, and replace a file or folder that has this name.

    To replace a folder takes two renames. If the computer dies between them, the older folder remains under a hidden
    name beside the new one.

    Raises:
        OSError: If it cannot be renamed; then the older file or folder is unchanged.
    """
    if not (temporary.is_dir() and path.is_dir()):
        os.replace(temporary, path)
        return
    aside = path.with_name(f".medsr-older-{secrets.token_hex(6)}")  # `remove_leftovers` does not remove this name
    os.replace(path, aside)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.replace(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def reason_of(error: OSError) -> str:
    """Return why a file cannot be written and what to do about it."""
    known = _REASONS.get(error.errno or 0)
    return known or " ".join((error.strerror or str(error)).split())


def write_text(
    path: str | os.PathLike[str], text: str, *, overwrite: bool = True, on_disk: bool = False, mode: int | None = None
) -> None:
    """Write a text file in UTF-8, complete or not at all; line ends are not changed.

    Args:
        path: The file to create.
        text: The content of the file.
        overwrite: See `atomic_path`.
        on_disk: See `atomic_path`.
        mode: The permissions of the file; by default those that the system gives to new files.

    Raises:
        OutputError: If the file cannot be written.
    """
    with atomic_path(path, overwrite=overwrite, on_disk=on_disk) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
        if mode is not None:
            temporary.chmod(mode)


def write_json_atomic(
    path: str | os.PathLike[str], content: Mapping[str, Any], *, overwrite: bool = True, on_disk: bool = False
) -> None:
    """Write a JSON file, complete or not at all; see `atomic_path` for the options.

    numpy values, tensors, paths and fractions become numbers, lists and strings. JSON has no NaN and no infinity, so
    these become the strings "nan", "inf" and "-inf", which ``float()`` understands.

    Raises:
        OutputError: If the file cannot be written, or a value has no JSON form.
    """
    try:
        text = json.dumps(_plain(content), indent=2, allow_nan=False, ensure_ascii=False)
    except TypeError as error:
        raise OutputError(f"{path}: cannot be written: {error}; use numbers, text, lists and dictionaries") from error
    write_text(path, text + "\n", overwrite=overwrite, on_disk=on_disk)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars, torch tensors
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike) or type(value).__name__ in ("Fraction", "device", "dtype"):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")
