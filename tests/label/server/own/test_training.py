"""Training on the datastore's pairs: into a folder of its own, and refused in one line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytestmark = [pytest.mark.server, pytest.mark.slow]

ANY_SCALE = "recnn3d"  # takes every request


@pytest.fixture
def pairs(server: Any, root: Path, inputs: Path, tmp_path: Path, write_hr: Callable[..., None]) -> Iterator[None]:
    """HR labels for two of the images, on the bundle's grid."""
    for stem, suffix in (("plain", ".nii"), ("packed", ".nii.gz")):
        file = tmp_path / f"{stem}.nii.gz"
        write_hr(root, inputs / f"{stem}{suffix}", file)
        assert server.put_label(stem, file).status_code == 200
    yield
    for stem in ("plain", "packed"):
        server.session.delete(f"{server.url}/datastore/label", params={"id": stem, "tag": "final"})


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize("run_sync", [True, False], ids=["sync", "async"])
def test_training(server: Any, medsr_app: Path, root: Path, small_training: dict[str, Any], run_sync: bool) -> None:
    shipped = hashlib.sha256((root / "models" / "model.pt").read_bytes()).digest()
    offered = server.get("/info/").json()["trainers"][root.name]["config"]
    numbers = {key: value for key, value in small_training.items() if key in offered}
    runs = medsr_app / "runs" / root.name
    before = set(runs.iterdir()) if runs.is_dir() else set()
    answer = server.train(root.name, run_sync, **numbers)
    assert answer.status_code == 200, answer.text
    if not run_sync:
        done = server.finished("train")
        assert done["status"] == "DONE", done["details"]
    (run,) = set(runs.iterdir()) - before
    if run_sync:
        assert answer.json() == {"run": run.name, "weights": f"runs/{root.name}/{run.name}/model.pt"}
    assert (run / "model.pt").is_file()
    assert (run / "model.pt").read_bytes() != (root / "models" / "model.pt").read_bytes()
    assert hashlib.sha256((root / "models" / "model.pt").read_bytes()).digest() == shipped
    assert not (root / "runs").exists()


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize("run_sync", [True, False], ids=["sync", "async"])
def test_training_that_is_refused(server: Any, images: Path, run_sync: bool, refused: Callable[..., None]) -> None:
    """A pair that lies elsewhere: the bundle's program would end by SystemExit, and the server with it."""
    moved = nib.load(images / "packed.nii.gz")
    affine = moved.affine @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] += 500
    file = server.studies.parent / "moved.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((24, 28, 20), np.float32), affine), file)
    for stem in ("plain", "packed"):
        assert server.put_label(stem, file).status_code == 200
    answer = server.train(ANY_SCALE, run_sync, steps_per_epoch=1)
    if run_sync:
        refused(answer, 400, "HR", str(server.studies))
    else:
        done = server.finished("train")
        assert done["status"] == "ERROR"
        assert done["details"][-1].startswith("medsr: error: ")
        assert str(server.studies) not in done["details"][-1]
    assert server.alive()


def test_training_without_pairs_or_with_wrong_numbers(server: Any, refused: Callable[..., None]) -> None:
    refused(server.train(ANY_SCALE, True), 400, "expected at least two images")
    refused(server.train(ANY_SCALE, True, steps_per_epoch="many"), 400, "expected a number for steps_per_epoch")
    refused(server.train(ANY_SCALE, True, output_dir="/tmp/x"), 400, "there is no parameter 'output_dir'")
    refused(server.train("no_such_model", True), 404, "there is no model")
