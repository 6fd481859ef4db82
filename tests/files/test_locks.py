"""A folder is one process's at a time, and nobody's when that process has ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from medsr.errors import OutputError
from medsr.files.locks import FolderLock

HOLD = """
import sys, time
from pathlib import Path
from medsr.files.locks import FolderLock
lock = FolderLock(Path(sys.argv[1]), "is taken")
lock.acquire()
print("has it", flush=True)
time.sleep(600)
"""


def test_another_process_has_it_until_it_dies(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    lock = FolderLock(folder, "is in use by another training; choose another")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "has it\n"
        with pytest.raises(OutputError) as caught:
            lock.acquire()
        assert str(caught.value) == f"{folder} is in use by another training; choose another"
        lock.release()  # what it does not have
        assert list(folder.iterdir()), "the other one's lock is still there"
    finally:
        holder.kill()
        holder.communicate()
    lock.acquire()
    lock.release()
    assert list(folder.iterdir()) == []


def test_nothing_is_left(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "new" / "runs", "is taken")
    lock.acquire()
    with pytest.raises(OutputError, match="runs is taken"):
        FolderLock(tmp_path / "new" / "runs", "is taken").acquire()
    lock.release()
    lock.release()
    assert not (tmp_path / "new" / "runs").exists(), "it was made for the lock, and nothing was written"
    lock.acquire()
    (tmp_path / "new" / "runs" / "model.pt").write_text("x")
    lock.release()
    assert [path.name for path in (tmp_path / "new" / "runs").iterdir()] == ["model.pt"]


def test_a_folder_of_the_user_stays(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    lock = FolderLock(tmp_path / "runs", "is taken")
    lock.acquire()
    lock.release()
    assert (tmp_path / "runs").is_dir()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written: a part of its path is a file, not a folder"):
        FolderLock(tmp_path / "file" / "runs", "is taken").acquire()
