"""Round trips against nibabel and SimpleITK, and what is left behind when writing fails."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from hypothesis import given
from hypothesis import strategies as st

from medsr.data.readers import read_volume
from medsr.data.writers import atomic_path, write_json_atomic, write_volume
from medsr.errors import InputError, OutputError

SHAPE = (6, 5, 4)
VALUES = np.random.default_rng(2).normal(-20, 300, SHAPE).astype(np.float32)
CORNERS = [(0, 0, 0), (5, 0, 0), (0, 4, 0), (0, 0, 3), (5, 4, 3)]


def variant(affine: np.ndarray, kind: str) -> np.ndarray:
    """Change a right-handed oblique affine into another kind."""
    affine = affine.copy()
    if kind == "left-handed":
        affine[:, 0] *= -1
    elif kind == "permuted":
        affine = affine[:, [2, 0, 1, 3]]
    elif kind == "sheared":
        affine[:3, 2] += 0.3 * affine[:3, 1]
    return affine


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(OutputError) as caught:
        write_volume(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- what is written


@pytest.mark.parametrize("kind", ["right-handed", "left-handed", "permuted", "sheared"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_by_nibabel(tmp_path: Path, oblique_affine: np.ndarray, kind: str, suffix: str) -> None:
    affine = variant(oblique_affine, kind)
    assert write_volume(tmp_path / f"a{suffix}", VALUES, affine) == []
    image = nib.load(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(np.asarray(image.dataobj), VALUES)
    np.testing.assert_allclose(image.affine, affine, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(image.header.get_zooms(), np.linalg.norm(affine[:3, :3], axis=0), rtol=1e-6)
    assert image.get_data_dtype() == np.float32
    assert image.header.get_xyzt_units()[0] == "mm"
    if kind == "sheared":
        assert image.get_qform(coded=True) == (None, 0)
    else:
        np.testing.assert_allclose(image.get_qform(), affine, atol=1e-5)
    volume = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(volume.data, VALUES)
    assert volume.meta["warnings"] == []


@pytest.mark.parametrize("kind", ["right-handed", "left-handed", "permuted"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_voxels_lie_where_simpleitk_finds_them(
    tmp_path: Path, oblique_affine: np.ndarray, kind: str, suffix: str
) -> None:
    affine = variant(oblique_affine, kind)
    write_volume(tmp_path / f"a{suffix}", VALUES, affine)
    image = sitk.ReadImage(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, VALUES)
    tolerance = 1e-4 if suffix == ".nii.gz" else 1e-12  # NIfTI is float32
    for corner in CORNERS:
        point = np.array(image.TransformIndexToPhysicalPoint(corner)) * [-1, -1, 1]
        np.testing.assert_allclose(point, (affine @ [*corner, 1])[:3], rtol=tolerance, atol=tolerance)
    volume = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(volume.data, VALUES)
    np.testing.assert_allclose(volume.affine, affine, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_shear_is_only_for_nifti(tmp_path: Path, oblique_affine: np.ndarray, suffix: str) -> None:
    sheared = variant(oblique_affine, "sheared")
    assert "write .nii.gz instead" in refusal(tmp_path / f"a{suffix}", VALUES, sheared)
    assert list(tmp_path.iterdir()) == []
    # The rounding of direction cosines in a header is no shear.
    rounded = oblique_affine.copy()
    rounded[:3, :3] = np.round(oblique_affine[:3, :3], 5)
    assert write_volume(tmp_path / f"a{suffix}", VALUES, rounded) == []
    write_volume(tmp_path / "a.nii", VALUES, rounded)
    assert nib.load(tmp_path / "a.nii").header["qform_code"] > 0


@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.05, 12)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    flip=st.booleans(),
)
def test_any_orthogonal_grid_comes_back(
    tmp_path_factory: pytest.TempPathFactory, angles: Any, spacing: Any, origin: Any, flip: bool
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    a, b, c = np.deg2rad(angles)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = z @ y @ x * spacing * [-1 if flip else 1, 1, 1]
    affine[:3, 3] = origin
    for suffix, tolerance in ((".nii", 1e-6), (".nrrd", 1e-12)):
        write_volume(folder / f"a{suffix}", VALUES, affine)
        volume = read_volume(folder / f"a{suffix}")
        np.testing.assert_allclose(volume.affine, affine, rtol=tolerance, atol=tolerance)
        assert volume.meta["warnings"] == []
        if suffix == ".nii":
            assert volume.meta["qform_code"] == volume.meta["sform_code"] == 2


@pytest.mark.parametrize(
    ("like", "codes"),
    [
        (None, (2, 2)),
        ({"sform_code": 4, "qform_code": 1}, (4, 1)),
        ({"sform_code": 0, "qform_code": 1}, (1, 1)),
        ({"sform_code": 4, "qform_code": 0}, (4, 4)),
        ({"sform_code": torch.tensor([3]), "qform_code": np.int16(0)}, (3, 3)),
        ({"format": "dicom", "sform_code": 0, "qform_code": 0}, (1, 1)),
    ],
)
def test_codes_are_carried_over(tmp_path: Path, oblique_affine: np.ndarray, like: Any, codes: Any) -> None:
    write_volume(tmp_path / "a.nii", VALUES, oblique_affine, like=like, descrip="medsr " + "é" * 99)
    header = nib.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == codes
    assert bytes(header["descrip"]).startswith(b"medsr ")


def test_integers_on_request_round_and_clip_with_a_warning(tmp_path: Path) -> None:
    values = np.array([-3.0, 0.4, 0.6, 254.9, 255.4, 300.0]).reshape(6, 1, 1)
    warnings = write_volume(tmp_path / "a.nii", values, np.eye(4), dtype=np.uint8)
    assert np.asarray(nib.load(tmp_path / "a.nii").dataobj).ravel().tolist() == [0, 0, 1, 255, 255, 255]
    assert nib.load(tmp_path / "a.nii").get_data_dtype() == np.uint8
    assert "rounded" in warnings[0]
    assert "2 of 6 voxels were outside [0, 255]" in warnings[1]
    whole = np.arange(120, dtype=np.float32).reshape(SHAPE)
    assert write_volume(tmp_path / "b.mha", whole, np.eye(4), dtype="int16") == []
    assert sitk.ReadImage(tmp_path / "b.mha").GetPixelID() == sitk.sitkInt16
    # float32 cannot hold 2^31 - 1: without care it wraps to -2^31
    write_volume(tmp_path / "c.nii", np.full(SHAPE, 3e9, np.float32), np.eye(4), dtype=np.int32)
    assert np.asarray(nib.load(tmp_path / "c.nii").dataobj).min() == 2**31 - 1


def test_float64_and_tensors(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nrrd", torch.from_numpy(VALUES).double() / 3, torch.eye(4), dtype=np.float64)
    image = sitk.ReadImage(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, VALUES.astype(np.float64) / 3)


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, VALUES, np.eye(4))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


# ---- what is refused


def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    eye = np.eye(4)
    assert "name ending in" in refusal(tmp_path / "a.png", VALUES, eye)
    assert "no suffix" in refusal(tmp_path / "a", VALUES, eye)
    assert "name ending in" in refusal(tmp_path / "a.mhd", VALUES, eye)  # two files cannot appear at once
    assert "(X, Y, Z)" in refusal(tmp_path / "a.nii", VALUES[None], eye)
    assert "(X, Y, Z)" in refusal(tmp_path / "a.nii", VALUES.astype(np.complex64), eye)
    assert "1 NaN" in refusal(tmp_path / "a.nii", np.where(VALUES[1, 2, 3] == VALUES, np.nan, VALUES), eye)
    assert "range of float32" in refusal(tmp_path / "a.nii", VALUES.astype(np.float64) * 1e38, eye)
    assert "expected one of the dtypes float32, " in refusal(tmp_path / "a.nii", VALUES, eye, dtype=np.float16)
    assert "4x4 affine" in refusal(tmp_path / "a.nii", VALUES, np.full((4, 4), np.nan))
    assert "write .nrrd instead" in refusal(tmp_path / "a.nii", np.zeros((40000, 1, 1)), eye)
    assert list(tmp_path.iterdir()) == []


def test_overwriting(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_text("precious")
    assert "allow overwriting" in refusal(tmp_path / "a.nii", VALUES, np.eye(4), overwrite=False)
    assert (tmp_path / "a.nii").read_text() == "precious"
    write_volume(tmp_path / "a.nii", VALUES, np.eye(4))
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "not a folder" in refusal(tmp_path / "file" / "a.nii", VALUES, np.eye(4))
    assert "not a folder" in refusal(tmp_path / "file" / "sub" / "a.nii", VALUES, np.eye(4))
    (tmp_path / "folder.nii").mkdir()
    assert "existing folder" in refusal(tmp_path / "folder.nii", VALUES, np.eye(4))
    assert "too long" in refusal(tmp_path / ("a" * 300 + ".nii"), VALUES, np.eye(4))
    write_volume(tmp_path / "new" / "sub" / "a.nii", VALUES, np.eye(4))  # folders are created
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.nii", "new"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "no permission" in refusal(tmp_path / "a.nii", VALUES, np.eye(4))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO])
def test_errors_of_the_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / "a.nii.gz").write_text("precious")
    message = refusal(tmp_path / "a.nii.gz", VALUES, np.eye(4))
    assert ("the disk is full" in message) == (code == errno.ENOSPC)
    assert (tmp_path / "a.nii.gz").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".json"])
def test_a_write_that_stops_half_way(tmp_path: Path, suffix: str) -> None:
    code = f"""
import resource, sys
import numpy as np
from medsr.data.writers import write_json_atomic, write_volume
from medsr.errors import OutputError
values = np.random.default_rng(0).normal(size=(20, 20, 20))
resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))
try:
    if "{suffix}" == ".json":
        write_json_atomic("a.json", {{"values": values}})
    else:
        write_volume("a{suffix}", values, np.eye(4))
except OutputError as error:
    assert "cannot be written" in str(error) and "\\n" not in str(error), error
    sys.exit(3)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 3, done.stderr.decode()
    assert list(tmp_path.iterdir()) == []


# ---- atomic_path and JSON


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, InputError, ZeroDivisionError])
def test_interrupted_block_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.tar.gz"

    def write() -> None:
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == []


def test_file_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "preview.png"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == ".png"
        assert not path.exists()
    assert path.read_text() == "whole"
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with pytest.raises(OutputError), atomic_path(tmp_path / "b.png"):
        pass  # nothing was written


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_json(tmp_path: Path) -> None:
    content = {
        "path": tmp_path,
        "scale": (Fraction(5, 2), 2),
        "psnr": np.float32(31.5),
        "all": [float("inf"), -np.inf, np.nan],
        "tensor": torch.arange(3),
        "none": None,
        "device": torch.device("cpu"),
        3: "µm",
    }
    write_json_atomic(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "µm" in text
    assert json.loads(text) == {
        "path": str(tmp_path),
        "scale": ["5/2", 2],
        "psnr": 31.5,
        "all": ["inf", "-inf", "nan"],
        "tensor": [0, 1, 2],
        "none": None,
        "device": "cpu",
        "3": "µm",
    }
    with pytest.raises(OutputError, match="no JSON form"):
        write_json_atomic(tmp_path / "b.json", {"x": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
