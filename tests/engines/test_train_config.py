"""The shipped training configuration: as a command, by several processes, and as MONAI Label drives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import list_data_collate

from medsr.engines import local_device
from medsr.errors import InputError

Workflow = Callable[..., ConfigWorkflow]

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundles" / "recnn3d" / "configs"
SETTINGS = {
    "max_epochs": 1,
    "steps_per_epoch": 2,
    "batch_size": 2,
    "patch_size": 16,
    "buffer": 4,
    "precision": "float32",
    "layout": "contiguous",
    "val_interval": 1,
    "network_def#features": 4,
    "network_def#depth": 3,
}


def command(
    prefix: list[str], configs: str, dataset: Path, output: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    arguments = ["--config_file", configs, "--bundle_root", str(CONFIGS.parent)]
    arguments += ["--dataset_dir", str(dataset), "--output_dir", str(output), *more]
    arguments += [f"--{name}={value}" for name, value in SETTINGS.items()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *prefix, "monai.bundle", "run", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=output.parent,  # from elsewhere than the bundle
        timeout=120,
        check=False,
    )


def test_command_trains(tiny_dataset: Path, tmp_path: Path) -> None:
    done = command(["-m"], str(CONFIGS / "train.json"), tiny_dataset, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"checkpoint_epoch=1.pt", "model.pt", "model.json", "best.pt", "best.json", "tensorboard"}
    assert "psnr" in done.stderr + done.stdout


@pytest.mark.slow
def test_missing_dataset_is_one_line(tmp_path: Path) -> None:
    done = command(["-m"], str(CONFIGS / "train.json"), tmp_path / "nowhere", tmp_path / "out")
    assert done.returncode == 1
    assert f"medsr: error: the dataset folder {tmp_path / 'nowhere'} does not exist" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes(tiny_dataset: Path, tmp_path: Path) -> None:
    configs = str([str(CONFIGS / "train.json"), str(CONFIGS / "multi_gpu_train.json")])
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--nproc_per_node=2", "-m"]
    done = command(launcher, configs, tiny_dataset, tmp_path / "out", "--time_budget_minutes", "9")
    assert done.returncode == 0, done.stderr
    checkpoint = torch.load(tmp_path / "out" / "checkpoint_epoch=1.pt", weights_only=True)
    assert checkpoint["trainer"]["epoch_length"] == 1  # two of the four samples are the other process's
    assert not [key for key in checkpoint["network"] if key.startswith("module.")]
    assert len(list((tmp_path / "out" / "tensorboard").iterdir())) == 1  # only the first process writes


def test_several_processes_need_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(InputError, match="start it by torchrun"):
        local_device()


def test_bundle_properties(workflow: Workflow, tmp_path: Path) -> None:
    made = workflow(tmp_path, meta_file=None)
    required = ("bundle_root", "device", "dataset_dir", "network_def", "trainer", "max_epochs")
    for name in (*required, "train_dataset", "train_inferer", "train_handlers", "evaluator", "val_key_metric"):
        assert getattr(made, name) is not None, name
    assert made.check_properties() == []


def test_smoke_settings_exist() -> None:
    """The smoke settings of these tests override names that exist: a renamed setting would be ignored in silence."""
    shipped = json.loads((CONFIGS / "train.json").read_text())
    assert {key for key in SETTINGS if "#" not in key} <= set(shipped)
    assert shipped["network_def"]["_target_"] == "medsr.networks.create"


def test_items_of_monai_label(workflow: Workflow, tmp_path: Path, tiny_dataset: Path) -> None:
    """MONAI Label replaces the data by pairs of LR image and HR label, and inserts a handler in front."""
    pair = {"image": str(tiny_dataset / "c_lr.nii.gz"), "label": str(tiny_dataset / "c.nii.gz")}
    pretrained = tmp_path / "pretrained.pt"
    torch.save(workflow(tmp_path).network_def.state_dict(), pretrained)
    handlers = json.loads((CONFIGS / "train.json").read_text())["train"]["handlers"]
    loader = {"_target_": "CheckpointLoader", "load_path": str(pretrained), "load_dict": {"model": "$@network"}}
    made = workflow(
        tmp_path,
        train__dataset__data=[pair],
        validate__dataset__data=[pair],
        train__trainer__max_epochs=1,
        train__handlers=[loader, *handlers],
    )
    items = made.train_dataset[0]
    assert list_data_collate(items)["image"].shape == (len(items), 1, 10, 10, 10)
    for item in items:
        # LR is the block mean of HR: where they disagree in place, they correlate less.
        pixels = np.stack([item["image"].numpy().ravel(), item["label"].numpy().ravel()])
        assert np.corrcoef(pixels)[0, 1] > 0.85
    made.run()
    assert (tmp_path / "best.pt").is_file()


def test_real_pair_reaches_the_network_in_the_units_of_its_lr_image(
    workflow: Workflow, tmp_path: Path, tiny_dataset: Path
) -> None:
    made = workflow(tmp_path)
    item = made.evaluator.data_loader.dataset[1]
    assert item["image"].shape == item["label"].shape == (1, 22, 20, 24)
    assert float(item["image"].max()) == pytest.approx(1, abs=0.2)  # the spline overshoots the window a little
    ratio = float(item["label"].std() / item["image"].std())
    assert 1 < ratio < 2  # HR has more contrast than its means, in one window
    mean: Any = (item["label"] - item["image"]).mean()
    assert abs(float(mean)) < 0.01
