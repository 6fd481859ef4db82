"""DICOM series against headers written here and against SimpleITK's own series reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from medsr.data.dicom import reading as dicom
from medsr.data.readers import read_volume
from medsr.errors import InputError

OBLIQUE = np.linalg.qr(np.array([[1, 0.3, -0.2], [-0.1, 1, 0.4], [0.3, -0.3, 1]]))[0]
OBLIQUE[:, 2] = np.cross(OBLIQUE[:, 0], OBLIQUE[:, 1])
SPACING = (0.7, 0.9, 3.0)  # along a row, along a column, between slices


def write_slice(path: Path, pixels: np.ndarray, position: np.ndarray, **tags: Any) -> pydicom.Dataset:
    """Write one MR image, (Rows, Columns) of 16 bits; tags replace the defaults, None deletes."""
    image = pydicom.Dataset()
    image.SOPClassUID = tags.pop("SOPClassUID", MRImageStorage)
    image.SOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[str(path)])
    image.Modality = "MR"
    image.SeriesDescription = "test"
    image.StudyInstanceUID = "1.2.3"
    image.SeriesInstanceUID = "1.2.3.4"
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape[:2]
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit = 15
    image.PixelRepresentation = int(pixels.dtype.kind == "i")
    image.PixelSpacing = [SPACING[1], SPACING[0]]
    image.SliceThickness = 2.5
    image.ImageOrientationPatient = [f"{v:.12f}" for v in OBLIQUE[:, :2].T.ravel()]
    image.ImagePositionPatient = [f"{v:.9f}" for v in position]
    image.PixelData = pixels.astype("<i2" if pixels.dtype.kind == "i" else "<u2").tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    pydicom.dcmwrite(path, image, enforce_file_format=True)
    return image


def write_series(
    folder: Path,
    n: int = 6,
    *,
    step: np.ndarray | None = None,
    places: list[float] | None = None,
    tags: Callable[[int], dict[str, Any]] = lambda k: {},
    names: Callable[[int], str] = lambda k: f"{(k * 7919) % 1000:03d}.dcm",  # not in slice order
) -> np.ndarray:
    """Write n random slices at `places` (in slice steps); return them as (Columns, Rows, n)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    values = rng.integers(0, 3000, size=(n, 7, 5), dtype=np.uint16)
    step = OBLIQUE[:, 2] * SPACING[2] if step is None else step
    for k in range(n):
        place = k if places is None else places[k]
        write_slice(folder / names(k), values[k], np.array([-20.5, 33.25, 7.125]) + place * step, **tags(k))
    return values.transpose(2, 1, 0)


def itk_volume(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Array (X, Y, Z) and RAS affine of the only series, by SimpleITK."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    return sitk.GetArrayFromImage(image).T, itk_affine(image)


def itk_affine(image: Any) -> np.ndarray:
    """RAS affine by asking SimpleITK where voxels are."""
    origin = np.array(image.TransformIndexToPhysicalPoint((0, 0, 0)))
    columns = [np.array(image.TransformIndexToPhysicalPoint(index)) - origin for index in np.eye(3, dtype=int).tolist()]
    affine = np.eye(4)
    affine[:3] = np.column_stack([*columns, origin])
    return np.diag([-1, -1, 1, 1]) @ affine


def test_oblique_series_is_what_simpleitk_reads(tmp_path: Path) -> None:
    values = write_series(tmp_path)
    volume = read_volume(tmp_path)
    array, affine = itk_volume(tmp_path)
    np.testing.assert_array_equal(volume.data, array)
    np.testing.assert_array_equal(volume.data, values)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert volume.data.dtype == np.float32
    assert volume.affine.dtype == np.float64
    assert volume.meta["series_uid"] == "1.2.3.4"
    assert volume.meta["modality"] == "MR"
    assert volume.meta["warnings"] == []
    assert volume.meta["original_dtype"] == "uint16"


def test_spacing_comes_from_positions_not_slice_thickness(tmp_path: Path) -> None:
    write_series(tmp_path)
    spacing = np.linalg.norm(read_volume(tmp_path).affine[:3, :3], axis=0)
    np.testing.assert_allclose(spacing, SPACING, rtol=1e-9)


def test_every_slice_has_its_own_rescale(tmp_path: Path) -> None:
    def rescale(k: int) -> dict[str, Any]:
        return {"RescaleSlope": 0.5 + 0.25 * k, "RescaleIntercept": -100.0 + k}

    values = write_series(tmp_path, tags=rescale)
    k = np.arange(6)
    expected = values * (0.5 + 0.25 * k) + (-100.0 + k)
    np.testing.assert_array_equal(read_volume(tmp_path).data, expected.astype(np.float32))


def test_signed_hounsfield_values(tmp_path: Path) -> None:
    pixels = np.arange(-1024, -1024 + 35, dtype=np.int16).reshape(7, 5)
    tags = {"SOPClassUID": CTImageStorage, "Modality": "CT", "RescaleIntercept": -24, "RescaleSlope": 1}
    for k in range(2):
        write_slice(tmp_path / f"{k}.dcm", pixels + np.int16(k), OBLIQUE[:, 2] * k, **tags)
    volume = read_volume(tmp_path)
    assert volume.data.min() == -1048
    np.testing.assert_array_equal(volume.data[..., 1], pixels.T + 1 - 24)
    assert volume.meta["original_dtype"] == "int16"


def test_gantry_tilt_is_kept_as_a_shear_with_a_warning(tmp_path: Path) -> None:
    angle = np.deg2rad(12)
    step = SPACING[2] * (np.cos(angle) * OBLIQUE[:, 2] + np.sin(angle) * OBLIQUE[:, 1])
    write_series(tmp_path, step=step)
    volume = read_volume(tmp_path)
    assert any("12 degrees" in note for note in volume.meta["warnings"])
    for file in tmp_path.iterdir():  # each slice's header says where its own pixels are
        header = pydicom.dcmread(file)
        pixels = header.pixel_array
        place = [k for k in range(6) if np.array_equal(volume.data[..., k], pixels.T)]
        assert len(place) == 1
        row, column = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
        lps = np.array(header.ImagePositionPatient, float) + row * SPACING[0] * 4 + column * SPACING[1] * 6
        found = volume.affine @ [4, 6, place[0], 1]
        np.testing.assert_allclose(found[:3], lps * [-1, -1, 1], atol=1e-6)


def test_position_rounding_is_not_a_tilt(tmp_path: Path) -> None:
    write_series(tmp_path, tags=lambda k: {})
    for file in tmp_path.iterdir():
        header = pydicom.dcmread(file)
        header.ImagePositionPatient = [f"{float(v):.2f}" for v in header.ImagePositionPatient]
        header.save_as(file)
    volume = read_volume(tmp_path)
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    assert volume.meta["warnings"] == []


def test_missing_slice_names_the_gap(tmp_path: Path) -> None:
    write_series(tmp_path, 5, places=[0, 1, 3, 4, 5])
    with pytest.raises(InputError, match=r"got 6 mm between .*: 1 slice is missing") as caught:
        read_volume(tmp_path)
    assert "\n" not in str(caught.value)


def test_several_missing_slices_are_counted(tmp_path: Path) -> None:
    write_series(tmp_path, 6, places=[0, 1, 2, 5, 6, 8])
    with pytest.raises(InputError, match=r"9 mm between .* 6 mm between .*: 3 slices are missing"):
        read_volume(tmp_path)


def test_uneven_gaps(tmp_path: Path) -> None:
    write_series(tmp_path, 6, places=[0, 1, 2.13, 3, 4, 5])
    with pytest.raises(InputError, match="unevenly spaced"):
        read_volume(tmp_path)


def test_small_steady_drift_of_the_gaps(tmp_path: Path) -> None:
    gaps = np.concatenate([np.full(40, 1.0), np.full(40, 1.008)])
    write_series(tmp_path, 81, places=np.concatenate([[0], np.cumsum(gaps)]).tolist(), names=lambda k: f"{k}.dcm")
    with pytest.raises(InputError, match="stacked evenly along a line"):
        read_volume(tmp_path)


@pytest.mark.parametrize("jitter", [0.009, 0.004])
def test_gaps_within_tolerance_are_accepted(tmp_path: Path, jitter: float) -> None:
    write_series(tmp_path, 6, places=[0, 1, 2 + jitter, 3, 4, 5])
    assert read_volume(tmp_path).data.shape == (5, 7, 6)


def test_duplicate_positions(tmp_path: Path) -> None:
    write_series(tmp_path, 6, places=[0, 1, 2, 2, 3, 4], names=lambda k: f"im{k}.dcm")
    with pytest.raises(InputError, match=r"one image per slice position.*im2.dcm and im3.dcm"):
        read_volume(tmp_path)


def test_time_series_is_refused_as_duplicates(tmp_path: Path) -> None:
    write_series(tmp_path, 6, places=[0, 0, 0, 1, 1, 1])
    with pytest.raises(InputError, match="time series"):
        read_volume(tmp_path)


def test_two_series_are_both_named_and_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_series(tmp_path / "a")
    other = {"SeriesInstanceUID": "1.2.3.5", "SeriesDescription": "T2 axial"}
    write_series(tmp_path / "b", 4, tags=lambda k: other, names=lambda k: f"other{k}.dcm")
    with pytest.raises(InputError) as caught:
        read_volume(tmp_path)
    message = str(caught.value)
    for word in ("'test' (MR, 6 images, UID 1.2.3.4)", "'T2 axial' (MR, 4 images, UID 1.2.3.5)", "series="):
        assert word in message
    assert "\n" not in message
    np.testing.assert_array_equal(read_volume(tmp_path, series="1.2.3.4").data, first)
    monkeypatch.setenv(dicom.SERIES_VARIABLE, "1.2.3.5")
    assert read_volume(tmp_path).meta["series_uid"] == "1.2.3.5"
    assert read_volume(tmp_path / "a").meta["series_uid"] == "1.2.3.4"  # nothing to choose there
    with pytest.raises(InputError, match=r"expected series 9\.9, got .*T2 axial"):
        read_volume(tmp_path, series="9.9")


def test_localizer_is_named(tmp_path: Path) -> None:
    planes = np.eye(3)

    def scout(k: int) -> dict[str, Any]:
        cosines = np.concatenate([planes[k % 3], planes[(k + 1) % 3]])
        return {
            "ImageOrientationPatient": cosines.tolist(),
            "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER" if k else "OTHER"],
        }

    write_series(tmp_path, 3, tags=scout)
    with pytest.raises(InputError, match=r"parallel slices.*2 of 3 images are localizers"):
        read_volume(tmp_path)


def test_other_bad_geometry(tmp_path: Path) -> None:
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "spacing": ({"PixelSpacing": [0.8, 0.8]}, "one pixel spacing"),
        "nospacing": ({"PixelSpacing": None}, "2 numbers in PixelSpacing"),
        "noposition": ({"ImagePositionPatient": None}, "3 numbers in ImagePositionPatient"),
        "zerospacing": ({"PixelSpacing": [0, 0]}, "one pixel spacing|spacing above 0"),
        "colour": ({"PhotometricInterpretation": "RGB"}, "MONOCHROME2"),
        "inverted": ({"PhotometricInterpretation": "MONOCHROME1"}, "one photometric.*got MONOCHROME2 .*MONOCHROME1"),
        "frames": ({"NumberOfFrames": 3}, "multi-frame"),
        "slope": ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope"),
    }
    for name, (tags, words) in cases.items():
        write_series(tmp_path / name, 3, tags=lambda k, tags=tags: tags if k == 1 else {})
        with pytest.raises(InputError, match=words) as caught:
            read_volume(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_mixed_sizes(tmp_path: Path) -> None:
    write_series(tmp_path, 3)
    write_slice(tmp_path / "large.dcm", np.zeros((9, 9), np.uint16), OBLIQUE[:, 2] * 99)
    with pytest.raises(InputError, match="slices of one size"):
        read_volume(tmp_path)


def test_cosines_that_are_no_directions(tmp_path: Path) -> None:
    write_series(tmp_path, 3, tags=lambda k: {"ImageOrientationPatient": [1, 0, 0, 0.5, 0.8, 0]})
    with pytest.raises(InputError, match="perpendicular unit vectors"):
        read_volume(tmp_path)


def test_one_slice_has_the_extent_of_its_header(tmp_path: Path) -> None:
    values = write_series(tmp_path / "thick", 1)
    volume = read_volume(tmp_path / "thick")
    assert volume.data.shape == (5, 7, 1)
    np.testing.assert_array_equal(volume.data, values)
    assert np.linalg.norm(volume.affine[:3, 2]) == pytest.approx(2.5)
    write_series(tmp_path / "between", 1, tags=lambda k: {"SpacingBetweenSlices": 4.0})
    assert np.linalg.norm(read_volume(tmp_path / "between").affine[:3, 2]) == pytest.approx(4)
    write_series(tmp_path / "neither", 1, tags=lambda k: {"SliceThickness": None})
    with pytest.raises(InputError, match="SpacingBetweenSlices or SliceThickness"):
        read_volume(tmp_path / "neither")


def test_one_file_of_a_series_is_one_slice_and_says_so(tmp_path: Path) -> None:
    write_series(tmp_path)
    volume = read_volume(next(tmp_path.iterdir()))
    assert volume.data.shape == (5, 7, 1)
    assert "give its folder" in volume.meta["warnings"][0]


def test_what_is_not_an_image_is_passed_over(tmp_path: Path) -> None:
    values = write_series(tmp_path / "IMG")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".hidden.dcm").write_bytes(b"x" * 200)
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    report = pydicom.Dataset()
    report.SOPClassUID, report.SOPInstanceUID = pydicom.uid.BasicTextSRStorage, "1.2.3.9"
    report.SeriesInstanceUID, report.Modality = "1.2.3.77", "SR"
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "report.dcm", report, enforce_file_format=True)
    np.testing.assert_array_equal(read_volume(tmp_path).data, values)


def test_file_without_preamble(tmp_path: Path) -> None:
    values = write_series(tmp_path)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[132:])
    np.testing.assert_array_equal(read_volume(tmp_path).data, values)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    write_series(tmp_path / "short")
    file = sorted((tmp_path / "short").iterdir())[2]
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match=f"{file.name}: expected complete"):
        read_volume(tmp_path / "short")
    write_series(tmp_path / "noise", 2)
    (tmp_path / "noise" / "x.dcm").write_bytes(b"no image at all " * 20)
    with pytest.raises(InputError, match=r"x.dcm: expected a DICOM image"):
        read_volume(tmp_path / "noise")
    write_series(tmp_path / "header", 2)
    file = next((tmp_path / "header").iterdir())
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(InputError, match=f"{file.name}: expected a DICOM image, got a damaged file"):
        read_volume(tmp_path / "header")


def test_slice_that_may_not_be_read_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path, names=lambda k: f"{k}.dcm")
    real_open = open

    def deny(path: Any, *args: Any, **kwargs: Any) -> Any:
        if Path(path).name == "5.dcm":
            raise PermissionError(13, "Permission denied")
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", deny)
    with pytest.raises(InputError, match=r"5.dcm: cannot be read: Permission denied"):
        read_volume(tmp_path)


def test_folder_without_dicom(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no DICOM image"):
        read_volume(tmp_path)


def test_syntax_that_nothing_decodes_is_named(tmp_path: Path) -> None:
    write_series(tmp_path, 2)
    for file in tmp_path.iterdir():
        image = pydicom.dcmread(file)
        image.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
        image.PixelData = pydicom.encaps.encapsulate([image.PixelData])
        image["PixelData"].VR = "OB"
        image.save_as(file)
    with pytest.raises(InputError, match=r"transfer syntax MPEG2 Main Profile.*1\.2\.840\.10008\.1\.2\.4\.100"):
        read_volume(tmp_path)


@pytest.mark.parametrize("name", ["ct_lidc0314", "mr_sf02"])
def test_real_series_is_what_simpleitk_reads(shared_data: Path, name: str) -> None:
    volume = read_volume(shared_data / "dicom" / name)
    array, affine = itk_volume(shared_data / "dicom" / name)
    np.testing.assert_array_equal(volume.data, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert volume.meta["warnings"] == []


@pytest.mark.parametrize("syntax", ["rle", "jpegls", "j2k"])
@pytest.mark.parametrize(("kind", "series"), [("ct", "ct_lidc0314"), ("mr", "mr_sf02")])
def test_compressed_slice_equals_the_original(shared_data: Path, kind: str, series: str, syntax: str) -> None:
    compressed = read_volume(shared_data / "dicom" / "compressed" / f"{kind}_{syntax}.dcm")
    whole = read_volume(shared_data / "dicom" / series)
    place = np.linalg.solve(whole.affine, compressed.affine[:, 3])
    k = round(float(place[2]))
    np.testing.assert_allclose(place[:3], [0, 0, k], atol=1e-5)
    np.testing.assert_array_equal(compressed.data[..., 0], whole.data[..., k])


@pytest.mark.parametrize("syntax", ["rle", "jpegls", "j2k"])
@pytest.mark.parametrize("kind", ["ct", "mr"])
def test_compressed_slice_is_rescaled_by_its_own_header(
    shared_data: Path, tmp_path: Path, kind: str, syntax: str
) -> None:
    source = shared_data / "dicom" / "compressed" / f"{kind}_{syntax}.dcm"
    image = pydicom.dcmread(source)
    stored = (read_volume(source).data - float(image.RescaleIntercept)) / float(image.RescaleSlope)
    image.RescaleSlope, image.RescaleIntercept = 2.5, -7.25
    image.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").data, stored * 2.5 - 7.25)
