"""DICOM inputs of the two doors: one series of a study, an archive, a single slice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

SHAPE = (9, 8, 7)

Write = Callable[..., Any]


@pytest.fixture
def study(tmp_path: Path, phantom: Callable[..., np.ndarray], oblique_affine: np.ndarray, write_dicom: Write) -> Path:
    """Two series, of 1000 and of 2000 plus a phantom, in a folder each."""

    def second(k: int, image: Any) -> None:
        image.SeriesInstanceUID, image.SeriesNumber, image.SeriesDescription = "1.2.3.9", 12, "T2 axial"

    write_dicom(tmp_path / "study" / "one", phantom(SHAPE) + 1000, oblique_affine)
    write_dicom(tmp_path / "study" / "two", phantom(SHAPE) + 2000, oblique_affine, second)
    return tmp_path / "study"


def test_one_series_of_a_study_and_of_its_archive(
    study: Path, medsr_command: Write, monai_bundle: Write, tiny_bundle: Path, tmp_path: Path
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", study))
    out = tmp_path / "out"
    options = ["-o", out, "--bundle", tiny_bundle, "--scale", 2, 1, 1, "--series", "1.2.3.9", "--no-preview"]
    done = medsr_command("upscale", study, archive, *options)
    assert done.status == 0, done.err
    images = [nib.load(out / f"{name}_sr.nii.gz") for name in ("study", "packed")]
    np.testing.assert_array_equal(images[0].get_fdata(), images[1].get_fdata())
    assert images[0].shape == (18, 8, 7)
    assert 1500 < np.median(images[0].get_fdata()) < 2500

    ran = monai_bundle(
        "run",
        config_file=tiny_bundle / "configs" / "inference.json",
        dataset_dir=study,
        output_dir=tmp_path / "bundle",
        scale="[2,1,1]",
        series="1.2.3.9",
        preview=False,
    )
    assert ran.status == 0, ran.err
    again = nib.load(tmp_path / "bundle" / "study_sr.nii.gz")
    np.testing.assert_array_equal(again.get_fdata(), images[0].get_fdata())
    np.testing.assert_array_equal(again.affine, images[0].affine)


def test_what_may_be_chosen_is_listed(study: Path, medsr_command: Write, tiny_bundle: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", study))
    options = ["-o", tmp_path / "out", "--bundle", tiny_bundle, "--scale", 2]
    for arguments, words in (([archive], "choose one with --series UID"), ([study, "--series", "1.9"], "series 1.9")):
        done = medsr_command("upscale", *arguments, *options)
        assert done.status == 1
        line = next(line for line in done.err.splitlines() if line.startswith("medsr: error:"))
        assert words in line
        assert "series 12 'T2 axial' (CT, 7 images, UID 1.2.3.9)" in line
        assert not list((tmp_path / "out").iterdir())


def test_a_single_slice_is_enlarged_in_its_plane(
    tmp_path: Path,
    phantom: Callable[..., np.ndarray],
    oblique_affine: np.ndarray,
    write_dicom: Write,
    medsr_command: Write,
    tiny_bundle: Path,
) -> None:
    write_dicom(tmp_path / "slice", phantom((16, 14, 1)), oblique_affine)
    done = medsr_command(
        "upscale", tmp_path / "slice", "-o", tmp_path / "out", "--bundle", tiny_bundle, "--scale", 2, 2, 1
    )
    assert done.status == 0, done.err
    image = nib.load(tmp_path / "out" / "slice_sr.nii.gz")
    assert image.shape == (32, 28, 1)
    np.testing.assert_allclose(image.affine[:3, 2], oblique_affine[:3, 2], atol=1e-5)  # the thickness, kept
    np.testing.assert_allclose(image.affine[:3, :2], oblique_affine[:3, :2] / 2, atol=1e-5)
