"""The plan for a GPU packs all that a bare machine needs, and its rehearsal trains every network from the archive."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from benchmarks import gpu_archive, gpu_curves, gpu_plan, gpu_run, gpu_stages
from medsr.data.readers import read_volume
from medsr.errors import InputError
from medsr.networks import create


@pytest.fixture
def tiny_data(tmp_path, phantom) -> Path:
    """A folder with a datalist of small volumes, one with more levels than are packed."""
    data = tmp_path / "data"
    data.mkdir()
    sections: dict[str, list[dict[str, str]]] = {"training": [], "validation": []}
    for name, section, kind in (("a", "training", np.int16), ("b", "validation", np.float32)):
        volume = nib.Nifti1Image(phantom((40, 44, 40), seed=ord(name)).astype(kind), np.diag([1, 1, 1, 1.0]))
        nib.save(volume, data / f"{name}.nii.gz")
        sections[section].append({"label": f"{name}.nii.gz", "subject": name, "resolution": "isotropic"})
    (data / "datalist.json").write_text(json.dumps(sections))
    return data


def test_the_archive_is_complete_and_its_images_are_those_of_the_data(tiny_data, tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with pytest.raises(InputError, match=r"expected wheels \(\*\.whl\)"):
        gpu_archive.prepare(tiny_data, tmp_path / "none", wheels)
    (wheels / "x-1-py3-none-any.whl").write_bytes(b"0123")
    plan = tmp_path / "plan"
    gpu_archive.prepare(tiny_data, plan, wheels)
    listed = json.loads((plan / "manifest.json").read_text())["sha256"]
    there = {path.relative_to(plan).as_posix() for path in plan.rglob("*") if path.is_file()}
    assert set(listed) == there - {"manifest.json"}
    assert listed["wheels/x-1-py3-none-any.whl"] == "1be2e452b46d7a0d9656bbb1f768e8248eba1b75baed65f5d99eafa948899a6a"
    gpu_run.unpack(plan / "data.tar.bz2", tmp_path / "unpacked")
    for name in ("a", "b"):
        path = f"{name}.nii.gz"
        before, after = read_volume(tiny_data / path), read_volume(tmp_path / "unpacked" / path)
        assert np.array_equal(before.affine, after.affine)
        tolerance = (before.data.max() - before.data.min()) / gpu_archive.LEVELS
        assert np.abs(np.asarray(before.data) - np.asarray(after.data)).max() <= tolerance


def test_an_archive_that_is_too_large_is_refused_with_its_sizes(tiny_data, tmp_path):
    with pytest.raises(InputError, match=r"at most 0\.5 MB in all, got \d+\.\d MB \(code .*weights \d"):
        gpu_archive.prepare(tiny_data, tmp_path / "plan", limit=0.5)


def test_the_dissertation_halves_its_rate_where_it_says():
    stage = gpu_stages.STAGES[0]
    assert gpu_stages.milestones(stage, 120_000) == "[100000,110000,115000,117500]"
    assert gpu_stages.milestones(stage, 1200) == "[1000,1100,1150,1175]"


def test_curves_are_thinned_to_means():
    losses = [(float(step), step, float(step % 2)) for step in range(1, 601)]
    assert gpu_curves._thinned(losses) == [(step, 0.5) for step in range(2, 601, 2)]
    assert gpu_curves._thinned([]) == []


@pytest.mark.slow
def test_rehearsal_from_the_archive_in_an_empty_folder(tiny_data, tmp_path):
    assert gpu_plan.main(["prepare", "--data", str(tiny_data), "--output", str(tmp_path / "plan")]) == 0
    shutil.rmtree(tiny_data)
    moved = shutil.move(tmp_path / "plan", tmp_path / "elsewhere")
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    command = ["sh", f"{moved}/run.sh", "--steps", "3", "--only", "rdst-e-default", "recnn-20l", "--output", "out"]
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
    out = empty / "out"
    log = (out / "log.txt").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log[-3000:]
    assert len(list(out.iterdir())) <= 8
    record = json.loads((out / "record.json").read_text())["trainings"]
    for name, network in {
        "rdst-e-default": create("rdst-e", scale=4),
        "recnn-20l": create("recnn-20l", features=32),
    }.items():
        network.load_state_dict(torch.load(out / f"{name}.pt", weights_only=True))
        assert record[name]["steps"] == 6
        assert [step for step, _ in record[name]["loss"]] == [1, 2, 3, 4, 5, 6]
        assert record[name]["validation_psnr"][-1][0] == 2
    starts = record["rdst-e-default"]["parts"][0]["settings"]["initial_weights"]
    assert re.search(r"/weights/rdst\.pt$", starts)
    # A damaged archive does not train.
    with (Path(moved) / "data.tar.bz2").open("ab") as file:
        file.write(b"x")
    refused = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "data.tar.bz2 differs from its recorded hash" in refused.stderr
