"""Devices by name, the memory allocator, and where the bundle lies."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medsr.errors import InputError
from medsr.runtime import bundle_root, choose_device, keep_freed_memory


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device() == torch.device(expected)


def test_named_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device(torch.device("cuda:7")) == torch.device("cuda:7")  # the caller knows


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "cpu:x"])
def test_device_that_cannot_be_used_is_a_one_line_error(name: str) -> None:
    with pytest.raises(InputError, match=f"device {name!r} cannot be used here: ") as error:
        choose_device(name)
    assert "\n" not in str(error.value)


def test_allocator_is_told_by_the_numbers_of_malloc_h(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[int, int] = {}

    def mallopt(parameter: int, value: int) -> int:
        told[parameter] = value
        return 1

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert keep_freed_memory()
    assert told == {-4: 0, -1: 2**31 - 1, -2: 256 << 20}  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert not keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", pytest.fail)
    assert not keep_freed_memory()


@pytest.mark.parametrize(
    "words",
    [
        ["--config_file", "{0}/configs/train.json"],
        ["--config-file={0}/configs/train.json"],
        ["run", "--max_epochs", "1", "--config_file", "['{0}/configs/train.json', '{0}/configs/more.json']"],
        ["--config_file", "[{0}/configs/train.json,{0}/configs/more.json]"],
    ],
)
def test_bundle_is_where_its_config_file_is(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "train.json").touch()
    assert bundle_root(["-m", *(word.format(tmp_path) for word in words)]) == str(tmp_path)


def test_bundle_is_the_current_folder_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.json").touch()
    assert bundle_root(["--config_file", str(tmp_path / "train.json")]) == "."  # not a bundle's layout
    assert bundle_root(["--config_file", str(tmp_path / "configs" / "gone.json")]) == "."
    assert bundle_root(["--config_file"]) == "."
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert bundle_root() == "."
