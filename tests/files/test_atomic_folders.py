"""Folders that appear complete or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from medsr.errors import OutputError
from medsr.files.atomic import atomic_folder, put_in_place


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_folder_appears_at_the_end(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "new" / "a") as hidden:
        (hidden / "x").write_text("x")
        assert not (tmp_path / "new" / "a").exists()
    assert names(tmp_path) == ["new", "new/a", "new/a/x"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_nothing_is_left_when_the_block_ends_early(tmp_path: Path, error: type[BaseException]) -> None:
    def write() -> None:
        with atomic_folder(tmp_path / "a") as hidden:
            (hidden / "x").write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == []


def test_what_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with atomic_folder(tmp_path / "a") as hidden:  # an empty folder is in nobody's way
        (hidden / "x").write_text("1")
    with pytest.raises(OutputError, match="a: expected no folder of that name, got one that holds other files"):
        atomic_folder(tmp_path / "a").__enter__()
    with atomic_folder(tmp_path / "a", replaceable=lambda folder: True) as hidden:
        (hidden / "y").write_text("2")
    assert names(tmp_path) == ["a", "a/y"]
    with pytest.raises(OutputError, match="a: expected no folder of that name, got one; remove it"):
        atomic_folder(tmp_path / "a", overwrite=False, replaceable=lambda folder: True).__enter__()
    (tmp_path / "b").write_text("a file")
    with pytest.raises(OutputError, match="b: expected a name for a folder, got an existing file"):
        atomic_folder(tmp_path / "b", replaceable=lambda folder: True).__enter__()
    assert names(tmp_path) == ["a", "a/y", "b"]


def test_an_older_folder_comes_back_when_the_new_one_cannot_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    original = os.replace

    def refuse(source: Any, target: Any) -> None:
        if Path(source).name == "new":
            raise OSError(5, "Input/output error")
        original(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="Input/output"):
        put_in_place(tmp_path / "new", tmp_path / "old")
    assert names(tmp_path) == ["new", "new/new", "old", "old/old"]
    with (
        pytest.raises(OutputError, match="old: cannot be written: Input/output error"),
        atomic_folder(tmp_path / "old", replaceable=lambda folder: True) as hidden,
    ):
        monkeypatch.setattr(os, "replace", lambda source, target: refuse(tmp_path / "new", target))
    assert not hidden.exists()
    assert names(tmp_path) == ["new", "new/new", "old", "old/old"]
