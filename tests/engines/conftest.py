"""The training workflow of a bundle, small enough to run in a test."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow
from scipy import ndimage

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "recnn3d" / "configs"

SMOKE: dict[str, Any] = {
    "steps_per_epoch": 3,
    "batch_size": 2,
    "patch_size": 10,
    "buffer": 4,
    "ema": None,
    "precision": "float32",
    "layout": "contiguous",
    "val_interval": 1,
    "scales": [2, [1, 1, 3], 1.5],
    "scale_weights": [2, 1, 1],
    "network_def#depth": 3,
    "network_def#features": 4,
    "validate#dataloader#num_workers": 0,
}


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a datalist of three small volumes, the last with a real LR image."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        values = ndimage.gaussian_filter(rng.random((22, 20, 24)), 1.0) * 1000
        nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4)), folder / f"{name}.nii.gz")
    values = values.reshape(11, 2, 20, 12, 2).mean(axis=(1, 4))
    affine = np.diag([2, 1, 2, 1.0])
    affine[:3, 3] = [0.5, 0, 0.5]
    nib.save(nib.Nifti1Image(values.astype(np.float32), affine), folder / "c_lr.nii.gz")
    pair = {"label": "c.nii.gz", "image": "c_lr.nii.gz"}
    sections = {"training": [{"label": "a.nii.gz"}, pair], "validation": [{"label": "b.nii.gz"}, pair]}
    (folder / "datalist.json").write_text(json.dumps(sections))
    return folder


@pytest.fixture
def workflow(tiny_dataset: Path) -> Iterator[Callable[..., ConfigWorkflow]]:
    """Make the training workflow of the shipped bundle, initialised, with smoke settings and others."""
    excepthook = sys.excepthook

    def make(output_dir: Path, **settings: Any) -> ConfigWorkflow:
        made = ConfigWorkflow(
            config_file=str(CONFIGS / "train.json"),
            workflow_type="train",
            logging_file=False,
            bundle_root=str(CONFIGS.parent),
            dataset_dir=str(tiny_dataset),
            output_dir=str(output_dir),
            device="cpu",
            initialize=["$monai.utils.set_determinism(@seed)"],
            **{**SMOKE, **{key.replace("__", "#"): value for key, value in settings.items()}},
        )
        made.initialize()
        return made

    yield make
    sys.excepthook = excepthook
