"""The consistency map, and results as a BIDS derivative."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import gaussian_filter1d

from medsr import degradation
from medsr.errors import InputError
from medsr.inferers import InferenceFacts, SuperResolutionInferer
from medsr.networks import create
from medsr.outputs import SaveImageWithRecordd
from medsr.outputs.bids import bids_stem
from medsr.transforms import NormalizeIntensityRecordedd, RestoreIntensityd, SetSuperResolutionGridd

SHAPE = (8, 7, 6)


@pytest.fixture
def enlarge(phantom: Callable[..., np.ndarray], oblique_affine: np.ndarray) -> Callable[..., Any]:
    """An item as it reaches the saving transform."""
    torch.manual_seed(0)
    network = create("ReCNN", depth=2, features=2)

    def make(filename: str = "head.nii.gz", **options: Any) -> dict[str, Any]:
        values = torch.as_tensor(phantom(SHAPE).astype(np.float32))[None]
        image = MetaTensor(values, affine=torch.as_tensor(oblique_affine), meta={"filename_or_obj": filename})
        inferer = SuperResolutionInferer(**{"scale": 2, **options})
        item = NormalizeIntensityRecordedd("image")({"image": image})
        item["pred"] = inferer(item["image"][None], network)[0]
        item = RestoreIntensityd("pred")(item)
        return SetSuperResolutionGridd("pred")(item)

    return make


@pytest.mark.parametrize("scale", [2, (1, 1, 2.5), "3/2"])
def test_consistency_is_the_distance_from_the_measurement(
    enlarge: Callable[..., Any], tiny_bundle: Path, tmp_path: Path, phantom: Callable[..., np.ndarray], scale: Any
) -> None:
    item = enlarge(scale=scale, formation="block-mean")
    SaveImageWithRecordd(tmp_path, tiny_bundle, preview=False, consistency=True)(item)
    image = nib.load(tmp_path / "head_sr_consistency.nii.gz")
    assert image.shape == SHAPE
    np.testing.assert_allclose(image.affine, item["image"].affine, atol=1e-5)
    model = degradation.get("block-mean")
    lr = model(item["pred"].as_tensor()[None].double(), InferenceFacts.of(item["pred"]).scale, shape=SHAPE)[
        0, 0
    ].numpy()
    expected = np.abs(lr - phantom(SHAPE))
    np.testing.assert_allclose(np.asarray(image.dataobj), expected, atol=1e-2, rtol=0)  # of some 1500 units
    said = json.loads((tmp_path / "head_sr.json").read_text())["consistency"]
    assert said["degradation"]["name"] == "block-mean"
    assert said["largest"] == pytest.approx(expected.max(), abs=1e-2)
    assert said["mean"] == pytest.approx(expected.mean(), abs=1e-2)


def test_consistency_by_hand(enlarge: Callable[..., Any], tiny_bundle: Path, tmp_path: Path) -> None:
    """Blur and mean of pairs, in numpy: an oracle that shares nothing with the package."""
    item = enlarge(formation={"name": "gaussian-blur", "sigma": 1.0})
    values = np.zeros(tuple(2 * n for n in SHAPE), np.float32)
    values[8, 7, 6] = 1000.0
    item["pred"] = MetaTensor(torch.as_tensor(values)[None], meta=item["pred"].meta)
    item["image"].meta["intensity_offset"], item["image"].meta["intensity_scale"] = 0.0, 0.0  # LR is zero everywhere
    SaveImageWithRecordd(tmp_path, tiny_bundle, preview=False, consistency=True)(item)
    found = np.asarray(nib.load(tmp_path / "head_sr_consistency.nii.gz").dataobj)
    blurred = values.astype(np.float64)
    for axis in range(3):
        blurred = gaussian_filter1d(blurred, 1.0, axis=axis, mode="nearest")
    pairs = blurred.reshape(8, 2, 7, 2, 6, 2)
    assert np.unravel_index(found.argmax(), SHAPE) == np.unravel_index(pairs.mean(axis=(1, 3, 5)).argmax(), SHAPE)
    assert found.sum() == pytest.approx(1000 / 8, rel=0.02), "a reduction keeps the mean"


def test_a_perfect_image_is_consistent(enlarge: Callable[..., Any], tiny_bundle: Path, tmp_path: Path) -> None:
    item = enlarge(formation="block-mean")
    SaveImageWithRecordd(tmp_path, tiny_bundle, preview=False, consistency=True)(item)
    better = np.asarray(nib.load(tmp_path / "head_sr_consistency.nii.gz").dataobj).mean()
    item = enlarge(formation=None)
    SaveImageWithRecordd(tmp_path, tiny_bundle, preview=False, consistency=True)(item)
    assert better < 0.1 * np.asarray(nib.load(tmp_path / "head_sr_consistency.nii.gz").dataobj).mean()


@pytest.mark.parametrize(
    ("name", "label", "expected"),
    [
        ("sub-01_ses-1_T1w.nii.gz", "sr", "sub-01_ses-1_desc-sr_T1w"),
        ("sub-01_acq-ax_run-2_T2w.nii", "sr", "sub-01_acq-ax_run-2_desc-sr_T2w"),
        ("sub-01_space-T1w_desc-preproc_T1w.nii.gz", "sr", "sub-01_space-T1w_desc-preprocSR_T1w"),
        ("sub-01_FLAIR.nii.gz", "sr_x2", "sub-01_desc-srx2_FLAIR"),
        ("sub-01_FLAIR.nii.gz", "", "sub-01_desc-sr_FLAIR"),
    ],
)
def test_bids_names(tmp_path: Path, name: str, label: str, expected: str) -> None:
    assert bids_stem(tmp_path / name, label) == expected


@pytest.mark.parametrize(
    "name", ["T1w.nii.gz", "sub-01.nii.gz", "sub-01_ses_1_T1w.nii.gz", "sub-_T1w.nii", "sub-01_ses-1.nii"]
)
def test_other_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"expected a BIDS name such as .*, got {name}"):
        bids_stem(tmp_path / name, "sr")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A raw BIDS dataset; returns its image."""
    image = tmp_path / "raw" / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_T1w.nii.gz"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"voxels")
    (tmp_path / "raw" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    return image


def save_bids(enlarge: Callable[..., Any], image: Path, bundle: Path, out: Path) -> dict[str, Any]:
    item = enlarge(filename=str(image))
    saved = SaveImageWithRecordd(out, bundle, preview=False, bids=True)(item)["saved"]
    assert saved.endswith(".nii.gz")
    return json.loads(Path(saved.replace(".nii.gz", ".json")).read_text())


def test_a_bids_derivative(enlarge: Callable[..., Any], dataset: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "raw" / "derivatives" / "medsr"
    facts = save_bids(enlarge, dataset, tiny_bundle, out)
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    place = "sub-01/ses-1/anat/sub-01_ses-1_desc-sr_T1w"
    assert files == {"dataset_description.json", f"{place}.nii.gz", f"{place}.json"}
    assert facts["Sources"] == ["bids:raw:sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"]
    assert facts["SkullStripped"] is False
    (program,) = facts["GeneratedBy"]
    assert program["Name"] == "medsr"
    assert facts["method"]["weights_sha256"] in program["Description"]
    assert facts["sr_grid"]["shape"] == [16, 14, 12], "the record is there as ever"
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["DatasetLinks"] == {"raw": "../.."}
    assert description["GeneratedBy"][0]["Name"] == "medsr"
    assert str(tmp_path) not in json.dumps([facts, description]), "no path of the machine leaves with a result"


def test_a_description_that_is_there_stays(
    enlarge: Callable[..., Any], dataset: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    dataset.with_name("sub-01_ses-1_T1w.json").write_text('{"SkullStripped": true}')
    facts = save_bids(enlarge, dataset, tiny_bundle, tmp_path / "raw")
    assert facts["Sources"] == ["bids::sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"]
    assert facts["SkullStripped"] is True
    assert json.loads((tmp_path / "raw" / "dataset_description.json").read_text()) == {
        "Name": "x",
        "BIDSVersion": "1.9.0",
    }
    assert dataset.read_bytes() == b"voxels"


def test_an_image_outside_of_any_dataset(enlarge: Callable[..., Any], tiny_bundle: Path, tmp_path: Path) -> None:
    facts = save_bids(enlarge, tmp_path / "sub-7_T2w.nii.gz", tiny_bundle, tmp_path / "out")
    assert facts["Sources"] == ["sub-7_T2w.nii.gz"]
    assert "SkullStripped" not in facts
    assert (tmp_path / "out" / "sub-7_desc-sr_T2w.nii.gz").is_file()
    assert "DatasetLinks" not in json.loads((tmp_path / "out" / "dataset_description.json").read_text())


def test_bids_has_no_nrrd(tiny_bundle: Path, tmp_path: Path) -> None:
    for extension in (".nrrd", "dicom"):
        with pytest.raises(InputError, match="BIDS names are for"):
            SaveImageWithRecordd(
                tmp_path, SuperResolutionInferer(scale=2), tiny_bundle, bids=True, output_ext=extension
            )
