"""The files of a case: together or not at all, in the right units, never in the place of the input."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImaged

from medsr.errors import InputError, OutputError
from medsr.files.staging import staged
from medsr.inferers import Guards, InferenceFacts, SuperResolutionInferer
from medsr.inferers.facts import FACTS
from medsr.networks import create
from medsr.outputs import SaveImageWithRecordd, output_paths
from medsr.outputs.saving import refuse_to_replace
from medsr.transforms import NormalizeIntensityRecordedd, RestoreIntensityd, SetSuperResolutionGridd

SHAPE = (8, 7, 6)
Item = dict[str, Any]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return create("ReCNN", depth=2, features=2)


@pytest.fixture
def enlarge(network: torch.nn.Module, phantom: Callable[..., np.ndarray], tmp_path: Path) -> Callable[..., Item]:
    """An item as it reaches the saving transform."""

    def make(affine: np.ndarray, filename: str = "head.nii.gz", **options: Any) -> Item:
        values = torch.as_tensor(phantom(SHAPE).astype(np.float32))[None]
        image = MetaTensor(values, affine=torch.as_tensor(affine), meta={"filename_or_obj": filename})
        inferer = SuperResolutionInferer(scale=2, **options)
        item = NormalizeIntensityRecordedd("image")({"image": image})
        item["pred"] = inferer(item["image"][None], network)[0]
        item = RestoreIntensityd("pred")(item)
        return SetSuperResolutionGridd("pred")(item)

    return make


@pytest.fixture
def bundle_root(tmp_path: Path) -> Path:
    root = tmp_path / "bundle"
    (root / "configs").mkdir(parents=True)
    trained_on = {"sr_spacing_mm": [0.1, 0.2], "intensity": [0, 1.0]}
    (root / "configs" / "metadata.json").write_text(json.dumps({"name": "tiny", "trained_on": trained_on}))
    return root


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} if folder.exists() else set()


def test_files_units_and_grid(
    enlarge: Callable[..., Any], bundle_root: Path, left_handed_affine: np.ndarray, tmp_path: Path
) -> None:
    item = enlarge(left_handed_affine)
    save = SaveImageWithRecordd(tmp_path / "out", bundle_root, settings={"device": "cpu"})
    assert isinstance(save, SaveImaged), "MONAI Label and MONAI Deploy drop what they know as a saver"
    result = save(item)
    assert names(tmp_path / "out") == {"head_sr.nii.gz", "head_sr.json", "head_sr.png"}
    assert result["saved"] == str(tmp_path / "out" / "head_sr.nii.gz")
    assert "saved" not in item
    image = nib.load(result["saved"])
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(image.dataobj), item["pred"].numpy()[0])
    np.testing.assert_allclose(image.affine, item["pred"].affine, atol=1e-5)
    record = json.loads((tmp_path / "out" / "head_sr.json").read_text())
    np.testing.assert_array_equal(record["sr_grid"]["affine"], item["pred"].affine)
    assert record["settings"].pop("request") == {"scale": 2, "spacing": None}
    options = {
        "precision": "float32",
        "ensemble": False,
        "formation": None,
        "start": "interpolated",
        "safe": False,
    }  # of the inferer, with the image
    assert record["settings"] == {"device": "cpu", **options}
    assert record["method"]["bundle"] == "tiny"


def test_warnings_are_logged_and_recorded(
    enlarge: Callable[..., Any],
    bundle_root: Path,
    oblique_affine: np.ndarray,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    item = enlarge(oblique_affine)
    item["image"].meta["warnings"] = "the reader said this; and this"
    with caplog.at_level(logging.WARNING):
        SaveImageWithRecordd(tmp_path, bundle_root, preview=False)(item)
    found = json.loads((tmp_path / "head_sr.json").read_text())["warnings"]
    assert found[:2] == ["the reader said this", "and this"]
    assert "outside the trained range" in found[2]
    assert "the normalised intensities range from" in found[3]
    assert caplog.messages == [f"head.nii.gz: {text}" for text in found]


@pytest.mark.parametrize("gain", [1.2, 2.8])
def test_guards_are_recorded_and_warned_of_above_their_limits(
    enlarge: Callable[..., Any], bundle_root: Path, oblique_affine: np.ndarray, tmp_path: Path, gain: float
) -> None:
    item = enlarge(oblique_affine)
    facts = InferenceFacts.of(item["pred"])
    item["pred"].meta[FACTS] = replace(facts, guards=Guards(noise_gain=gain, outside_envelope=0.01))
    SaveImageWithRecordd(tmp_path, bundle_root, preview=False)(item)
    record = json.loads((tmp_path / "head_sr.json").read_text())
    assert record["guards"]["noise_gain"] == gain
    assert record["guards"]["outside_envelope"] == 0.01
    of_guards = [text for text in record["warnings"] if "--safe" in text]
    if gain < 1.5:
        assert of_guards == []
    else:
        assert of_guards == [
            "the result has 2.8 times the noise of a spline in flat tissue (limit 1.5): choose other weights, state "
            "--formation, or use --safe"
        ]


def test_no_matplotlib_means_no_preview_and_a_warning(
    enlarge: Callable[..., Any],
    bundle_root: Path,
    oblique_affine: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    item = enlarge(oblique_affine)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    SaveImageWithRecordd(tmp_path / "out", bundle_root)(item)
    assert names(tmp_path / "out") == {"head_sr.nii.gz", "head_sr.json"}
    assert "matplotlib" in json.loads((tmp_path / "out" / "head_sr.json").read_text())["warnings"][-1]


def test_nothing_is_left_of_a_case_whose_image_cannot_be_written(
    enlarge: Callable[..., Any], bundle_root: Path, tmp_path: Path
) -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    item = enlarge(sheared)
    save = SaveImageWithRecordd(tmp_path / "out", bundle_root, output_ext=".nrrd")
    with pytest.raises(OutputError, match=r"head_sr\.nrrd: expected orthogonal axes") as caught:
        save(item)
    assert ".medsr-" not in str(caught.value), "the message has the name that the user knows"
    assert "\n" not in str(caught.value)
    assert names(tmp_path / "out") == set()


def test_an_older_result_stays_whole_when_the_new_one_fails(
    enlarge: Callable[..., Any],
    bundle_root: Path,
    oblique_affine: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    item = enlarge(oblique_affine)
    save = SaveImageWithRecordd(tmp_path / "out", bundle_root)
    save(item)
    before = {name: (tmp_path / "out" / name).read_bytes() for name in names(tmp_path / "out")}

    def full(*args: Any, **kwargs: Any) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr("medsr.outputs.saving.write_volume", full)
    with pytest.raises(OutputError, match="full"):
        save(item)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in names(tmp_path / "out")} == before


def test_deviation_map_has_units_but_no_offset(
    enlarge: Callable[..., Any], bundle_root: Path, oblique_affine: np.ndarray, tmp_path: Path
) -> None:
    item = enlarge(oblique_affine, ensemble=True)
    SaveImageWithRecordd(tmp_path, bundle_root, preview=False, output_ext=".mha")(item)
    image = sitk.ReadImage(str(tmp_path / "head_sr_std.mha"))
    window = item["image"].meta["intensity_scale"]
    expected = InferenceFacts.of(item["pred"]).deviation[0].numpy() * window
    np.testing.assert_allclose(sitk.GetArrayFromImage(image).T, expected, rtol=1e-6)
    assert image.GetSize() == tuple(2 * n for n in SHAPE)


def test_inferer_that_has_not_run(
    enlarge: Callable[..., Any], bundle_root: Path, oblique_affine: np.ndarray, tmp_path: Path
) -> None:
    item = enlarge(oblique_affine)
    item["pred"] = MetaTensor(item["pred"].as_tensor(), affine=item["pred"].affine)
    with pytest.raises(InputError, match="has not run"):
        SaveImageWithRecordd(tmp_path, bundle_root)(item)


def test_output_is_never_the_input(
    enlarge: Callable[..., Any], bundle_root: Path, oblique_affine: np.ndarray, tmp_path: Path
) -> None:
    source = tmp_path / "head.nii.gz"
    source.write_bytes(b"precious")
    item = enlarge(oblique_affine, filename=str(source))
    for extension in (".nii.gz", ".nrrd"):  # the record of a .nrrd would be head.json, the sidecar of head.nii.gz
        with pytest.raises(InputError, match="named as its input"):
            SaveImageWithRecordd(tmp_path, bundle_root, output_postfix="", output_ext=extension)(item)
    assert source.read_bytes() == b"precious"
    assert not (tmp_path / "head.json").exists()


def test_a_dicom_folder_has_no_sidecar(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    refuse_to_replace(output_paths(tmp_path, "series", ""), tmp_path / "series")


def test_paths() -> None:
    paths = output_paths("out", "case")
    assert [str(path) for path in paths] == [
        *("out/case_sr.nii.gz", "out/case_sr.json", "out/case_sr.png", "out/case_sr_std.nii.gz"),
        "out/case_sr_consistency.nii.gz",
    ]
    paths = output_paths("out", "1.2.840", extension="dicom")
    assert [str(path) for path in paths] == [
        *("out/1.2.840_sr", "out/1.2.840_sr.json", "out/1.2.840_sr.png", "out/1.2.840_sr_std.nii.gz"),
        "out/1.2.840_sr_consistency.nii.gz",
    ]
    assert output_paths("out", "a.b", "", ".nrrd").record == Path("out/a.b.json")
    with pytest.raises(InputError, match=r"written as \.nii\.gz"):
        output_paths("out", "case", extension=".png")


def test_wrong_extension_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.dcm"):
        SaveImageWithRecordd(tmp_path, tmp_path, output_ext=".dcm")


def test_staged_folders_replace_older_ones(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "IM0001.dcm").write_text("old")
    (tmp_path / "series" / "IM0002.dcm").write_text("old")
    with staged([tmp_path / "a.json", tmp_path / "series"]) as (record, series):
        series.mkdir(parents=True)
        (series / "IM0001.dcm").write_text("new")
        record.write_text("{}")
        assert (tmp_path / "series" / "IM0001.dcm").read_text() == "old"
    assert names(tmp_path) == {"a.json", "series", "series/IM0001.dcm"}
    assert (tmp_path / "series" / "IM0001.dcm").read_text() == "new"


def test_staged_files_appear_in_order_and_only_at_the_end(tmp_path: Path) -> None:
    files = [tmp_path / "out" / name for name in ("a", "b", "c")]
    with staged(files) as hidden:
        hidden[0].parent.mkdir(parents=True)
        for path in hidden[:2]:  # c is not written
            path.write_text("new")
        assert not any(path.exists() for path in files)
    assert names(tmp_path / "out") == {"a", "b"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_staged_files_vanish_when_the_program_ends(tmp_path: Path, error: type[BaseException]) -> None:
    def run() -> None:
        with staged([tmp_path / "a"]) as (hidden,):
            hidden.parent.mkdir()
            hidden.write_text("half")
            raise error

    with pytest.raises(error):
        run()
    assert names(tmp_path) == set()


def test_staged_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file: cannot be written"), staged([tmp_path / "file" / "a"]) as (hidden,):
        hidden.parent.mkdir(parents=True)
