"""Hidden names for what is being written, and the removal of those that a killed process left behind.

A name holds its owner: `.medsr-<computer>-<process>-<random>`, so that a later run in the same folder knows whether
somebody still writes there. Nothing else is ever removed.

All writers of this package use these names, and remove what they find in a folder when they first write to it.
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

ABANDONED = 48 * 3600.0  # seconds; writing the files of one image takes seconds or minutes
_PREFIX = ".medsr-"
_NAME = re.compile(r"\.medsr-(?P<computer>[0-9a-f]{8})-(?P<process>\d{1,10})-[0-9a-f]{12}(\.[A-Za-z0-9.]{1,16})?")


def hidden_name(suffix: str = "") -> str:
    """Return a new name for a temporary file or folder of this process."""
    return f"{_PREFIX}{_computer()}-{os.getpid()}-{secrets.token_hex(6)}{suffix}"


def tidy(folder: Path) -> None:
    """Remove the leftovers of a folder when this process first writes to it, so that no door can forget to."""
    _tidy(os.path.abspath(folder))


@lru_cache(maxsize=1024)
def _tidy(folder: str) -> None:
    remove_leftovers(Path(folder))


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what dead processes left in a folder under names of `hidden_name`.

    Of a process of this computer it is known whether it lives; what another computer or container wrote (or a system
    that cannot tell) is left for two days after the last change in it. Links are not followed, and nothing is raised.

    Returns:
        What was removed.
    """
    removed = []
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if _NAME.fullmatch(entry.name)]
    except OSError:  # no such folder yet, or one that may not be listed
        return []
    for entry in found:
        path = Path(entry.path)
        with suppress(OSError):  # another run may be removing it too
            if not entry.is_symlink() and _is_dead(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path)
    if removed:
        logger.info("%s: removed %d temporary file(s) of runs that were killed", folder, len(removed))
    return removed


def remove_all_hidden(folder: Path) -> None:
    """Remove everything under a hidden name of this package in a folder and below it, whoever wrote it.

    For a folder that no other process may use, such as the queue of a node that has its lock.
    """
    for path in list(folder.rglob(f"{_PREFIX}*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_dead(path: Path) -> bool:
    match = _NAME.fullmatch(path.name)
    assert match is not None  # it was chosen by it
    if match["computer"] == _computer() and os.name == "posix":
        return not _is_alive(int(match["process"]))
    return time.time() - _last_change(path) > ABANDONED


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it lives, and is another user's
        pass
    return True


def _last_change(path: Path) -> float:
    """Return the latest time of modification (s) of a file, or of anything in a folder."""
    times = [path.lstat().st_mtime]
    for root, _, names in os.walk(path):
        times += [os.lstat(os.path.join(root, name)).st_mtime for name in names]
    return max(times)


@cache
def _computer() -> str:
    """Eight digits that differ between computers, and between containers of one, whose process numbers mean others."""
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
