"""A few steps of training, a run that is stopped and continued, and an evaluation, by the bundle's own configs."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


def options(bundle: Any, config: str, dataset: Path, output: Path) -> dict[str, Any]:
    return {
        "config_file": bundle.root / "configs" / f"{config}.json",
        "bundle_root": bundle.root,
        "dataset_dir": dataset,
        "output_dir": output,
        "device": "cpu",
    }


def in_a_new_process(command: str, **entries: Any) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "monai.bundle", command]
    words += [text for key, value in entries.items() for text in (f"--{key}", str(value))]
    path = os.pathsep.join(p for p in (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")) if p)
    # the number of threads decides the order of sums
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model.pt", map_location="cpu", weights_only=True)


@pytest.mark.slow
def test_stopped_and_continued_run_equals_straight_run(
    bundle: Any, monai_bundle: Callable[..., Any], dataset: Path, tmp_path: Path
) -> None:
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    small = bundle.train_options
    done = monai_bundle("run", **options(bundle, "train", dataset, straight), **small)
    assert done.status == 0, done.err
    done = monai_bundle("run", **options(bundle, "train", dataset, resumed), **small, time_budget_minutes=1e-6)
    assert done.status == 0, done.err
    after_one = state_of(resumed)
    continued = in_a_new_process("run", **options(bundle, "train", dataset, resumed), **small)
    assert continued.returncode == 0, continued.stderr
    assert "nvImageCodec" not in continued.stdout + continued.stderr

    expected, result = state_of(straight), state_of(resumed)
    assert expected.keys() == result.keys() == bundle.weights.keys(), "a trained network fits into the bundle"
    assert max(float((expected[key] - result[key]).abs().max()) for key in expected) == 0
    assert any(not torch.equal(after_one[key], result[key]) for key in result), "the second epoch did something"
    assert all(torch.isfinite(value).all() for value in result.values())


def test_evaluation_writes_its_tables(
    bundle: Any, monai_bundle: Callable[..., Any], dataset: Path, tmp_path: Path
) -> None:
    config = bundle.config("evaluate")
    small = {"scales": f"[{bundle.scale:g}]"} if "scales" in config else {}
    done = monai_bundle(
        "run", **options(bundle, "evaluate", dataset, tmp_path), **small, **bundle.extras.get("evaluate", {})
    )
    assert done.status == 0, done.err
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    methods = {row["method"] for row in rows}
    cases = {row["case"] for row in rows}
    assert len(cases) == 2
    assert len(methods) == 2, "the network and interpolation"
    assert bundle.name in methods
    assert len(rows) == len(cases) * len(methods)
    for row in rows:
        assert math.isfinite(float(row["psnr"]))
        assert 0 < float(row["ssim"]) <= 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["baseline"] in methods - {bundle.name}
    assert summary["protocol"]
    assert summary["groups"]


@pytest.mark.parametrize("config", ["inference", "train", "evaluate"])
def test_missing_dataset_is_one_line(
    bundle: Any, monai_bundle: Callable[..., Any], config: str, tmp_path: Path
) -> None:
    done = monai_bundle("run", **options(bundle, config, tmp_path / "nowhere", tmp_path / "out"))
    assert done.status == 1
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("medsr: error: ")
    assert "nowhere" in last
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()
