"""``medsr weights``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medsr.weights import EXTERNAL

Command = Callable[..., Any]
NAME = "vgg19-imagenet"


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny bundle, the only one installed, its hash recorded; and empty folders for other weights."""
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "bundles" / "tinysr"))
    monkeypatch.setattr("medsr.bundle.catalogue.bundle_directories", lambda: [root.parent])
    monkeypatch.setenv("MEDSR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    digest = hashlib.sha256((root / "models" / "model.pt").read_bytes()).hexdigest()
    (root / "models" / "SHA256SUMS").write_text(f"{digest}  model.pt\n")
    return root


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the catalogue takes for VGG-19."""
    path = tmp_path / "downloads" / EXTERNAL[NAME].file
    path.parent.mkdir()
    torch.save({"x": torch.zeros(3)}, path)
    content = path.read_bytes()
    small = dataclasses.replace(EXTERNAL[NAME], size=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(EXTERNAL, NAME, small)
    return path


def one_line(done: Any, status: int, words: str) -> None:
    assert done.status == status
    assert done.err.startswith("medsr: error: ")
    assert len(done.err.splitlines()) == 1, done.err
    assert words in done.err


@pytest.mark.usefixtures("bundle")
def test_list(medsr_command: Command, download: Path, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in json.loads(medsr_command("weights", "list", "--json").out)}
    assert set(rows) == {"tinysr/model.pt", *EXTERNAL}
    assert rows["tinysr/model.pt"]["state"] == "present, as recorded"
    assert rows[NAME]["state"] == "absent"
    assert rows[NAME]["path"] == str(tmp_path / "weights" / download.name)
    for row in rows.values():
        assert row["purpose"]
        assert row["terms"]
        assert row["source"]
        assert len(row["sha256"]) == 64
    text = medsr_command("weights", "list").out
    for entry in EXTERNAL.values():
        for part in (entry.name, entry.purpose, entry.terms, entry.source, f"{entry.size:,}", entry.sha256):
            assert part in text


def test_verify(medsr_command: Command, bundle: Path, download: Path) -> None:
    done = medsr_command("weights", "verify")
    assert (done.status, done.err) == (0, "")
    assert "tinysr/model.pt: intact" in done.out
    one_line(medsr_command("weights", "verify", NAME), 1, "weights import")
    one_line(medsr_command("weights", "verify", "nonsense"), 2, "no weight file is called 'nonsense'")
    assert medsr_command("weights", "import", download).status == 0
    assert medsr_command("weights", "verify", NAME).out == f"{NAME}: intact\n"

    weights = bundle / "models" / "model.pt"
    content = weights.read_bytes()
    weights.write_bytes(content + b"x")
    one_line(medsr_command("weights", "verify"), 1, "SHA-256")
    assert "CHANGED" in medsr_command("weights", "list").out
    weights.unlink()
    one_line(medsr_command("weights", "verify"), 1, "is missing")
    weights.write_bytes(content)
    (bundle / "models" / "SHA256SUMS").unlink()
    done = medsr_command("weights", "verify", "tinysr/model.pt")
    assert (done.status, done.out) == (0, "tinysr/model.pt: present, no hash recorded\n")


@pytest.mark.usefixtures("bundle")
def test_import_by_hash_whatever_the_name(medsr_command: Command, download: Path, tmp_path: Path) -> None:
    renamed = download.rename(download.with_name("a b.bin"))
    done = medsr_command("weights", "import", renamed)
    assert done.status == 0, done.err
    assert (tmp_path / "weights" / EXTERNAL[NAME].file).read_bytes() == renamed.read_bytes()
    assert medsr_command("weights", "import", tmp_path / "weights" / EXTERNAL[NAME].file).status == 0, (
        "is there already"
    )


def test_import_gives_a_bundle_its_weights_back(medsr_command: Command, bundle: Path, tmp_path: Path) -> None:
    weights = bundle / "models" / "model.pt"
    content = weights.read_bytes()
    saved = weights.rename(tmp_path / "saved.pt")
    assert medsr_command("weights", "import", saved).status == 0
    assert weights.read_bytes() == content


@pytest.mark.usefixtures("bundle")
def test_import_refuses_what_it_does_not_know(medsr_command: Command, download: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(b"something")
    one_line(medsr_command("weights", "import", tmp_path / "mine.pt"), 2, "--weights FILE")
    download.write_bytes(download.read_bytes()[:-1])
    one_line(medsr_command("weights", "import", download), 2, f"is not {NAME}: its hash is another")
    one_line(medsr_command("weights", "import", tmp_path / "no.pt"), 2, "is missing")
    one_line(medsr_command("weights", "import"), 2, "--from-directory")
    assert not (tmp_path / "weights").exists()


@pytest.mark.usefixtures("bundle")
def test_import_from_a_directory(medsr_command: Command, download: Path, tmp_path: Path) -> None:
    (download.parent / "other.pth").write_bytes(b"something")
    done = medsr_command("weights", "import", "--from-directory", download.parent)
    assert done.status == 0
    assert "ignored 1 other file(s)" in done.err
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [download.name]
    download.unlink()
    one_line(medsr_command("weights", "import", "--from-directory", download.parent), 2, "got 1 other(s)")
    one_line(medsr_command("weights", "import", "--from-directory", tmp_path / "no"), 2, "expected a folder")


def test_upscale_checks_the_hash_and_takes_own_weights(
    medsr_command: Command, bundle: Path, phantom: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    nib.save(nib.Nifti1Image(phantom((8, 8, 8)), np.eye(4)), tmp_path / "a.nii.gz")
    command = ("upscale", tmp_path / "a.nii.gz", "-o", tmp_path / "out", "--scale", "2", "--bundle", bundle)
    weights = bundle / "models" / "model.pt"
    retrained = {key: value * 2 for key, value in torch.load(weights, weights_only=True).items()}
    torch.save(retrained, tmp_path / "own.pt")

    def method() -> dict[str, Any]:
        return json.loads((tmp_path / "out" / "a_sr.json").read_text())["method"]

    assert medsr_command(*command, "--weights", tmp_path / "own.pt", "--no-preview").status == 0
    assert (method()["weights"], method()["weights_recorded"]) == ("own.pt", False)
    assert method()["weights_sha256"] == hashlib.sha256((tmp_path / "own.pt").read_bytes()).hexdigest()
    assert medsr_command(*command, "--no-preview").status == 0
    assert (method()["weights"], method()["weights_recorded"]) == ("model.pt", True)

    torch.save(retrained, weights)
    one_line(medsr_command(*command), 2, f"medsr weights record {weights.parent}")
    done = medsr_command("weights", "record", bundle)
    assert (done.status, done.out) == (0, f"{weights.parent / 'SHA256SUMS'}\n")
    assert medsr_command(*command, "--no-preview").status == 0
    one_line(medsr_command(*command, "--weights", tmp_path / "no.pt"), 2, "is missing")


def test_record_refuses_what_is_no_weights(medsr_command: Command, bundle: Path) -> None:
    before = (bundle / "models" / "SHA256SUMS").read_text()
    (bundle / "models" / "model.pt").write_bytes(b"nothing")
    one_line(medsr_command("weights", "record", bundle / "models"), 2, "is not a file of weights")
    (bundle / "models" / "model.pt").unlink()
    one_line(medsr_command("weights", "record", bundle), 2, "expected weight files")
    assert (bundle / "models" / "SHA256SUMS").read_text() == before
