"""One image enlarged for a client, without a server."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medsr.bundle import Bundle
from medsr.errors import GridError, InputError
from medsr.label.enlarging import enlarge, packed
from medsr.label.parameters import parse_request


@pytest.fixture
def image(tmp_path: Path, phantom: Callable[..., np.ndarray], oblique_affine: np.ndarray) -> Path:
    path = tmp_path / "patient.nii.gz"
    nib.save(nib.Nifti1Image(phantom((8, 7, 6)), oblique_affine), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    made.mkdir()
    return made


def test_file_is_that_of_the_command(
    tiny_bundle: Path, image: Path, folder: Path, tmp_path: Path, medsr_command: Callable[..., Any]
) -> None:
    request = parse_request({"scale": [1, 2, 2.5], "device": "cpu"})
    result = enlarge(Bundle(tiny_bundle), image, request, folder, name="case 1")
    done = medsr_command("upscale", image, "-o", tmp_path / "out", "--bundle", tiny_bundle, "--scale", 1, 2, 2.5)
    assert done.status == 0, done.err
    sent = packed(result, "case")
    try:
        assert sent.name.endswith(".nii.gz")
        assert sent.stat().st_mode & 0o077 == 0, "nobody else may read it"
        ours, command = nib.load(sent), nib.load(tmp_path / "out" / "patient_sr.nii.gz")
        np.testing.assert_array_equal(ours.get_fdata(), command.get_fdata())
        np.testing.assert_array_equal(ours.affine, command.affine)
    finally:
        sent.unlink()
    assert result.record["input"]["name"] == "case 1"
    assert "patient" not in json.dumps(result.record)


def test_maps_come_in_an_archive(tiny_bundle: Path, image: Path, folder: Path) -> None:
    request = parse_request({"consistency": True, "uncertainty": True, "result_extension": ".mha"})
    result = enlarge(Bundle(tiny_bundle), image, request, folder, name="case")
    assert set(result.maps) == {"consistency", "uncertainty"}
    sent = packed(result, "case")
    try:
        with zipfile.ZipFile(sent) as archive:
            names = {"case_sr.mha", "case_sr_std.mha", "case_sr_consistency.mha", "case_sr.json"}
            assert set(archive.namelist()) == names
            assert json.loads(archive.read("case_sr.json"))["disclaimer"].startswith("Research use only")
    finally:
        sent.unlink()


def test_settings_of_the_server_hold_unless_replaced(tiny_bundle: Path, image: Path, folder: Path) -> None:
    bundle, limit = Bundle(tiny_bundle), {"inferer::max_voxels": 1000}
    with pytest.raises(GridError, match="above the limit of 1,000") as error:
        enlarge(bundle, image, parse_request({"scale": 2}), folder, name="case", defaults=limit)
    assert "\n" not in str(error.value)
    assert not list(folder.iterdir())


def test_weights_are_loaded_strictly(tiny_bundle: Path, image: Path, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_bundle, tmp_path / "copy")
    weights = torch.load(copy / "models" / "model.pt", weights_only=True)
    torch.save({f"other.{key}": value for key, value in weights.items()}, copy / "models" / "model.pt")
    with pytest.raises(InputError, match="does not fit"):
        enlarge(Bundle(copy), image, parse_request({}), folder, name="case")


def test_command_writes_the_app(medsr_command: Callable[..., Any], tmp_path: Path) -> None:
    app = tmp_path / "app"
    for _ in range(2):  # again is no fault
        done = medsr_command("label-app", "--output", app)
        assert done.status == 0, done.err
        assert f"--app {app}" in done.out
    assert "from medsr.label.app import MedsrApp" in (app / "main.py").read_text()
    (app / "main.py").write_text("print('mine')")
    done = medsr_command("label-app", "--output", app)
    assert done.status == 2
    assert "is another app's" in done.err
    assert (app / "main.py").read_text() == "print('mine')"
