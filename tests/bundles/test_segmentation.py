"""The segmentation bundles: labels on the image's own grid, against the network run by hand."""

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

from medsr.bundle import find_bundle, trained_network
from medsr.cli import main
from medsr.errors import InputError


@pytest.fixture(scope="module")
def labelled(
    tmp_path_factory: pytest.TempPathFactory, phantom: Callable[..., np.ndarray], left_handed_affine: np.ndarray
) -> Path:
    """A dataset folder whose images have label maps: two to train on, one to validate, two subjects to test."""
    folder = tmp_path_factory.mktemp("labelled")
    datalist: dict[str, list[dict[str, str]]] = {}
    for k, section in enumerate(("training", "training", "validation", "test", "test")):
        volume = phantom((33, 30, 24), seed=k)
        labels = np.digitize(volume, np.quantile(volume, [0.6, 0.9])).astype(np.uint8)
        for name, array in (("image", volume), ("label", labels)):
            nib.save(nib.Nifti1Image(array, left_handed_affine), folder / f"{name}{k}.nii.gz")
        item = {"image": f"image{k}.nii.gz", "label": f"label{k}.nii.gz", "subject": f"s{k}"}
        datalist.setdefault(section, []).append(item)
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


def run(monai_bundle: Callable[..., Any], bundle: Any, config: str, folder: Path, output: Path, **options: Any) -> Any:
    return monai_bundle(
        "run",
        config_file=bundle.root / "configs" / f"{config}.json",
        bundle_root=bundle.root,
        dataset_dir=folder,
        output_dir=output,
        device="cpu",
        **options,
    )


@pytest.mark.parametrize("extension", [".nii.gz", ".nrrd"])
def test_labels_are_those_of_the_network_on_the_images_grid(
    segmentation_bundle: Any,
    monai_bundle: Callable[..., Any],
    labelled: Path,
    read_image: Callable[..., Any],
    tmp_path: Path,
    left_handed_affine: np.ndarray,
    extension: str,
) -> None:
    image = labelled / "image3.nii.gz"
    done = run(monai_bundle, segmentation_bundle, "inference", image, tmp_path, output_ext=extension)
    assert done.status == 0, done.err
    labels, affine, dtype = read_image(tmp_path / f"image3_seg{extension}")
    volume = np.asarray(nib.load(image).dataobj).astype(np.float64)
    scaled = torch.as_tensor((volume - volume.min()) / np.ptp(volume))
    axis = int(np.abs(left_handed_affine[2, :3] / np.linalg.norm(left_handed_affine[:3, :3], axis=0)).argmax())
    with torch.no_grad():
        logits = segmentation_bundle.network().double()(scaled.movedim(axis, 0)[:, None])
    expected = logits.argmax(1).movedim(0, axis).numpy()
    assert dtype == np.uint8
    np.testing.assert_allclose(affine, left_handed_affine, atol=2e-5)
    # float32 may decide otherwise where two classes are equally likely
    assert (labels != expected).mean() < 1e-4


def test_trains_validates_and_continues(
    segmentation_bundle: Any, monai_bundle: Callable[..., Any], labelled: Path, tmp_path: Path
) -> None:
    small = segmentation_bundle.train_options
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    assert run(monai_bundle, segmentation_bundle, "train", labelled, straight, **small).status == 0
    for budget in (1e-6, None):
        options = {**small, "time_budget_minutes": budget}
        done = run(monai_bundle, segmentation_bundle, "train", labelled, parts, **options)
        assert done.status == 0, done.err
    first, second = (torch.load(p / "model.pt", weights_only=True) for p in (straight, parts))
    assert first.keys() == segmentation_bundle.weights.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_evaluation_of_each_subject(
    segmentation_bundle: Any, monai_bundle: Callable[..., Any], labelled: Path, tmp_path: Path
) -> None:
    done = run(monai_bundle, segmentation_bundle, "evaluate", labelled, tmp_path)
    assert done.status == 0, done.err
    rows = list(csv.DictReader((tmp_path / "segmentation.csv").open()))
    assert [row["case"] for row in rows] == ["s3", "s4"]
    assert all(0 <= float(row["dice"]) <= 1 for row in rows)


def test_images_without_labels_are_refused(
    segmentation_bundle: Any, monai_bundle: Callable[..., Any], dataset: Path, tmp_path: Path
) -> None:
    done = run(monai_bundle, segmentation_bundle, "train", dataset, tmp_path / "out")
    assert done.status == 1
    assert done.err.strip().splitlines()[-1].startswith("medsr: error: none of the 2 images has a label map")


def test_it_judges_and_does_not_enlarge(
    segmentation_bundle: Any, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = trained_network(segmentation_bundle.root)
    assert not network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, segmentation_bundle.weights[key])
    with pytest.raises(InputError, match=r"other\.pt is missing"):
        trained_network(segmentation_bundle.root, str(tmp_path / "other.pt"))
    assert not find_bundle(segmentation_bundle.root).enlarges
    image = str(labelled / "image3.nii.gz")
    status = main(["upscale", image, "-o", str(tmp_path), "--bundle", str(segmentation_bundle.root), "--scale", "2"])
    assert status != 0
    assert "does not enlarge images" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["rdst", "slice_baselines"])
def test_it_judges_the_images_of_sr_bundles(
    name: str,
    segmentation_bundle: Any,
    monai_bundle: Callable[..., Any],
    tmp_path: Path,
    labelled: Path,
) -> None:
    """Evaluation with Dice: HR, interpolated and SR images, by one segmentation network."""
    datalist = json.loads((labelled / "datalist.json").read_text())
    items = [{"label": i["image"], "segmentation": i["label"], "subject": i["subject"]} for i in datalist["test"]]
    for item in items:
        for key in ("label", "segmentation"):
            item[key] = str(labelled / item[key])
    (tmp_path / "datalist.json").write_text(json.dumps({"test": items}))
    root = segmentation_bundle.root.parent / name
    done = monai_bundle(
        "run",
        config_file=root / "configs" / "evaluate.json",
        dataset_dir=tmp_path,
        output_dir=tmp_path / "out",
        device="cpu",
        where="None",
        segmentation_bundle=segmentation_bundle.root,
    )
    assert done.status == 0, done.err
    rows = list(csv.DictReader((tmp_path / "out" / "segmentation.csv").open()))
    assert {row["method"] for row in rows} == {"HR", "bicubic", name}
    assert {row["case"] for row in rows} == {"s3", "s4"}
    assert (tmp_path / "out" / "metrics.csv").is_file()
    assert list((tmp_path / "out").glob("segmentation_s3_*.png"))


def test_fine_tuning_by_the_judge(
    segmentation_bundle: Any, monai_bundle: Callable[..., Any], dataset: Path, tmp_path: Path
) -> None:
    root = segmentation_bundle.root.parent / "rdst"
    configs = [str(root / "configs" / f"{name}.json") for name in ("train", "finetune")]
    options = {"max_epochs": 1, "steps_per_epoch": 2, "batch_size": 1, "patch_size": 32, "val_limit": 1}
    done = monai_bundle(
        "run",
        config_file=str(configs),
        bundle_root=root,
        dataset_dir=dataset,
        output_dir=tmp_path,
        device="cpu",
        segmentation_bundle=segmentation_bundle.root,
        taps="['E1', 'D', 'HRL']",
        initial_weights=root / "models" / "model.pt",
        **options,
    )
    assert done.status == 0, done.err
    before = torch.load(root / "models" / "model.pt", weights_only=True)
    after = torch.load(tmp_path / "model.pt", weights_only=True)
    assert after.keys() == before.keys()
    changes = [float((after[key] - before[key]).abs().max()) for key in after if after[key].is_floating_point()]
    assert 0 < max(changes) < 0.01, "it starts where the first stage ended"
