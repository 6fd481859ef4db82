"""``medsr.upscale``: the same image whatever it comes as, and the same as the bundle's own run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai.data import MetaTensor

import medsr
from medsr.errors import GridError, InputError, MedsrError
from medsr.upscaling import Upscaler

SHAPE = (9, 8, 7)
SPACING = [0.5, 0.75, 1.5]  # a target: real-valued scales 2.5, 4/3 and 1 of the image below


@pytest.fixture
def image(phantom: Callable[..., np.ndarray], left_handed_affine: np.ndarray) -> nib.Nifti1Image:
    result = nib.Nifti1Image(phantom(SHAPE), left_handed_affine)
    result.set_sform(left_handed_affine, 1)
    result.set_qform(left_handed_affine, 1)
    return result


@pytest.fixture
def file(image: nib.Nifti1Image, tmp_path: Path) -> Path:
    nib.save(image, tmp_path / "image.nii.gz")
    return tmp_path / "image.nii.gz"


def as_itk(image: nib.Nifti1Image) -> Any:
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    result = sitk.GetImageFromArray(np.asarray(image.dataobj).transpose(2, 1, 0))
    result.SetSpacing(spacing.tolist())
    result.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    result.SetOrigin(lps[:3, 3].tolist())
    return result


def as_tensor(image: nib.Nifti1Image) -> MetaTensor:
    return MetaTensor(torch.as_tensor(np.asarray(image.dataobj)), affine=torch.as_tensor(image.affine))


@pytest.mark.parametrize("request_", [{"scale": 2}, {"scale": (1, 2.5, 1.5)}, {"spacing": SPACING}], ids=str)
def test_every_kind_of_image_gives_the_same(
    image: nib.Nifti1Image, file: Path, tiny_bundle: Path, request_: dict[str, Any]
) -> None:
    upscaler = Upscaler(tiny_bundle, **request_)
    by_path = upscaler(file)
    by_text = upscaler(str(file))
    by_nibabel = upscaler(nib.load(file))
    by_itk = upscaler(as_itk(image))
    by_tensor, by_channel = upscaler(as_tensor(image)), upscaler(as_tensor(image)[None])

    assert isinstance(by_path, MetaTensor)
    assert by_path.dtype == torch.float32
    reference = by_path.numpy()[0]
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    scale = np.broadcast_to(request_.get("scale", spacing / SPACING), 3)
    assert reference.shape == tuple(round(n * s) for n, s in zip(SHAPE, scale.tolist(), strict=True))
    np.testing.assert_array_equal(by_text.numpy()[0], reference)

    assert isinstance(by_nibabel, nib.Nifti1Image)
    assert by_nibabel.get_data_dtype() == np.float32
    np.testing.assert_array_equal(by_nibabel.get_fdata(dtype=np.float32), reference)
    np.testing.assert_allclose(by_nibabel.affine, by_path.affine, atol=1e-12)

    assert isinstance(by_itk, sitk.Image)
    assert by_itk.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(sitk.GetArrayFromImage(by_itk).transpose(2, 1, 0), reference)
    np.testing.assert_allclose(by_itk.GetOrigin(), np.diag([-1, -1, 1]) @ by_path.affine.numpy()[:3, 3], atol=1e-5)
    np.testing.assert_allclose(by_itk.GetSpacing(), spacing / scale, rtol=1e-6)

    for tensor in (by_tensor, by_channel):
        assert tuple(tensor.shape) == (1, *reference.shape)
        np.testing.assert_array_equal(tensor.numpy()[0], reference)
        np.testing.assert_allclose(tensor.affine, by_path.affine, atol=1e-5)


def test_equals_the_run_of_the_bundle(
    file: Path, tiny_bundle: Path, tmp_path: Path, monai_bundle: Callable[..., Any]
) -> None:
    done = monai_bundle(
        "run",
        config_file=tiny_bundle / "configs" / "inference.json",
        dataset_dir=file,
        output_dir=tmp_path / "out",
        scale="[2,1.5,2]",
    )
    assert done.status == 0, done.err
    saved = nib.load(tmp_path / "out" / "image_sr.nii.gz")
    result = medsr.upscale(file, tiny_bundle, scale=[2, 1.5, 2])
    np.testing.assert_array_equal(result.numpy()[0], np.asarray(saved.dataobj))
    np.testing.assert_allclose(result.affine, saved.affine, atol=2e-5)
    for key in ("sform_code", "qform_code"):
        assert int(saved.header[key]) == 1


def test_shipped_bundle_is_the_default(image: nib.Nifti1Image) -> None:
    result = medsr.upscale(image, scale=2)
    explicit = medsr.upscale(image, "recnn3d", scale=2, device="cpu", precision="float32")
    np.testing.assert_array_equal(result.get_fdata(), explicit.get_fdata())


def test_input_is_not_changed(image: nib.Nifti1Image, tiny_bundle: Path) -> None:
    tensor = as_tensor(image).float()
    before = tensor.clone()
    upscaler = Upscaler(tiny_bundle, scale=2)
    upscaler(tensor)
    assert torch.equal(tensor, before)
    assert set(tensor.meta) == set(before.meta)
    header = image.header.copy()
    upscaler(image)
    assert image.header == header
    assert image.shape == SHAPE


@pytest.mark.parametrize(("sform", "qform"), [(1, 1), (4, 0), (0, 1), (0, 0)])
def test_nifti_comes_back_from_disk_where_it_was(
    phantom: Callable[..., np.ndarray],
    left_handed_affine: np.ndarray,
    tiny_bundle: Path,
    tmp_path: Path,
    sform: int,
    qform: int,
) -> None:
    given = nib.Nifti1Image(phantom(SHAPE), left_handed_affine)
    given.set_sform(left_handed_affine, sform)
    given.set_qform(left_handed_affine, qform)
    result = medsr.upscale(given, tiny_bundle, scale=[1.5, 1, 2])
    nib.save(result, tmp_path / "sr.nii")
    read = nib.load(tmp_path / "sr.nii")
    np.testing.assert_allclose(read.affine, result.affine, atol=2e-5)
    np.testing.assert_array_equal(read.get_fdata(dtype=np.float32), result.get_fdata(dtype=np.float32))
    assert int(read.header["sform_code"]) == (sform or qform or 2)
    assert int(read.header["qform_code"]) == qform


def test_sheared_nifti(phantom: Callable[..., np.ndarray], tiny_bundle: Path, tmp_path: Path) -> None:
    affine = np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0.1, 2, 0], [0, 0, 0, 1]])
    result = medsr.upscale(nib.Nifti1Image(phantom(SHAPE), affine), tiny_bundle, scale=2)
    nib.save(result, tmp_path / "sr.nii")
    np.testing.assert_allclose(nib.load(tmp_path / "sr.nii").affine[:3, :3], affine[:3, :3] / 2, atol=1e-6)


def test_scaled_integers_and_trailing_axes(
    phantom: Callable[..., np.ndarray], left_handed_affine: np.ndarray, tiny_bundle: Path, tmp_path: Path
) -> None:
    values = phantom(SHAPE)[..., None]
    image = nib.Nifti1Image(values, left_handed_affine)
    image.header.set_slope_inter(0.5, 100)
    nib.save(image, tmp_path / "scaled.nii")
    by_image = medsr.upscale(nib.load(tmp_path / "scaled.nii"), tiny_bundle, scale=2)
    by_path = medsr.upscale(tmp_path / "scaled.nii", tiny_bundle, scale=2)
    np.testing.assert_array_equal(by_image.get_fdata(dtype=np.float32), by_path.numpy()[0])
    assert by_image.header.get_slope_inter() in ((1, 0), (None, None))


def test_minc_like_images_without_a_nifti_header(image: nib.Nifti1Image, tiny_bundle: Path) -> None:
    mgh = nib.MGHImage(np.asarray(image.dataobj, dtype=np.float32), image.affine)
    result = medsr.upscale(mgh, tiny_bundle, scale=2)
    assert isinstance(result, nib.Nifti1Image)
    np.testing.assert_allclose(result.affine[:3, :3], image.affine[:3, :3] / 2, atol=1e-6)


def test_one_upscaler_for_many_images(image: nib.Nifti1Image, tiny_bundle: Path) -> None:
    upscaler = Upscaler(tiny_bundle, spacing=0.75)
    other = nib.Nifti1Image(np.asarray(image.dataobj)[:5] * 3.0, np.diag([1.5, 1.5, 3, 1]))
    first = upscaler(image).get_fdata()
    assert upscaler(other).shape == (10, 16, 28)
    np.testing.assert_array_equal(upscaler(image).get_fdata(), first)


def nan(image: nib.Nifti1Image) -> nib.Nifti1Image:
    values = np.asarray(image.dataobj, dtype=np.float32).copy()
    values[1, 2, 3] = np.nan
    return nib.Nifti1Image(values, image.affine)


def colour(image: nib.Nifti1Image) -> nib.Nifti1Image:
    values = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    return nib.Nifti1Image(values, image.affine)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda i: np.asarray(i.dataobj), InputError, "got ndarray: wrap an array in MetaTensor"),
        (lambda i: 5, InputError, "got int"),
        (lambda i: as_tensor(i)[None].repeat(2, 1, 1, 1), InputError, r"takes 1 channel\(s\), but the image has 2"),
        (lambda i: as_tensor(i)[0], InputError, "expected an image"),
        (lambda i: as_tensor(i)[None, None], InputError, "expected an image"),
        (lambda i: nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), InputError, "3D image, got 4D"),
        (colour, InputError, "colour"),
        (lambda i: nib.Nifti1Image(np.ones(SHAPE, np.complex64), np.eye(4)), InputError, "complex"),
        (nan, InputError, "1 of 504 voxels"),
        (lambda i: nib.Nifti1Image(np.full(SHAPE, 7, np.int16), np.eye(4)), InputError, "constant"),
        (lambda i: MetaTensor(as_tensor(i), affine=torch.diag(torch.tensor([1.0, 0, 1, 1]))), GridError, "degenerate"),
        (lambda i: sitk.Image([4, 4], sitk.sitkFloat32), InputError, "3D image, got 2D"),
        (lambda i: sitk.Image([4, 4, 4, 2], sitk.sitkFloat32), InputError, "3D image, got 4D"),
        (lambda i: sitk.GetImageFromArray(np.eye(5)[..., None, None] * [1.0, 2], isVector=True), InputError, "channel"),
        (lambda i: "no/such/file.nii", InputError, "nothing there"),
    ],
)
def test_images_that_cannot_be_used(
    image: nib.Nifti1Image, tiny_bundle: Path, make: Callable[[Any], Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        medsr.upscale(make(image), tiny_bundle, scale=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "either a scale"),
        ({"scale": 2, "spacing": 1}, "either a scale"),
        ({"scale": 0.5}, "at least 1"),
        ({"scale": [2, 2]}, "one per axis"),
        ({"scale": "two"}, "positive number"),
        ({"spacing": 9.0}, "coarser"),
        ({"spacing": [1, 1, 0]}, "positive number of mm"),
        ({"scale": 500}, "above the limit"),
        ({"scale": 2, "device": "abacus"}, "cannot be used here"),
        ({"scale": 2, "precision": "float8"}, "a precision is one of"),
        ({"scale": 2, "presision": "float32"}, "no setting 'presision'"),
    ],
)
def test_requests_that_cannot_be_met(
    image: nib.Nifti1Image, tiny_bundle: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(MedsrError, match=words) as caught:
        medsr.upscale(image, tiny_bundle, **options)
    assert "\n" not in str(caught.value)


def test_scale_one_returns_the_image(image: nib.Nifti1Image, tiny_bundle: Path) -> None:
    result = medsr.upscale(image, tiny_bundle, scale=1)
    np.testing.assert_allclose(result.get_fdata(), np.asarray(image.dataobj), atol=1e-3)
    np.testing.assert_array_equal(result.affine, image.affine)
