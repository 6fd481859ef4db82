"""Known weight files from Python: recognised by hash, placed where they belong."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from medsr.bundle.weight_files import WeightFile, known_weight_files, recognise, write_bundle_hashes
from medsr.errors import InputError
from medsr.weights import EXTERNAL


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny bundle, the only one installed, and an empty folder for other weights."""
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundles" / "tinysr"))
    monkeypatch.setattr("medsr.bundle.catalogue.bundle_directories", lambda: [root.parent])
    monkeypatch.setenv("MEDSR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return root


def test_a_bundle_gets_its_recorded_weights_back(bundle: Path, tmp_path: Path) -> None:
    assert [file.name for file in known_weight_files()] == ["tinysr/model.pt", *EXTERNAL]
    (file,) = known_weight_files(["tinysr/model.pt"])
    assert (file.sha256, file.fault(required=False)) == (None, None), "nobody recorded its hash"
    weights = bundle / "models" / "model.pt"
    content = weights.read_bytes()
    assert write_bundle_hashes(bundle) == weights.parent / "SHA256SUMS"
    saved = weights.rename(tmp_path / "saved")
    (file,) = known_weight_files(["tinysr/model.pt"])
    assert file.summary()["state"] == "absent"
    assert "is missing" in str(file.fault(required=False)), "a recorded file of a bundle must be there"
    found = recognise([saved])
    assert (found.files, found.others) == ({saved: file}, 0)
    found.files[saved].place(saved)
    assert weights.read_bytes() == content
    (file,) = known_weight_files(["tinysr/model.pt"])
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert (file.summary()["state"], file.fault(required=True)) == ("present, as recorded", None)
    file.place(weights)  # which lies there already
    assert weights.read_bytes() == content


def test_what_is_not_known_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weight file is called 'x'"):
        known_weight_files(["x"])
    with pytest.raises(InputError, match="expected files to import"):
        recognise([])
    (tmp_path / "mine.pt").write_bytes(b"something")
    with pytest.raises(InputError, match="not a weight file whose hash medsr knows"):
        recognise([tmp_path / "mine.pt"])
    with pytest.raises(InputError, match=r"got 1 other\(s\)"):
        recognise([], tmp_path)
    unrecorded = WeightFile("tinysr/model.pt", bundle / "models" / "model.pt", None, None, {})
    with pytest.raises(InputError, match="hash is recorded"):
        unrecorded.place(tmp_path / "mine.pt")


def test_only_weights_are_recorded(bundle: Path) -> None:
    (bundle / "models" / "model.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not a file of weights"):
        write_bundle_hashes(bundle / "models")
    assert not (bundle / "models" / "SHA256SUMS").exists()
