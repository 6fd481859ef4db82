"""Derived series as others see them: dciodvfy, DCMTK, SimpleITK, MONAI and highdicom."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from monai.transforms import LoadImage

from medsr.data.dicom.derived.writing import Processing, write_derived_series
from medsr.data.dicom.reading import source_headers
from medsr.data.readers import read_volume
from medsr.data.writers import write_volume
from medsr.geometry import Grid, as_scale
from medsr.interpolation import resize

Scan = Callable[..., np.ndarray]
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
AXIAL = np.array([[-0.75, 0, 0, 90], [0, -0.75, 0, 110], [0, 0, 4, -40], [0, 0, 0, 1.0]])
SAGITTAL = np.array([[0, 0, 3.3, -50], [-0.9, 0, 0, 100], [0, -0.9, 0, 120], [0, 0, 0, 1.0]])
CASES = {  # name -> modality, affine (None: oblique), scale
    "ct-axial": ("CT", AXIAL, 2),
    "ct-oblique-anisotropic": ("CT", None, (1, 1, 2.5)),
    "mr-sagittal": ("MR", SAGITTAL, (1.5, 2, 3)),
    "mr-oblique": ("MR", None, "7/3"),
    "mr-enhanced": ("enhanced MR", None, 2),
    "ct-enhanced": ("enhanced CT", AXIAL, (2, 2, 1)),
}


def tool(name: str) -> str:
    """The path of a program, or a skip."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install dicom3tools dcmtk")
    return path


@pytest.fixture(scope="module", params=list(CASES))
def case(
    request: pytest.FixtureRequest, scan: Scan, enhanced_scan: Scan, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A derived series (folder), the same volume as NIfTI, and how it was stored."""
    kind, affine, scale = CASES[request.param]
    root = tmp_path_factory.mktemp(request.param)
    oblique = np.eye(4)
    oblique[:3, :3] = np.linalg.qr([[1, 0.3, -0.2], [-0.1, 1, 0.4], [0.3, -0.3, 1]])[0] @ np.diag([0.9, 0.8, 3.1])
    oblique[:3, :2] *= -1
    oblique[:3, 3] = [11.125, -7.5, 33.25]
    if np.linalg.det(RAS_TO_LPS[:3, :3] @ oblique[:3, :3]) < 0:
        oblique[:3, 2] *= -1
    write = enhanced_scan if kind.startswith("enhanced") else scan
    write(root / "in", oblique if affine is None else affine, kind.split()[-1])
    source = read_volume(root / "in")
    exact = as_scale(scale, 3)
    grid = Grid(source.data.shape, source.affine).enlarged(exact)
    import torch

    image = resize(torch.as_tensor(source.data)[None, None], exact, kernel="spline3")[0, 0].numpy()
    assert image.shape == grid.shape
    processing = Processing("recnn3d", "0.1.0", "ab" * 32, {"medsr": "0.1.0", "torch": "2.13.0"})
    series = write_derived_series(
        root / "out", image, grid.affine, source_headers(root / "in"), scale=scale, processing=processing
    )
    write_volume(root / "out.nii", image, grid.affine)
    return root / "out", image, grid.affine, series


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)


def test_dciodvfy_finds_no_error(case: Any) -> None:
    program = tool("dciodvfy")
    files = sorted(case[0].iterdir())
    for file in (files[0], files[-1]):
        found = run(program, "-new", file).stderr
        assert found.splitlines()[0] in ("CTImage", "MRImage"), found
        assert "Error" not in found, found
        allowed = ("Unrecognized defined term = <M>", "Unrecognized defined term = <ND>")
        warnings = [line for line in found.splitlines() if line.startswith("Warning")]
        assert not [line for line in warnings if not line.endswith(allowed)], found


def test_dcentvfy_finds_one_patient_study_and_series(case: Any) -> None:
    program = tool("dcentvfy")
    sources = sorted((case[0].parent / "in").iterdir())
    found = run(program, *sorted(case[0].iterdir()), *sources)
    assert "Error" not in found.stderr, found.stderr


def test_dcmtk_reads_and_shows_it(case: Any, tmp_path: Path) -> None:
    dump, show = tool("dcmdump"), shutil.which("dcm2img") or tool("dcm2pnm")
    file = sorted(case[0].iterdir())[0]
    dumped = run(dump, "+P", "SeriesDescription", "+P", "PatientName", "+U8", file)
    assert dumped.returncode == 0, dumped.stderr
    assert "[SR " in dumped.stdout
    assert "Müller^Jörg" in dumped.stdout
    shown = run(show, "+Wi", "1", file, tmp_path / "slice.pgm")
    assert shown.returncode == 0, shown.stderr
    picture = sitk.GetArrayFromImage(sitk.ReadImage(_as_png(tmp_path / "slice.pgm")))
    header = pydicom.dcmread(file)
    low = header.WindowCenter - 0.5 - (header.WindowWidth - 1) / 2
    values = header.pixel_array * float(header.get("RescaleSlope", 1)) + float(header.get("RescaleIntercept", 0))
    expected = np.clip((values - low) / (header.WindowWidth - 1), 0, 1) * 255
    assert np.abs(picture - expected).max() <= 1.01


def _as_png(path: Path) -> str:
    """A PGM picture as a file that SimpleITK reads."""
    from PIL import Image

    Image.open(path).save(path.with_suffix(".png"))
    return str(path.with_suffix(".png"))


def test_simpleitk_reads_the_nifti_voxels_and_grid(case: Any) -> None:
    folder, image, affine, series = case
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series.series_uid))
    itk = reader.Execute()
    nifti = sitk.ReadImage(str(folder.parent / "out.nii"))
    assert itk.GetSize() == nifti.GetSize() == image.shape
    difference = sitk.GetArrayFromImage(itk) - sitk.GetArrayFromImage(nifti)
    assert np.abs(difference).max() <= series.slope / 2 * 1.001
    for corner in (0, 0, 0), tuple(n - 1 for n in image.shape):
        place = itk.TransformIndexToPhysicalPoint(corner)
        np.testing.assert_allclose(place, nifti.TransformIndexToPhysicalPoint(corner), atol=1e-4)
        np.testing.assert_allclose(place, (RAS_TO_LPS @ affine @ [*corner, 1])[:3], atol=1e-6)


@pytest.mark.parametrize("reader", ["PydicomReader", "ITKReader", "medsr.data.readers.VolumeReader"])
def test_monai_reads_the_nifti_voxels_and_grid(case: Any, reader: str) -> None:
    folder, _, affine, series = case
    if reader == "ITKReader":
        pytest.importorskip("itk")
    loaded = LoadImage(reader=reader, ensure_channel_first=True)(str(folder))
    nifti = LoadImage(reader="NibabelReader", ensure_channel_first=True)(str(folder.parent / "out.nii"))
    assert loaded.shape == nifti.shape
    assert np.abs(loaded.numpy() - nifti.numpy()).max() <= series.slope / 2 * 1.001
    np.testing.assert_allclose(loaded.affine, nifti.affine, atol=1e-4)
    np.testing.assert_allclose(loaded.affine, affine, atol=1e-6)


def test_highdicom_finds_the_same_volume(case: Any) -> None:
    highdicom = pytest.importorskip("highdicom", reason="highdicom, of the extra dev, is not installed")
    folder, image, affine, series = case
    volume = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in folder.iterdir()])
    volume = volume.to_patient_orientation("LPS")
    ours = highdicom.Volume(
        array=image, affine=RAS_TO_LPS @ affine, coordinate_system="PATIENT"
    ).to_patient_orientation("LPS")
    np.testing.assert_allclose(volume.affine, ours.affine, atol=1e-6)
    assert np.abs(volume.array - ours.array).max() <= series.slope / 2 * 1.001


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "MR_small_jp2klossless.dcm"])
def test_single_images_of_real_scanners(name: str, tmp_path: Path) -> None:
    """Headers of GE and Toshiba, with the private tags, odd values and missing tags of the real thing."""
    program = tool("dciodvfy")
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    if not (folder / name).is_file():
        pytest.skip(f"this pydicom has no {name}")
    shutil.copy(folder / name, tmp_path / name)
    image = read_volume(tmp_path / name)
    grid = Grid(image.data.shape, image.affine).enlarged(as_scale((2, 2, 1), 3))
    headers = source_headers(tmp_path / name)
    write_derived_series(tmp_path / "out", image.data.repeat(2, 0).repeat(2, 1), grid.affine, headers, scale=(2, 2, 1))
    found = run(program, "-new", tmp_path / "out" / "IM0001.dcm").stderr
    before = run(program, "-new", tmp_path / name).stderr
    new = {line for line in found.splitlines() if line.startswith("Error")} - set(before.splitlines())
    assert not new, found
    np.testing.assert_array_equal(read_volume(tmp_path / "out").data[::2, ::2], image.data)
