"""Weight files are found, recognised by their hashes, and loaded only when they are what they should be."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from medsr.errors import InputError, OutputError
from medsr.weights import (
    EXTERNAL,
    HASH_FILE,
    ExternalFile,
    check_hash,
    directory,
    find,
    load_weights,
    place_copy,
    read_hashes,
    write_hashes,
)

NAME = "vgg19-imagenet"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ExternalFile, Path]:
    """A small file in the place of VGG-19 in the catalogue."""
    path = tmp_path / "download.pth"
    torch.save(nn.Linear(3, 2).state_dict(), path)
    content = path.read_bytes()
    small = dataclasses.replace(EXTERNAL[NAME], size=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(EXTERNAL, NAME, small)
    return small, path


@pytest.mark.parametrize("entry", EXTERNAL.values(), ids=lambda e: e.name)
def test_names_of_the_publishers_hold_their_hashes(entry: ExternalFile) -> None:
    match = re.fullmatch(r".*-([0-9a-f]{8})\.pth", entry.file)
    assert match is not None
    assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.sha256.startswith(match[1])
    assert entry.source.startswith("https://")
    assert entry.source.endswith(f"/{entry.file}")
    assert entry.size > 1e6


def test_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert directory() == tmp_path / "weights"
    monkeypatch.delenv("MEDSR_WEIGHTS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert directory().parts[-2:] == ("medsr", "weights")
    if os.name == "posix" and os.uname().sysname == "Linux":
        assert directory() == tmp_path / "data" / "medsr" / "weights"


def test_missing_file_says_all(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        find(NAME)
    message = str(caught.value)
    assert "\n" not in message
    for part in (EXTERNAL[NAME].source, EXTERNAL[NAME].sha256, str(tmp_path / "weights"), "medsr weights import"):
        assert part in message
    with pytest.raises(InputError, match="no weight file is called 'vgg'; choose from vgg19-imagenet"):
        find("vgg")


def test_found_in_our_folder_then_in_torchs_cache(entry: tuple[ExternalFile, Path], tmp_path: Path) -> None:
    small, path = entry
    cached = tmp_path / "torch" / "hub" / "checkpoints" / small.file
    cached.parent.mkdir(parents=True)
    cached.write_bytes(path.read_bytes())
    assert find(NAME) == cached
    place_copy(path, directory() / small.file, small.sha256)
    assert find(NAME) == tmp_path / "weights" / small.file
    assert torch.load(find(NAME), weights_only=True).keys() == {"weight", "bias"}


def test_changed_file_is_refused(entry: tuple[ExternalFile, Path]) -> None:
    small, path = entry
    place_copy(path, directory() / small.file, small.sha256)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    (directory() / small.file).write_bytes(content)
    with pytest.raises(InputError, match="SHA-256"):
        find(NAME)
    (directory() / small.file).write_bytes(content[:-1])
    with pytest.raises(InputError, match="bytes, expected"):
        find(NAME)


def test_copies_are_complete_or_absent(tmp_path: Path) -> None:
    source, target = tmp_path / "a.pth", tmp_path / "new" / "b.pth"
    torch.save({"x": torch.zeros(1)}, source)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    place_copy(source, target, digest)
    assert target.read_bytes() == source.read_bytes()
    target.write_bytes(b"older")
    with pytest.raises(InputError, match="expected 0000"):
        place_copy(source, target, "0" * 64)
    with pytest.raises(InputError, match="cannot be read"):
        place_copy(tmp_path / "absent.pth", target, digest)
    assert target.read_bytes() == b"older"
    assert [path.name for path in target.parent.iterdir()] == ["b.pth"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        place_copy(source, tmp_path / "file" / "b.pth", digest)


def test_unfinished_copies_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.pth"
    torch.save({"x": torch.zeros(1)}, source)
    modes = []

    def look(path: Path) -> None:
        modes.append(stat.S_IMODE(path.stat().st_mode))

    monkeypatch.setattr("medsr.weights.store.read_checkpoint", look)
    place_copy(source, tmp_path / "b.pth", hashlib.sha256(source.read_bytes()).hexdigest())
    assert modes == [0o600]


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (print, ("code from a weight file ran",))


def test_what_is_no_weights_is_not_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "a.pth"
    source.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(InputError, match="is not a file of weights") as caught:
        place_copy(source, tmp_path / "b.pth", hashlib.sha256(source.read_bytes()).hexdigest())
    assert str(source) in str(caught.value)
    assert ".medsr-" not in str(caught.value)
    assert "ran" not in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.pth"]


def test_record_is_that_of_sha256sum(tmp_path: Path) -> None:
    for name in ("model.pt", "model_segmentation.pt"):
        (tmp_path / name).write_bytes(name.encode())
    assert not check_hash(tmp_path / "model.pt")
    write_hashes(tmp_path, tmp_path.glob("*.pt"))
    assert set(read_hashes(tmp_path)) == {"model.pt", "model_segmentation.pt"}
    done = subprocess.run(["sha256sum", "--check", "--strict", HASH_FILE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert check_hash(tmp_path / "model.pt")
    (tmp_path / "model.pt").write_bytes(b"other")
    with pytest.raises(InputError, match=r"model\.pt has SHA-256 .* medsr weights record") as caught:
        check_hash(tmp_path / "model.pt")
    assert "\n" not in str(caught.value)
    assert check_hash(tmp_path / "model_segmentation.pt")
    for text in ("0123  model.pt\n", f"{'0' * 64}  ../model.pt\n", "\x00"):
        (tmp_path / HASH_FILE).write_text(text)
        with pytest.raises(InputError, match="expected lines"):
            check_hash(tmp_path / "model.pt")


def test_hash_comes_before_loading(tmp_path: Path) -> None:
    network, other = nn.Linear(2, 1), nn.Linear(2, 1)
    path = tmp_path / "model.pt"
    torch.save(other.state_dict(), path)
    load_weights(network, path)
    assert torch.equal(network.weight, other.weight)
    write_hashes(tmp_path, [path])
    load_weights(network, path)
    torch.save(nn.Linear(2, 1).state_dict(), path)
    with pytest.raises(InputError, match="SHA-256"):
        load_weights(network, path)
    assert torch.equal(network.weight, other.weight)
