"""Make hidden names for unfinished files, and remove the files that killed processes left under such names.

A name states its owner: `.medsr-<computer>-<process>-<random>`, so that a later run in the same folder knows whether
its owner is still writing. Other files are never removed.

All writers of this package use these names, and remove leftovers from a folder when they first write to it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
import socket
import time
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

logger = logging.getLogger(__name__)

ABANDONED = 48 * 3600.0  # seconds; to write the files of one image takes seconds or minutes
_PREFIX = ".medsr-"
_NAME = re.compile(r"\.medsr-(?P<computer>[0-9a-f]{8})-(?P<process>\d{1,10})-[0-9a-f]{12}(\.[A-Za-z0-9.]{1,16})?")


def hidden_name(suffix: str = "") -> str:
    """Return a new name for a temporary file or folder of this process."""
    return f"{_PREFIX}{_computer()}-{os.getpid()}-{secrets.token_hex(6)}{suffix}"


def tidy(folder: Path) -> None:
    """Remove the leftovers from a folder when this process first writes to it."""
    _tidy(os.path.abspath(folder))


@lru_cache(maxsize=1024)
def _tidy(folder: str) -> None:
    remove_leftovers(Path(folder))


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the files and folders that dead processes left in a folder under names of `hidden_name`.

    Whether a process of this computer is alive is known. Files of another computer or container (or on a system that
    cannot tell) are removed two days after their last change. Links are not followed, and no error is raised.

    Returns:
        The files and folders that were removed.
    """
    removed = []
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if _NAME.fullmatch(entry.name)]
    except OSError:  # the folder does not exist yet or may not be listed
        return []
    for entry in found:
        path = Path(entry.path)
        with suppress(OSError):  # another run may remove it at the same time
            if not entry.is_symlink() and _is_dead(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path)
    if removed:
        logger.info("%s: removed %d temporary file(s) of runs that were killed", folder, len(removed))
    return removed


def remove_all_hidden(folder: Path) -> None:
    """Remove all files and folders with a hidden name of this package in a folder and below it, whoever wrote them.

    Use it for a folder that no other process may use, such as the queue of a node that holds its lock.
    """
    for path in list(folder.rglob(f"{_PREFIX}*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_dead(path: Path) -> bool:
    match = _NAME.fullmatch(path.name)
    assert match is not None  # the caller chose it by this pattern
    if match["computer"] == _computer() and os.name == "posix":
        return not _is_alive(int(match["process"]))
    return time.time() - _last_change(path) > ABANDONED


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only checks whether the process exists
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # the process is alive and belongs to another user
        pass
    return True


def _last_change(path: Path) -> float:
    """Return the latest time of modification (s) of a file, or of a folder and its content."""
    times = [path.lstat().st_mtime]
    for root, _, names in os.walk(path):
        times += [os.lstat(os.path.join(root, name)).st_mtime for name in names]
    return max(times)


@cache
def _computer() -> str:
    """Return eight digits that differ between computers and between containers, which number their processes apart."""
    try:
        numbering = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbering = ""
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        started = boot.read_text(encoding="ascii")
    except OSError:
        started = ""
    return hashlib.sha256(f"{socket.gethostname()} {started} {numbering}".encode()).hexdigest()[:8]
