"""The two bundles of any scale: their adversarial stage, their ablations, their Fréchet distances, what they share."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medsr.datasets.manifest_files import load_manifest

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
NAMES = ("metasrgan", "miassr")
SMALL = {
    "max_epochs": 1,
    "steps_per_epoch": 3,
    "batch_size": 2,
    "patch_size": 32,
    "val_limit": 1,
    "validation_scales": "[2.5]",
    "initial_weights": "$None",
    "network_def#features": 8,
    "network_def#blocks": 1,
    "discriminator_def#features": 4,
}
# What chapter 4.4 of the dissertation varies, each by one override.
ABLATIONS: dict[str, tuple[str, Any]] = {
    "blocks of SRResNet": ("network_def#block", "normalised"),
    "blocks of ESRGAN": ("network_def#block", "rrdb"),
    "width": ("network_def#features", 16),
    "depth": ("network_def#blocks", 2),
    "a preset of the tables": ("network_def#name", "miassr-w4"),
    "no perceptual term (gamma)": ("loss_weights", "[1,0]"),
    "no pixel term (lambda)": ("loss_weights", "[0,0.006]"),
    "no adversarial term (eta)": ("adversarial_weight", 0),
    "GAN": ("adversarial", "vanilla"),
    "RaGAN": ("adversarial", "ragan"),
    "WGAN": ("adversarial", "wgan"),
    "critic steps": ("critic_steps", 2),
}


@pytest.fixture
def adversarial(monai_bundle: Callable[..., Any], dataset: Path) -> Callable[..., Any]:
    """Run train.json with adversarial.json over it, small."""

    def run(name: str, output: Path, **overrides: Any) -> Any:
        configs = [str(BUNDLES / name / "configs" / f"{config}.json") for config in ("train", "adversarial")]
        options = {"bundle_root": BUNDLES / name, "dataset_dir": dataset, "output_dir": output, "device": "cpu"}
        return monai_bundle("run", config_file=str(configs), **{**options, **SMALL, **overrides})

    return run


@pytest.mark.parametrize("name", NAMES)
def test_adversarial_stage(adversarial: Callable[..., Any], name: str, tmp_path: Path) -> None:
    done = adversarial(name, tmp_path, warm_up=1)
    assert done.status == 0, done.err
    saved = torch.load(tmp_path / "checkpoint_epoch=1.pt", weights_only=True)
    assert {"network", "optimizer", "scheduler", "discriminator", "discriminator_optimizer"} <= set(saved)
    steps = {int(state["step"]) for state in saved["optimizer"]["state"].values()}
    critic = {int(state["step"]) for state in saved["discriminator_optimizer"]["state"].values()}
    assert (steps, critic) == ({3}, {2}), "the critic waits for the warm-up"


@pytest.mark.slow
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_ablation_is_one_override(adversarial: Callable[..., Any], ablation: str, tmp_path: Path) -> None:
    key, value = ABLATIONS[ablation]
    done = adversarial("miassr", tmp_path, max_epochs=1, steps_per_epoch=2, **{key: value})
    assert done.status == 0, done.err
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.isfinite(v).all() for v in weights.values())
    if key == "adversarial":  # batch norm stays out of gradient penalties alone
        saved = torch.load(tmp_path / "checkpoint_epoch=1.pt", weights_only=True)
        assert any("running_mean" in entry for entry in saved["discriminator"])


def test_first_weights_are_those_of_the_first_stage(adversarial: Callable[..., Any], tmp_path: Path) -> None:
    trained = {key: value for key, value in SMALL.items() if key.startswith("network_def")}
    first = adversarial("miassr", tmp_path / "a", **trained)
    assert first.status == 0, first.err
    start = tmp_path / "a" / "model.pt"
    second = adversarial("miassr", tmp_path / "b", initial_weights=start, learning_rate=1e-9, steps_per_epoch=1)
    assert second.status == 0, second.err
    before, after = (torch.load(tmp_path / d / "model.pt", weights_only=True) for d in ("a", "b"))
    assert max(float((after[key] - before[key]).abs().max()) for key in before) < 1e-7


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_with_frechet_distances(
    monai_bundle: Callable[..., Any], dataset: Path, name: str, tmp_path: Path
) -> None:
    done = monai_bundle(
        "run",
        config_file=BUNDLES / name / "configs" / "evaluate.json",
        bundle_root=BUNDLES / name,
        dataset_dir=dataset,
        output_dir=tmp_path,
        device="cpu",
        limit=1,
        scales="[1.7, 2.5]",
        feature_bundle="segmentation_unet",
    )
    assert done.status == 0, done.err
    report = json.loads((tmp_path / "frechet.json").read_text())
    assert report["metric"] == "fd_segmentation_unet_e5", "not called fid"
    rows = list(csv.DictReader((tmp_path / "frechet.csv").open()))
    assert {row["method"] for row in rows} == {name, "bicubic"}
    assert len({row["scale"] for row in rows}) == 2
    assert all(float(row["fd_segmentation_unet_e5"]) > 0 for row in rows)


def test_the_two_bundles_share_one_pipeline() -> None:
    """What differs is the method: network, crop, schedule."""
    for config, allowed in {
        "train": {"network_def", "network", "informative", "milestones", "decay", "scheduler", "batch_size", "train",
                  "intensity_mean", "intensity_std", "frozen_statistics"},
        "inference": {"network_def", "intensity_mean", "intensity_std"},
        "evaluate": {"network_def", "intensity_mean", "intensity_std", "method"},
        "adversarial": {"adversarial", "discriminator_def", "discriminator_learning_rate", "discriminator_betas",
                        "discriminator_scheduler"},
    }.items():  # fmt: skip
        one, two = (json.loads((BUNDLES / name / "configs" / f"{config}.json").read_text()) for name in NAMES)
        assert {key for key in {*one, *two} if one.get(key) != two.get(key)} <= allowed
        if config == "train":
            one["train"]["preprocessing"].pop("informative")
            assert one["train"] == two["train"]


CONTRASTS = ("T1ce", "T1w", "T2w", "FLAIR")


@pytest.fixture
def brats_like(tmp_path: Path, phantom: Callable[..., np.ndarray]) -> Path:
    """Two patients of four contrasts in unlike units, prepared as chapter 4 of the dissertation does it."""
    folder = tmp_path / "brats"
    folder.mkdir()
    preparation = dict(load_manifest("brats2017_published_ch4").preparation)
    datalist: dict[str, list[dict[str, Any]]] = {}
    for k, section in enumerate(("training", "validation", "test")):
        names = [f"{section}_{contrast}.nii.gz" for contrast in CONTRASTS]
        for number, name in enumerate(names):
            values = 10.0**number * (phantom((44, 40, 6), seed=10 * k + number) + 700)
            nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([-1.0, -1, 1, 1])), folder / name)
        datalist[section] = [{"label": names, "subject": section, "preparation": preparation}]
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


def test_four_contrasts_from_training_to_images(
    monai_bundle: Callable[..., Any], brats_like: Path, tmp_path: Path
) -> None:
    root = BUNDLES / "miassr"
    network = {key: value for key, value in SMALL.items() if key.startswith("network_def")}
    common = {"bundle_root": root, "device": "cpu", **network}
    training = {
        key: value for key, value in SMALL.items() if key not in (*network, "initial_weights") and "disc" not in key
    }
    done = monai_bundle(
        "run", config_file=root / "configs" / "train.json", dataset_dir=brats_like, output_dir=tmp_path / "run",
        channels=4, **training, **common,
    )  # fmt: skip
    assert done.status == 0, done.err
    weights = tmp_path / "run" / "model.pt"
    done = monai_bundle(
        "run", config_file=root / "configs" / "evaluate.json", dataset_dir=brats_like, output_dir=tmp_path / "eval",
        channels=4, where="{}", scales="[2.5]", weights=weights, **common,
    )  # fmt: skip
    assert done.status == 0, done.err
    (row, *_) = csv.DictReader((tmp_path / "eval" / "metrics.csv").open())
    values = [float(value) for key, value in row.items() if key.startswith("psnr_")]
    assert len(values) == 4
    assert float(row["psnr"]) == pytest.approx(np.mean(values))
    done = monai_bundle(
        "run", config_file=root / "configs" / "inference.json", dataset_dir=brats_like, output_dir=tmp_path / "out",
        contrasts=str(list(CONTRASTS)), scale=1.5, weights=weights, preview=False, **common,
    )  # fmt: skip
    assert done.status == 0, done.err
    for number, contrast in enumerate(CONTRASTS):
        image = nib.load(tmp_path / "out" / f"test_{contrast}_sr.nii.gz")
        assert image.shape == (66, 60, 6)
        assert 10.0**number < image.get_fdata().max() < 10.0 ** (number + 5), "in units of its own"
