"""What the app makes of every bundle and every kind of image, voxel by voxel as the bundle's own command."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

pytestmark = [pytest.mark.server, pytest.mark.slow]

ANY_SCALE = "recnn3d"  # takes every request
SUFFIXES = {"plain": ".nii", "packed": ".nii.gz", "scalar": ".nrrd", "meta": ".mha"}
SUFFIXES |= {"sheared": ".nii.gz", "series": ".nii.gz"}  # a DICOM series has no suffix to answer with
PATIENT = "DOE_JOHN"


def test_info(server: Any, bundle_roots: list[Path]) -> None:
    info = server.get("/info/").json()
    assert set(info["models"]) == set(info["trainers"]) == {root.name for root in bundle_roots}
    assert info["models"][ANY_SCALE]["type"] == "others", "not a segmentation"
    assert set(server.get("/datastore/", output="all").json()["objects"]) == set(SUFFIXES)


@pytest.mark.parametrize("stem", SUFFIXES)
def test_datastore_id(
    server: Any, root: Path, inputs: Path, direct: Callable[..., Any], check: Callable[..., None], stem: str
) -> None:
    answer = server.infer(root.name, stem)
    assert answer.status_code == 200, answer.text
    check(answer.content, direct(root, inputs), stem, SUFFIXES[stem])


@pytest.mark.parametrize("name", ["plain.nii", "packed.nii.gz", "scalar.nrrd", "meta.mha", "sheared.nii.gz"])
def test_upload(
    server: Any, root: Path, inputs: Path, direct: Callable[..., Any], check: Callable[..., None], name: str
) -> None:
    stem, _, suffix = name.partition(".")
    answer = server.infer(root.name, upload=inputs / name, result_dtype="float32")
    assert answer.status_code == 200, answer.text
    check(answer.content, direct(root, inputs), stem, f".{suffix}")


def test_dicom_as_archive_and_as_server_path(
    server: Any,
    inputs: Path,
    direct: Callable[..., Any],
    check: Callable[..., None],
    bundle_roots: list[Path],
    tmp_path: Path,
    refused: Callable[..., None],
) -> None:
    bundle = next(root for root in bundle_roots if root.name == ANY_SCALE)
    archive = Path(shutil.make_archive(str(tmp_path / "study"), "zip", inputs / "series"))
    for answer in (
        server.infer(ANY_SCALE, upload=archive, series="1.2.3.4"),
        server.infer(ANY_SCALE, str(server.studies / "series"), result_extension="nrrd"),
    ):
        assert answer.status_code == 200, answer.text
        suffix = ".nrrd" if answer.content.startswith(b"NRRD") else ".nii.gz"
        check(answer.content, direct(bundle, inputs), "series", suffix)
    refused(server.infer(ANY_SCALE, "series", series="9.9.9"), 400, "expected series 9.9.9")


def test_sessions(
    server: Any,
    bundle_roots: list[Path],
    inputs: Path,
    direct: Callable[..., Any],
    check: Callable[..., None],
    tmp_path: Path,
) -> None:
    """Files sent first, as the slices they are or as an archive; then enlarged by the session's name."""
    bundle = next(root for root in bundle_roots if root.name == ANY_SCALE)
    archive = Path(shutil.make_archive(str(tmp_path / "study"), "zip", inputs / "series"))
    for sent in (
        server.put_session(*sorted((inputs / "series").iterdir())),
        server.put_session(archive, uncompress=True),
    ):
        assert sent.status_code == 200, sent.text
        answer = server.infer(ANY_SCALE, f"session:{sent.json()['session_id']}")
        assert answer.status_code == 200, answer.text
        check(answer.content, direct(bundle, inputs), "series", ".nii.gz")


def test_parts_of_an_answer(server: Any, root: Path) -> None:
    answer = server.infer(root.name, "packed", output="json").json()
    record = answer["record"]
    assert record["method"]["bundle"] == root.name
    assert record["input"]["name"] == "packed"
    both = server.infer(root.name, "packed", output="all")
    assert both.headers["content-type"].startswith("multipart/form-data")
    assert b"Research use only" in both.content


@pytest.mark.parametrize(
    ("asked", "settings"),
    [
        ({"scale": 2.5}, {"scale": 2.5}),
        ({"scale": "1 1 3"}, {"scale": [1, 1, 3]}),
        ({"spacing": [1, 1, 1]}, {"spacing": [1, 1, 1]}),
        ({"scale": "", "spacing": "0.8", "formation": "kspace"}, {"spacing": 0.8, "formation": "kspace"}),
    ],
)
def test_scale_or_spacing(
    server: Any,
    bundle_roots: list[Path],
    inputs: Path,
    direct: Callable[..., Any],
    check: Callable[..., None],
    asked: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    bundle = next(root for root in bundle_roots if root.name == ANY_SCALE)
    answer = server.infer(ANY_SCALE, "sheared", **asked)
    assert answer.status_code == 200, answer.text
    check(answer.content, direct(bundle, inputs, **settings), "sheared", ".nii.gz")


def test_maps(
    server: Any, root: Path, inputs: Path, direct: Callable[..., Any], check: Callable[..., None], tmp_path: Path
) -> None:
    answer = server.infer(root.name, "packed", consistency=True, uncertainty=True)
    assert answer.status_code == 200, answer.text
    expected = direct(root, inputs, ensemble=True, consistency=True)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path)
        names = set(archive.namelist())
    assert names == {f"packed_sr{end}" for end in (".nii.gz", "_std.nii.gz", "_consistency.nii.gz", ".json")}
    check((tmp_path / "packed_sr.nii.gz").read_bytes(), expected, "packed", ".nii.gz")
    for name in ("packed_sr_std.nii.gz", "packed_sr_consistency.nii.gz"):
        got, made = nib.load(tmp_path / name), nib.load(expected.folder / name)
        np.testing.assert_array_equal(got.get_fdata(), made.get_fdata())
        np.testing.assert_array_equal(got.affine, made.affine)
        assert got.get_fdata().max() > 0


def test_derived_dicom_series(
    server: Any,
    bundle_roots: list[Path],
    inputs: Path,
    direct: Callable[..., Any],
    tmp_path: Path,
    refused: Callable[..., None],
) -> None:
    """DICOM in, DICOM out: the series that the bundle's own command derives, of the same patient."""
    bundle = next(root for root in bundle_roots if root.name == ANY_SCALE)
    answer = server.infer(ANY_SCALE, "series", result_extension="dicom")
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path)
    expected = direct(bundle, inputs / "series", output_ext="dicom").folder / "series_sr"
    files = sorted(path.name for path in expected.iterdir())
    assert len(files) == 20
    assert files == sorted(path.name for path in (tmp_path / "series_sr").iterdir())
    for name in files:
        got, made = (pydicom.dcmread(folder / name) for folder in (tmp_path / "series_sr", expected))
        assert got.PixelData == made.PixelData
        assert got.ImagePositionPatient == made.ImagePositionPatient
        assert got.PatientName == PATIENT.replace("_", "^")
        assert got.SOPInstanceUID == made.SOPInstanceUID
    refused(server.infer(ANY_SCALE, "packed", result_extension="dicom"), 400, "expected a DICOM input")
    answer = server.infer(ANY_SCALE, "series", result_extension="dicom", save_label=True)
    refused(answer, 400, "derived series are not kept in the datastore; omit save_label or result_extension")


def test_batch_tells_which_image_failed(
    server: Any, root: Path, inputs: Path, direct: Callable[..., Any], check: Callable[..., None]
) -> None:
    expected = direct(root, inputs)
    answer = server.batch(root.name, save_label=True, label_tag="original")
    assert answer.status_code == 200, answer.text
    done = answer.json()
    assert set(done) >= set(SUFFIXES)
    for stem, suffix in SUFFIXES.items():
        assert "error" not in done[stem]
        label = server.get("/datastore/label", label=stem, tag="original")
        check(label.content, expected, stem, suffix)


def test_batch_in_the_background_with_maps_and_a_damaged_image(server: Any, tmp_path: Path) -> None:
    damaged = server.studies / f"{PATIENT}.nii.gz"
    damaged.write_bytes(b"\x1f\x8b nothing")
    try:
        answer = server.batch(ANY_SCALE, run_sync=True, consistency=True, label_tag="background", scale=2)
        assert answer.status_code == 200, answer.text
        assert "expected a readable" in answer.json()[PATIENT]["error"]
        assert str(server.studies) not in answer.text
        assert server.batch(ANY_SCALE, run_sync=False, consistency=True, label_tag="background", scale=2).ok
        done = server.finished("batch/infer")
        assert done["status"] == "ERROR"
        assert "medsr: error: 1 of 7 images failed" in done["details"]
        assert PATIENT not in " ".join(done["details"])
    finally:
        damaged.unlink()
    assert server.get("/datastore/label", label="sheared", tag="consistency").status_code == 200
    assert server.get("/datastore/label", label="sheared", tag="background").status_code == 200


def test_new_image(
    server: Any, root: Path, inputs: Path, direct: Callable[..., Any], check: Callable[..., None]
) -> None:
    assert server.put_image("fresh", inputs / "meta.mha").status_code == 200
    answer = server.infer(root.name, "fresh", result_extension=".nii.gz")
    check(answer.content, direct(root, inputs), "meta", ".nii.gz")
    assert server.session.delete(f"{server.url}/datastore/image", params={"id": "fresh"}).status_code == 200
