"""Readers against nibabel and SimpleITK, and one line for every kind of bad input."""

from __future__ import annotations

import errno
import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import list_data_collate
from monai.transforms import LoadImage, LoadImaged

from medsr.data.readers import VolumeReader, find_images, read_volume
from medsr.errors import InputError

READER = "medsr.data.readers.VolumeReader"
SHAPE = (6, 5, 4)
VALUES = np.random.default_rng(1).normal(100, 30, SHAPE).astype(np.float32)
LPS = np.diag([-1, -1, 1, 1])


def refusal(path: Path, **kwargs: Any) -> str:
    """Return the message with which `path` is refused, which is one line that names it."""
    with pytest.raises(InputError) as caught:
        read_volume(path, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def save_nifti(path: Path, data: Any = VALUES, affine: Any = None, **fields: Any) -> Path:
    """Write with nibabel, then set raw header fields (nibabel would repair some of them)."""
    image = nib.Nifti1Image(data, np.eye(4) if affine is None else affine)
    nib.save(image, path)
    if fields:
        raw = bytearray(path.read_bytes())
        header = np.frombuffer(raw[:348], dtype=nib.Nifti1Header.template_dtype).copy()
        for name, value in fields.items():
            header[name] = value
        raw[:348] = header.tobytes()
        path.write_bytes(raw)
    return path


@pytest.fixture(params=["right-handed", "left-handed", "permuted", "sheared", "tiny"])
def any_affine(request: pytest.FixtureRequest, oblique_affine: np.ndarray) -> np.ndarray:
    """Affines a scanner or a converter may produce."""
    affine = oblique_affine.copy()
    if request.param == "left-handed":
        affine[:, 0] *= -1
    elif request.param == "permuted":
        affine = affine[:, [2, 0, 1, 3]]
    elif request.param == "sheared":
        affine[:3, 2] += 0.3 * affine[:3, 1]
    elif request.param == "tiny":
        affine[:3] *= 1e-3
    return affine


# ---- NIfTI and MGH


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
def test_nifti_is_what_nibabel_reads(tmp_path: Path, any_affine: np.ndarray, suffix: str) -> None:
    path = save_nifti(tmp_path / f"a{suffix}", affine=any_affine)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, VALUES)
    np.testing.assert_array_equal(volume.affine, nib.load(path).affine)
    assert volume.data.dtype == np.float32
    assert volume.data.flags.c_contiguous
    assert volume.data.flags.owndata
    assert volume.affine.dtype == np.float64
    assert volume.meta == {
        "format": "nifti",
        "filename": str(path),
        "original_dtype": "float32",
        "sform_code": 2,
        "qform_code": 0,
        "units": "unknown",
        "series_uid": "",
        "warnings": [],
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float64, ">i2", ">f4"])
def test_dtypes_become_float32(tmp_path: Path, dtype: Any) -> None:
    path = save_nifti(tmp_path / "a.nii", VALUES.astype(dtype))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, VALUES.astype(dtype).astype(np.float32))
    assert volume.meta["original_dtype"] == np.dtype(dtype).newbyteorder("=").name


def test_scl_slope_is_applied(tmp_path: Path) -> None:
    stored = VALUES.astype(np.int16)
    path = save_nifti(tmp_path / "a.nii", stored, scl_slope=0.25, scl_inter=-1024)
    np.testing.assert_array_equal(read_volume(path).data, stored * np.float32(0.25) - 1024)
    assert read_volume(path).meta["original_dtype"] == "int16"


def test_large_integers_warn_of_float32(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", np.full(SHAPE, 2**24 + 1, np.int32))
    assert "2^24" in read_volume(path).meta["warnings"][0]


def test_qform_is_used_when_alone(tmp_path: Path, oblique_affine: np.ndarray) -> None:
    image = nib.Nifti1Image(VALUES, None)
    image.set_qform(oblique_affine, 1)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine, oblique_affine, atol=1e-5)
    assert (volume.meta["sform_code"], volume.meta["qform_code"]) == (0, 1)
    assert volume.meta["warnings"] == []


def test_sform_wins_over_a_qform_that_disagrees(tmp_path: Path, oblique_affine: np.ndarray) -> None:
    image = nib.Nifti1Image(VALUES, oblique_affine)
    elsewhere = oblique_affine.copy()
    elsewhere[:3, 3] += [0, 9, 0]
    image.set_sform(oblique_affine, 4)
    image.set_qform(elsewhere, 1)
    nib.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine, oblique_affine, atol=1e-5)
    assert "9 mm apart" in volume.meta["warnings"][0]
    assert (volume.meta["sform_code"], volume.meta["qform_code"]) == (4, 0)  # the qform is not this grid's


def test_agreeing_forms_do_not_warn(tmp_path: Path, oblique_affine: np.ndarray) -> None:
    image = nib.Nifti1Image(VALUES, oblique_affine)
    image.set_sform(oblique_affine, 1)
    image.set_qform(oblique_affine, 1)
    nib.save(image, tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").meta["warnings"] == []


def test_neither_form_coded_warns(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", sform_code=0, qform_code=0, pixdim=[1, 2, 3, 4, 1, 1, 1, 1])
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.affine, nib.load(path).affine)
    np.testing.assert_array_equal(np.abs(np.diag(volume.affine)[:3]), [2, 3, 4])
    assert "neither sform nor qform" in volume.meta["warnings"][0]


def test_pixdim_against_the_sform_warns(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", pixdim=[1, 1, 1, 5, 1, 1, 1, 1])
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.affine, np.eye(4))
    assert "pixdim" in volume.meta["warnings"][0]


@pytest.mark.parametrize(("code", "factor"), [(1, 1000.0), (3, 0.001), (2, 1.0), (77, 1.0)])
def test_lengths_become_mm(tmp_path: Path, code: int, factor: float) -> None:
    path = save_nifti(tmp_path / "a.nii", affine=np.diag([2, 3, 4, 1]), xyzt_units=code)
    np.testing.assert_allclose(read_volume(path).affine, np.diag([2, 3, 4, 1 / factor]) * factor)


def test_nifti2(tmp_path: Path, oblique_affine: np.ndarray) -> None:
    nib.save(nib.Nifti2Image(VALUES, oblique_affine), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.data, VALUES)
    np.testing.assert_array_equal(volume.affine, oblique_affine)  # NIfTI-2 is float64


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_mgh_is_what_nibabel_reads(tmp_path: Path, oblique_affine: np.ndarray, suffix: str) -> None:
    nib.save(nib.MGHImage(VALUES, oblique_affine), tmp_path / f"a{suffix}")
    volume = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(volume.data, VALUES)
    np.testing.assert_allclose(volume.affine, oblique_affine, atol=1e-5)
    assert volume.meta["format"] == "mgh"


def test_single_slices_and_trailing_ones(tmp_path: Path) -> None:
    for shape in [(6, 5), (6, 5, 1), (6, 5, 1, 1, 1)]:
        data = VALUES[:, :, 0].reshape(shape)
        np.testing.assert_array_equal(read_volume(save_nifti(tmp_path / "a.nii", data)).data, VALUES[:, :, :1])


# ---- NRRD and MetaImage


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("compressed", [True, False])
def test_itk_formats_are_where_simpleitk_puts_them(
    tmp_path: Path, any_affine: np.ndarray, suffix: str, compressed: bool
) -> None:
    image = sitk.GetImageFromArray(VALUES.T)
    lps = LPS @ any_affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, tmp_path / f"a{suffix}", useCompression=compressed)
    volume = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(volume.data, VALUES)
    np.testing.assert_allclose(volume.affine, any_affine, rtol=1e-12, atol=1e-12)
    again = sitk.ReadImage(tmp_path / f"a{suffix}")
    for index in [(0, 0, 0), (5, 0, 0), (2, 4, 3)]:
        point = np.array(again.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], point, atol=1e-9)
    assert volume.meta["format"] == ("nrrd" if suffix in (".nrrd", ".nhdr") else "metaimage")
    assert volume.meta["warnings"] == []


def write_nrrd(path: Path, *lines: str, sizes: str = "6 5 4") -> Path:
    """Write a NRRD file by hand."""
    header = ["NRRD0004", "type: float", f"dimension: {len(sizes.split())}", f"sizes: {sizes}", *lines]
    path.write_bytes("\n".join([*header, "endian: little", "encoding: raw", "", ""]).encode() + VALUES.T.tobytes())
    return path


def test_nrrd_in_ras_space(tmp_path: Path) -> None:
    path = write_nrrd(
        tmp_path / "a.nrrd",
        "space: right-anterior-superior",
        "space directions: (2,0,0) (0,0,3) (0,4,0)",
        "space origin: (1,2,3)",
    )
    expected = [[2, 0, 0, 1], [0, 0, 4, 2], [0, 3, 0, 3], [0, 0, 0, 1]]
    np.testing.assert_array_equal(read_volume(path).affine, expected)


def test_nrrd_headers_that_say_too_little(tmp_path: Path) -> None:
    assert "spacings" in refusal(write_nrrd(tmp_path / "a.nrrd"))
    for bad in ("0 1 1", "nan 1 1", "1 -2 1", "1 x 1"):
        assert "spacing above 0" in refusal(write_nrrd(tmp_path / "a.nrrd", f"spacings: {bad}"))
    zero = write_nrrd(tmp_path / "a.nrrd", "space: LPS", "space directions: (1,0,0) (0,0,0) (0,0,1)")
    assert "spacing above 0" in refusal(zero)
    flat = write_nrrd(tmp_path / "a.nrrd", "space: LPS", "space directions: (1,0,0) (1,0,0) (0,0,1)")
    assert refusal(flat)
    volume = read_volume(write_nrrd(tmp_path / "a.nrrd", "spacings: 1 2 3"))
    np.testing.assert_array_equal(np.abs(np.diag(volume.affine)), [1, 2, 3, 1])
    assert "no space" in volume.meta["warnings"][0]


def test_nrrd_lengths_in_micrometres(tmp_path: Path) -> None:
    directions = "space directions: (500,0,0) (0,500,0) (0,0,2000)"
    path = write_nrrd(tmp_path / "a.nrrd", "space: LPS", directions, 'space units: "um" "um" "um"')
    np.testing.assert_allclose(np.abs(np.diag(read_volume(path).affine)), [0.5, 0.5, 2, 1])


def test_metaimage_headers_that_say_too_little(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(VALUES.T), path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"ElementSpacing = 1 1 1\n", b""))
    assert "ElementSpacing" in refusal(path)
    path.write_bytes(whole.replace(b"ElementSpacing = 1 1 1\n", b"ElementSpacing = 1 0 1\n"))
    assert "spacing above 0" in refusal(path)
    path.write_bytes(whole.replace(b"1 0 0 0 1 0 0 0 1", b"1 0 0 1 0 0 0 0 1"))
    assert refusal(path)


def test_detached_data_that_are_missing(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(VALUES.T), tmp_path / "a.mhd")
    (tmp_path / "a.raw").unlink()
    assert "a.raw" in refusal(tmp_path / "a.mhd")
    sitk.WriteImage(sitk.GetImageFromArray(VALUES.T), tmp_path / "a.nhdr")
    (tmp_path / "a.raw").unlink()
    assert "a.raw" in refusal(tmp_path / "a.nhdr")


# ---- bad input, every format


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgz", ".nrrd", ".mha", ".dcm"])
def test_missing_empty_and_nonsense_files(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture) -> None:
    path = tmp_path / f"a{suffix}"
    assert "nothing there" in refusal(path)
    path.write_bytes(b"")
    assert "0 bytes" in refusal(path)
    path.write_bytes(b"this is not an image\n" * 100)
    assert "expected" in refusal(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgz", ".mgh", ".nrrd", ".mha"])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.98])
def test_truncated_files(tmp_path: Path, suffix: str, kept: float, capfd: pytest.CaptureFixture) -> None:
    path = tmp_path / f"a{suffix}"
    data = np.random.default_rng(0).normal(size=(20, 21, 22)).astype(np.float32)
    if suffix in (".nrrd", ".mha"):
        sitk.WriteImage(sitk.GetImageFromArray(data), path)
    else:
        nib.save((nib.Nifti1Image if "nii" in suffix else nib.MGHImage)(data, np.eye(4)), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    refusal(path)
    assert capfd.readouterr() == ("", "")


def test_compressed_files_cut_short(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    for suffix in (".nrrd", ".mha"):
        path = tmp_path / f"a{suffix}"
        data = np.random.default_rng(0).normal(size=(20, 21, 22)).astype(np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(data), path, useCompression=True)
        path.write_bytes(path.read_bytes()[:-3000])
        refusal(path)
    assert capfd.readouterr() == ("", "")


def test_gzip_with_a_wrong_checksum(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii")
    damaged = bytearray(gzip.compress(path.read_bytes()))
    damaged[-6] ^= 0xFF
    (tmp_path / "b.nii.gz").write_bytes(damaged)
    refusal(tmp_path / "b.nii.gz")


def test_four_dimensions(tmp_path: Path) -> None:
    assert "got 4D of size (6, 5, 2, 2)" in refusal(save_nifti(tmp_path / "a.nii", VALUES.reshape(6, 5, 2, 2)))
    assert "got 1D" in refusal(save_nifti(tmp_path / "a.nii", VALUES.ravel()))
    image = sitk.JoinSeries([sitk.GetImageFromArray(VALUES.T)] * 2)
    sitk.WriteImage(image, tmp_path / "a.nrrd")
    assert "got 4D" in refusal(tmp_path / "a.nrrd")
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(VALUES.T)]), tmp_path / "a.mha")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.mha").data, VALUES)


def test_colour_and_complex(tmp_path: Path) -> None:
    colour = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "colour (R/G/B)" in refusal(save_nifti(tmp_path / "a.nii", colour))
    assert "complex" in refusal(save_nifti(tmp_path / "a.nii", VALUES.astype(np.complex64)))
    for suffix in (".nrrd", ".mha"):
        vector = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
        sitk.WriteImage(vector, tmp_path / f"a{suffix}")
        assert "one number per voxel" in refusal(tmp_path / f"a{suffix}")
    sitk.WriteImage(sitk.GetImageFromArray(VALUES.T.astype(np.complex64)), tmp_path / "c.mha")
    assert "expected" in refusal(tmp_path / "c.mha")


@pytest.mark.parametrize("dim", [[3, 6, 0, 4, 1, 1, 1, 1], [3, 6, -5, 4, 1, 1, 1, 1]])
def test_zero_size(tmp_path: Path, dim: list[int]) -> None:
    assert "expected" in refusal(save_nifti(tmp_path / "a.nii", dim=dim))


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    data = VALUES.copy()
    data[2, 1, 3] = data[5, 4, 3] = np.nan
    data[3, 0, 0] = -np.inf
    message = refusal(save_nifti(tmp_path / "a.nii", data))
    assert "got 3 of 120 voxels" in message
    assert "2 NaN, 1 infinite" in message
    assert "index (2, 1, 3)" in message
    sitk.WriteImage(sitk.GetImageFromArray(data.T), tmp_path / "a.nrrd")
    assert "index (2, 1, 3)" in refusal(tmp_path / "a.nrrd")


def test_values_beyond_float32(tmp_path: Path) -> None:
    assert "float32 range" in refusal(save_nifti(tmp_path / "a.nii", VALUES.astype(np.float64) * 1e38))
    large = np.full(SHAPE, 3e38, np.float32)  # their sum is not finite in float32, they are
    np.testing.assert_array_equal(read_volume(save_nifti(tmp_path / "a.nii", large)).data, large)


@pytest.mark.parametrize("bad", [0.0, -2.0, np.nan, np.inf])
def test_spacing_in_pixdim(tmp_path: Path, bad: float) -> None:
    for qform_code in (0, 1):
        path = save_nifti(tmp_path / "a.nii", sform_code=0, qform_code=qform_code, pixdim=[1, 1, bad, 1, 1, 1, 1, 1])
        assert "spacing above 0" in refusal(path)


def test_unusable_sforms(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", srow_y=[0, np.nan, 0, 0])
    assert "finite affine" in refusal(path)
    assert "spacing above 0" in refusal(save_nifti(path, srow_x=[0, 0, 0, 0]))
    assert "singular affine" in refusal(save_nifti(path, srow_x=[1, 1, 0, 0], srow_y=[1, 1, 0, 0]))


def test_unusable_quaternion(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", sform_code=0, qform_code=1, quatern_b=3)
    assert "quaternion" in refusal(path)
    assert "expected" in refusal(save_nifti(path, sform_code=0, qform_code=1, quatern_b=np.nan))


@pytest.mark.parametrize("name", ["a.bmp", "a", "a.txt"])
def test_other_kinds_of_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x" * 500)
    assert "another kind of file" in refusal(tmp_path / name)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mgz", ".nrrd", ".mha", ".dcm", ""])
def test_no_permission(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"x" * 1000)

    def deny(*args: Any, **kwargs: Any) -> None:  # root, who may run the tests, may read everything
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)
    monkeypatch.setattr(nib, "load", deny)
    assert "cannot be read: Permission denied; check its permissions" in refusal(path)


# ---- MONAI


def test_load_imaged_by_name(tmp_path: Path, oblique_affine: np.ndarray) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", affine=oblique_affine)
    image = LoadImaged(keys="image", reader=READER, ensure_channel_first=True)({"image": path})["image"]
    assert image.shape == (1, *SHAPE)
    assert image.dtype == torch.float32
    assert image.affine.dtype == torch.float64
    np.testing.assert_array_equal(image[0].numpy(), VALUES)
    np.testing.assert_array_equal(image.affine.numpy(), nib.load(path).affine)
    np.testing.assert_array_equal(image.meta["original_affine"], image.affine.numpy())
    assert tuple(image.meta["spatial_shape"]) == SHAPE
    assert image.meta["space"] == "RAS"
    assert image.meta["filename_or_obj"] == str(path)


def test_load_image_does_not_fall_back_to_other_readers(tmp_path: Path) -> None:
    """MONAI's own readers take all of these: the first of two time points, a spacing of 0, NaN."""
    refused = [
        save_nifti(tmp_path / "4d.nii", VALUES.reshape(6, 5, 2, 2)),
        save_nifti(tmp_path / "zero.nii", sform_code=0, pixdim=[1, 1, 0, 1, 1, 1, 1, 1]),
        save_nifti(tmp_path / "nan.nii", VALUES * np.nan),
    ]
    for path in refused:
        LoadImage(image_only=True)(path)
        with pytest.raises(InputError, match=path.name):
            LoadImage(reader=READER, image_only=True)(path)
        with pytest.raises(InputError, match=path.name):
            LoadImaged(keys="image", reader=READER)({"image": path})


def test_reader_options_reach_it_by_name(tmp_path: Path) -> None:
    loader = LoadImage(reader=READER, image_only=True, series="1.2.3")
    assert loader.readers[-1].series == "1.2.3"
    assert VolumeReader().verify_suffix("anything.at.all")


def test_batches_of_images_with_different_warnings_collate(tmp_path: Path) -> None:
    quiet = save_nifti(tmp_path / "a.nii")
    warned = save_nifti(tmp_path / "b.nii", sform_code=0, qform_code=0)
    load = LoadImaged(keys="image", reader=READER, ensure_channel_first=True)
    batch = list_data_collate([load({"image": quiet}), load({"image": warned})])["image"]
    assert batch.shape == (2, 1, *SHAPE)
    assert [bool(note) for note in batch.meta["warnings"]] == [False, True]


def test_several_files_become_channels(tmp_path: Path, oblique_affine: np.ndarray) -> None:
    paths = [save_nifti(tmp_path / f"{k}.nii", VALUES + k, oblique_affine) for k in range(3)]
    image = LoadImage(reader=READER, ensure_channel_first=True)(paths)
    assert image.shape == (3, *SHAPE)
    np.testing.assert_array_equal(image[2].numpy(), VALUES + 2)
    save_nifti(paths[1], VALUES, np.eye(4))
    with pytest.raises(InputError, match=r"1.nii: expected the grid of the first channel"):
        LoadImage(reader=READER)(paths)
    save_nifti(paths[1], VALUES[:4], oblique_affine)
    with pytest.raises(InputError, match=r"1.nii: expected the size of the first channel"):
        LoadImage(reader=READER)(paths)


def test_warnings_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save_nifti(tmp_path / "a.nii", sform_code=0, qform_code=0)
    LoadImage(reader=READER)(path)
    assert "neither sform nor qform" in caplog.text


@pytest.mark.slow
def test_nothing_is_printed_in_a_fresh_process(tmp_path: Path) -> None:
    """The libraries' own complaints, C++ ones included, stay off stderr."""
    save_nifti(tmp_path / "a.nii", sform_code=0, qform_code=0, pixdim=[1, 0, -1, 1, 1, 1, 1, 1])
    sitk.WriteImage(sitk.GetImageFromArray(VALUES.T), tmp_path / "b.mha")
    (tmp_path / "b.mha").write_bytes((tmp_path / "b.mha").read_bytes()[:-100])
    code = (
        "import sys; from medsr.data.readers import read_volume\n"
        "from medsr.errors import InputError\n"
        "for name in sys.argv[1:]:\n"
        "    try: read_volume(name); sys.exit('accepted ' + name)\n"
        "    except InputError: pass\n"
    )
    names = [str(tmp_path / "a.nii"), str(tmp_path / "b.mha")]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- find_images


def touch(*paths: Path) -> None:
    """Create files; those that end in .dcm are DICOM by their magic word."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(128) + b"DICM" if path.suffix == ".dcm" else b"x")


def found(*inputs: Path | str) -> list[tuple[str, str]]:
    return [(source.path.name, source.stem) for source in find_images(list(inputs))]


def test_folder_of_images_in_natural_order(tmp_path: Path) -> None:
    names = [
        "s10.nii.gz",
        "s2.NII.GZ",
        "s1.nrrd",
        ".hidden.nii",
        "notes.txt",
        "a.b.mha",
        "pair.hdr",
        "pair.img",
    ]
    touch(*(tmp_path / name for name in names), tmp_path / "sub" / "deeper.nii")
    expected = [("a.b.mha", "a.b"), ("s1.nrrd", "s1"), ("s2.NII.GZ", "s2"), ("s10.nii.gz", "s10")]
    assert found(tmp_path) == expected


def test_dicom_folders(tmp_path: Path) -> None:
    touch(tmp_path / "p10" / "1.dcm", tmp_path / "p2" / "study" / "ser" / "1.dcm", tmp_path / "p2" / "x.txt")
    touch(tmp_path / ".git" / "1.dcm")
    assert found(tmp_path) == [("ser", "ser"), ("p10", "p10")]
    assert found(tmp_path / "p10") == [("p10", "p10")]
    assert all(source.is_dicom for source in find_images([tmp_path]))
    touch(tmp_path / "p10" / "sub" / "2.dcm")  # one series spread over subfolders is one image
    assert found(tmp_path / "p10") == [("p10", "p10")]
    assert found(tmp_path / "p10" / "1.dcm") == [("1.dcm", "1")]


def test_inputs_keep_their_order_and_count_once(tmp_path: Path) -> None:
    touch(tmp_path / "b.nii", tmp_path / "a.nii")
    (tmp_path / "link.nii").symlink_to(tmp_path / "a.nii")
    assert found(tmp_path / "b.nii", tmp_path, tmp_path / "a.nii") == [("b.nii", "b"), ("a.nii", "a")]
    assert [source.stem for source in find_images(tmp_path / "b.nii")] == ["b"]


def test_links_keep_their_own_names(tmp_path: Path) -> None:
    """Data sets under git-annex are links to files named by their hash."""
    touch(tmp_path / ".store" / "MD5E-s123--abc.nii.gz")
    (tmp_path / "sub-01_T1w.nii.gz").symlink_to(tmp_path / ".store" / "MD5E-s123--abc.nii.gz")
    assert found(tmp_path) == [("sub-01_T1w.nii.gz", "sub-01_T1w")]


def test_list_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in" / "a.nii", tmp_path / "b.nii", tmp_path / "ser" / "1.dcm")
    listing = tmp_path / "list.txt"
    listing.write_text(f"# cases\n\nin/a.nii\n{tmp_path / 'b.nii'}\nser\n")
    monkeypatch.chdir("/")
    assert found(listing) == [("a.nii", "a"), ("b.nii", "b"), ("ser", "ser")]
    listing.write_text("in/a.nii\nin/none.nii\n")
    with pytest.raises(InputError, match=r"list.txt, line 2: .*none.nii"):
        find_images([listing])
    listing.write_text("# nothing\n")
    with pytest.raises(InputError, match="no line with one"):
        find_images([listing])


def test_equal_names_get_their_folders(tmp_path: Path) -> None:
    touch(
        tmp_path / "x" / "s1" / "T1.nii",
        tmp_path / "x" / "s2" / "T1.nii",
        tmp_path / "y" / "s2" / "t1.nii.gz",
    )
    touch(tmp_path / "only.nii")
    stems = [stem for _, stem in found(*sorted(tmp_path.rglob("*.nii*")))]
    assert stems == ["only", "s1_T1", "x_s2_T1", "y_s2_t1"]
    touch(tmp_path / "x" / "s1" / "T1.mha")
    with pytest.raises(InputError, match="rename one"):
        find_images([tmp_path / "x" / "s1"])


def test_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "a.jpg")
    for inputs, words in [
        ([], "empty list"),
        ([tmp_path / "empty"], "an empty folder"),
        ([tmp_path], "other files"),
        ([tmp_path / "a.jpg"], "another kind of file"),
        ([tmp_path / "none"], "nothing there"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            find_images(inputs)
        assert "\n" not in str(caught.value)


@given(
    names=st.lists(st.sampled_from(["a/x.nii", "b/x.nii", "a/c/x.nii", "x/x.nii", "a_x.nii", "b/a_x.nii"]), min_size=1)
)
def test_result_names_are_unique(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("names")
    touch(*(root / name for name in names))
    try:
        sources = find_images([root / name for name in names])
    except InputError:  # the one thing that no prefix tells apart: a folder and a name that contains it
        assert {"a/x.nii", "a_x.nii"} <= set(names)
        return
    assert len(sources) == len(set(names))
    assert len({source.stem.casefold() for source in sources}) == len(sources)
