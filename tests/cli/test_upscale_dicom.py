"""``medsr upscale``: DICOM in and out, maps on request, BIDS names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medsr.data.readers import read_volume
from medsr.inferers import SuperResolutionInferer

SHAPE = (9, 8, 7)
Command = Callable[..., Any]


@pytest.fixture
def upscale(medsr_command: Command, tiny_bundle: Path) -> Command:
    """`medsr upscale ARGUMENTS --scale 2`, without preview, by a bundle that costs nothing to run."""

    def call(*arguments: object) -> Any:
        return medsr_command("upscale", *arguments, "--scale", "2", "--no-preview", "--bundle", tiny_bundle)

    return call


@pytest.fixture
def series(
    write_dicom: Callable[..., None], phantom: Callable[..., np.ndarray], oblique_affine: np.ndarray, tmp_path: Path
) -> Path:
    write_dicom(tmp_path / "study" / "head", phantom(SHAPE), oblique_affine)
    return tmp_path / "study" / "head"


def names(path: Path) -> list[str]:
    """Everything below a folder, hidden files too."""
    return sorted(str(p.relative_to(path)) for p in path.rglob("*")) if path.exists() else []


def test_dicom_in_dicom_out(upscale: Command, series: Path, tmp_path: Path) -> None:
    done = upscale(series, "-o", tmp_path / "out", "--format", "dicom")
    assert done.status == 0, done.err
    assert done.out.strip() == str(tmp_path / "out" / "head_sr")
    slices = [f"head_sr/IM{k:04d}.dcm" for k in range(1, 15)]
    assert names(tmp_path / "out") == sorted(["head_sr", *slices, "head_sr.json"])
    assert upscale(series, "-o", tmp_path / "nifti").status == 0, "the default stays NIfTI"
    nifti = nib.load(tmp_path / "nifti" / "head_sr.nii.gz")
    derived = read_volume(tmp_path / "out" / "head_sr")
    assert np.abs(derived.data - np.asarray(nifti.dataobj)).max() <= 0.5001
    np.testing.assert_allclose(derived.affine, nifti.affine, atol=1e-5)
    exact = json.loads((tmp_path / "nifti" / "head_sr.json").read_text())["sr_grid"]["affine"]
    np.testing.assert_allclose(derived.affine, exact, rtol=0, atol=1e-6)


def test_archive_in_series_out(upscale: Command, series: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "sent"), "zip", series.parent)
    done = upscale(archive, "-o", tmp_path / "out", "--format", "dicom")
    assert done.status == 0, done.err
    assert upscale(series, "-o", tmp_path / "out", "--format", "dicom").status == 0
    first, second = (tmp_path / "out" / f"{name}_sr" / "IM0003.dcm" for name in ("sent", "head"))
    same = [pydicom.dcmread(path) for path in (first, second)]
    assert same[0].SOPInstanceUID == same[1].SOPInstanceUID, "one series, however it came"
    assert same[0].PixelData == same[1].PixelData


def test_again_and_skipped(upscale: Command, series: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("-o", out, "--format", "dicom")

    def uid() -> str:
        return str(pydicom.dcmread(out / "head_sr" / "IM0001.dcm").SeriesInstanceUID)

    assert upscale(series, *options).status == 0
    first, stamp = uid(), (out / "head_sr").stat().st_mtime_ns
    done = upscale(series, *options, "--skip-existing")
    assert "0 done, 1 skipped, 0 failed" in done.err
    assert (out / "head_sr").stat().st_mtime_ns == stamp
    assert upscale(series, *options).status == 0
    assert uid() == first, "sent again, a PACS still has one series"


def test_dicom_out_needs_dicom_in(
    upscale: Command, series: Path, phantom: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    nib.save(nib.Nifti1Image(phantom(SHAPE), np.eye(4)), tmp_path / "a.nii.gz")
    for inputs in ((tmp_path / "a.nii.gz",), (series, tmp_path / "a.nii.gz")):
        done = upscale(*inputs, "-o", tmp_path / "out", "--format", "dicom")
        assert done.status == 2
        (line,) = done.err.splitlines()
        assert line.startswith(f"medsr: error: {tmp_path / 'a.nii.gz'}: expected a DICOM input to write DICOM")
    done = upscale(series, "-o", tmp_path / "x.nii.gz", "--format", "dicom")
    assert done.status == 2
    assert "--format dicom makes a folder; give a folder" in done.err
    done = upscale(series, "-o", tmp_path / "out", "--format", ".dcm")
    assert done.status == 2
    assert "results are written as .nii.gz, .nii, .nrrd, .mha, dicom, png, got '.dcm'" in done.err
    assert names(tmp_path / "out") == []


def test_other_modalities_are_refused_before_the_network_runs(
    upscale: Command, series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in series.iterdir():
        image = pydicom.dcmread(path)
        image.Modality, image.SOPClassUID = "PT", pydicom.uid.PositronEmissionTomographyImageStorage
        image.save_as(path)
    monkeypatch.setattr(SuperResolutionInferer, "__call__", lambda *a, **k: pytest.fail("the network ran"))
    done = upscale(series, "-o", tmp_path / "out", "--format", "dicom")
    assert done.status == 1
    (line,) = [line for line in done.err.splitlines() if "error" in line]
    assert line.startswith(f"medsr: error: {series}: expected a source of modality MR or CT to write DICOM, got PT")
    assert names(tmp_path / "out") == []


def test_folders_of_others_are_left_alone(upscale: Command, series: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "head_sr").mkdir(parents=True)
    (tmp_path / "out" / "head_sr" / "mine.txt").write_text("mine")
    done = upscale(series, "-o", tmp_path / "out", "--format", "dicom")
    assert done.status == 2
    assert "got one that holds other files; remove it" in done.err
    done = upscale(series, "-o", series, "--format", "dicom")
    assert done.status == 2
    assert "would be written into its input" in done.err
    assert names(tmp_path / "out") == ["head_sr", "head_sr/mine.txt"]


def test_maps_on_request(upscale: Command, series: Path, tmp_path: Path) -> None:
    for option, name in (("--uncertainty", "std"), ("--ensemble", "std"), ("--consistency", "consistency")):
        out = tmp_path / option
        done = upscale(series, "-o", out, option)
        assert done.status == 0, done.err
        assert names(out) == ["head_sr.json", "head_sr.nii.gz", f"head_sr_{name}.nii.gz"]
    assert nib.load(out / "head_sr_consistency.nii.gz").shape == SHAPE
    assert json.loads((out / "head_sr.json").read_text())["consistency"]["degradation"]["name"] == "per-axis"
    done = upscale(series, "-o", tmp_path / "both", "--consistency", "--uncertainty", "--format", "dicom")
    assert done.status == 0, done.err
    found = [name for name in names(tmp_path / "both") if "/" not in name]
    assert found == ["head_sr", "head_sr.json", "head_sr_consistency.nii.gz", "head_sr_std.nii.gz"]


def test_bids(upscale: Command, phantom: Callable[..., np.ndarray], tmp_path: Path) -> None:
    images = []
    for subject in ("01", "02"):
        folder = tmp_path / "raw" / f"sub-{subject}" / "anat"
        folder.mkdir(parents=True)
        images.append(folder / f"sub-{subject}_T1w.nii.gz")
        nib.save(nib.Nifti1Image(phantom(SHAPE), np.eye(4)), images[-1])
    (tmp_path / "raw" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    done = upscale(*images, "-o", tmp_path / "out", "--bids")
    assert done.status == 0, done.err
    places = [f"sub-{s}/anat/sub-{s}_desc-sr_T1w" for s in ("01", "02")]
    files = [name for name in names(tmp_path / "out") if (tmp_path / "out" / name).is_file()]
    assert files == sorted(
        ["dataset_description.json", "medsr_upscale.json", *(f"{p}{e}" for p in places for e in (".json", ".nii.gz"))]
    )
    assert upscale(*images, "-o", tmp_path / "out", "--bids", "--skip-existing").err.count("2 skipped") == 1
    for arguments, words in (
        ((images[0], "-o", tmp_path / "x.nii.gz"), "--bids names the results; give a folder"),
        ((images[0], "-o", tmp_path / "x", "--format", ".mha"), "BIDS names are for .nii.gz and .nii, got '.mha'"),
    ):
        done = upscale(*arguments, "--bids")
        assert done.status == 2
        assert words in done.err


def test_two_images_of_one_bids_name(upscale: Command, phantom: Callable[..., np.ndarray], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(phantom(SHAPE), np.eye(4)), tmp_path / folder / "sub-01_T1w.nii.gz")
    done = upscale(tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--bids")
    assert done.status == 2
    assert "would both become" in done.err
    assert names(tmp_path / "out") == []


def test_bundle_command(monai_bundle: Callable[..., Any], tiny_bundle: Path, series: Path, tmp_path: Path) -> None:
    done = monai_bundle(
        "run",
        config_file=tiny_bundle / "configs" / "inference.json",
        bundle_root=tiny_bundle,
        dataset_dir=series,
        output_dir=tmp_path / "out",
        output_ext="dicom",
        consistency=True,
        preview=False,
    )
    assert done.status == 0, done.err
    found = [name for name in names(tmp_path / "out") if "/" not in name]
    assert found == ["head_sr", "head_sr.json", "head_sr_consistency.nii.gz"]
    assert len(list((tmp_path / "out" / "head_sr").iterdir())) == 14
