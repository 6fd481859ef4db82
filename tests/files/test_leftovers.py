"""What killed runs left is removed; what somebody may still be writing is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medsr.files import leftovers
from medsr.files.atomic import atomic_folder, atomic_path
from medsr.files.leftovers import ABANDONED, hidden_name, remove_leftovers


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def named(owner: int, computer: str | None = None) -> str:
    _, own, _, random = hidden_name().split("-")
    return f".medsr-{computer or own}-{owner}-{random}"


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_of_this_computer_by_process(tmp_path: Path, dead: int) -> None:
    file, folder = tmp_path / f"{named(dead)}.nii.gz", tmp_path / named(dead)
    file.write_text("half")
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "half.dcm").write_text("half")
    own, parent = tmp_path / hidden_name(".json"), tmp_path / named(os.getppid())
    own.write_text("half")
    parent.mkdir()
    age(own, 10 * ABANDONED)
    age(parent, 10 * ABANDONED)
    assert set(remove_leftovers(tmp_path)) == {file, folder}
    assert set(tmp_path.iterdir()) == {own, parent}, "a process that lives keeps its files, however old"


def test_of_other_computers_by_age(tmp_path: Path, dead: int) -> None:
    old, young, changing = (tmp_path / named(dead, "0123abcd") for _ in range(3))
    for folder in (old, young, changing):
        folder.mkdir()
        (folder / "half").write_text("half")
    for path in (old / "half", old, changing):
        age(path, ABANDONED + 60)
    assert remove_leftovers(tmp_path) == [old]
    assert set(tmp_path.iterdir()) == {young, changing}, "a file in it was just written"


def test_nothing_else_is_touched(tmp_path: Path, dead: int) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a").write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    names = [".medsr-0123456789ab", ".medsr-older-0123456789ab", "medsr-x", f"{named(dead)}x", f"x{named(dead)}"]
    for name in names:
        (out / name).write_text("not ours")
        age(out / name, 10 * ABANDONED)
    link = out / named(dead)
    link.symlink_to(precious)
    assert remove_leftovers(out) == []
    assert len(list(out.iterdir())) == len(names) + 1
    assert (precious / "a").exists()
    assert remove_leftovers(tmp_path / "absent") == []
    assert remove_leftovers(precious / "a") == []


def test_writers_use_these_names(tmp_path: Path) -> None:
    for make in (atomic_path, atomic_folder):
        with make(tmp_path / "a.nii.gz") as temporary:
            assert leftovers._NAME.fullmatch(temporary.name)
            if make is atomic_path:
                temporary.write_text("x")
            assert remove_leftovers(tmp_path) == [], "its process lives"
        (tmp_path / "a.nii.gz").unlink() if make is atomic_path else None


def test_unreadable_folders_raise_nothing(tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "no")

    (tmp_path / named(dead)).mkdir()
    monkeypatch.setattr("shutil.rmtree", fail)
    assert remove_leftovers(tmp_path) == []
    monkeypatch.setattr("os.scandir", fail)
    assert remove_leftovers(tmp_path) == []
