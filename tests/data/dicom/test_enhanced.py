"""Enhanced multi-frame images: frames become slices by their functional groups, or are refused by name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.sequence import Sequence

from medsr.data.dicom.reading import source_headers
from medsr.data.readers import read_volume
from medsr.errors import InputError

SHAPE = (6, 5, 7)
SHUFFLED = [3, 0, 6, 1, 5, 2, 4]

Write = Callable[..., Any]


@pytest.fixture
def volume(phantom: Callable[..., np.ndarray]) -> np.ndarray:
    return phantom(SHAPE)


def item(**tags: Any) -> Sequence:
    dataset = pydicom.Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return Sequence([dataset])


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_frames_become_slices_by_position(
    tmp_path: Path, volume: np.ndarray, oblique_affine: np.ndarray, write_enhanced: Write
) -> None:
    write_enhanced(tmp_path / "a.dcm", volume, oblique_affine, order=SHUFFLED)
    read = read_volume(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read.data, volume)
    np.testing.assert_allclose(read.affine, oblique_affine, atol=1e-6)
    assert read.meta["warnings"] == []
    assert read.meta["series_uid"] == "1.2.3.5"
    assert read.meta["original_dtype"] == "int16"
    np.testing.assert_array_equal(read_volume(tmp_path).data, volume)


def test_simpleitk_reads_the_same(
    tmp_path: Path, volume: np.ndarray, oblique_affine: np.ndarray, write_enhanced: Write
) -> None:
    write_enhanced(tmp_path / "a.dcm", volume, oblique_affine)
    image = sitk.ReadImage(str(tmp_path / "a.dcm"))
    read = read_volume(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read.data, sitk.GetArrayFromImage(image).T)
    for corner in ((0, 0, 0), (5, 4, 6), (5, 0, 3)):
        place = np.array([-1, -1, 1]) * image.TransformIndexToPhysicalPoint(corner)
        np.testing.assert_allclose((read.affine @ [*corner, 1])[:3], place, atol=1e-5)


def test_a_frames_own_group_comes_before_the_shared_one(
    tmp_path: Path, volume: np.ndarray, oblique_affine: np.ndarray, write_enhanced: Write
) -> None:
    def change(image: Any) -> None:
        for k, frame in enumerate(image.PerFrameFunctionalGroupsSequence):
            frame.PixelValueTransformationSequence = item(RescaleSlope=0.5 + k, RescaleIntercept=-k)

    write_enhanced(tmp_path / "a.dcm", volume, oblique_affine, change)
    k = np.arange(SHAPE[2])
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").data, (volume * (0.5 + k) - k).astype(np.float32))


def test_tilted_gantry_and_single_frame(
    tmp_path: Path, volume: np.ndarray, oblique_affine: np.ndarray, write_enhanced: Write
) -> None:
    sheared = oblique_affine.copy()
    sheared[:3, 2] += 0.3 * sheared[:3, 1]
    write_enhanced(tmp_path / "tilted.dcm", volume, sheared)
    read = read_volume(tmp_path / "tilted.dcm")
    np.testing.assert_allclose(read.affine, sheared, atol=1e-6)
    assert "gantry tilt" in read.meta["warnings"][0]
    write_enhanced(tmp_path / "single.dcm", volume[:, :, :1], oblique_affine)
    np.testing.assert_allclose(read_volume(tmp_path / "single.dcm").affine, oblique_affine, atol=1e-6)


@pytest.mark.parametrize(
    ("group", "tag", "values", "said"),
    [
        ("FrameContentSequence", "StackID", ["head", "neck"], r"got 2 that differ in StackID \(head, neck\)"),
        ("FrameContentSequence", "TemporalPositionIndex", [1, 2], r"2 that differ in TemporalPositionIndex \(1, 2\)"),
        ("MREchoSequence", "EffectiveEchoTime", [10.0, 80.0], r"differ in EffectiveEchoTime \(10.0, 80.0\)"),
        ("MRDiffusionSequence", "DiffusionBValue", [0.0, 1000.0], r"differ in DiffusionBValue \(0.0, 1000.0\)"),
        ("MRImageFrameTypeSequence", "FrameType", [["M"], ["P"]], r"differ in FrameType \(M, P\)"),
    ],
)
def test_several_volumes_are_named(
    tmp_path: Path,
    volume: np.ndarray,
    oblique_affine: np.ndarray,
    write_enhanced: Write,
    group: str,
    tag: str,
    values: list[Any],
    said: str,
) -> None:
    def change(image: Any) -> None:
        for k, frame in enumerate(image.PerFrameFunctionalGroupsSequence):
            if group not in frame:
                setattr(frame, group, item())
            setattr(frame[group].value[0], tag, values[k % 2])

    write_enhanced(tmp_path / "a.dcm", volume, oblique_affine, change, order=[0, 0, 1, 1, 2, 2])
    with pytest.raises(InputError, match=said):
        read_volume(tmp_path / "a.dcm")


def test_bad_frames_are_named(
    tmp_path: Path, volume: np.ndarray, oblique_affine: np.ndarray, write_enhanced: Write
) -> None:
    def write(name: str, change: Callable[[Any], Any] = lambda image: None, order: list[int] | None = None) -> Path:
        path = tmp_path / f"{name}.dcm"
        write_enhanced(path, volume, oblique_affine, change, order)
        return path

    def turned(image: Any) -> None:
        frame = image.PerFrameFunctionalGroupsSequence[4]
        frame.PlaneOrientationSequence = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])

    def nowhere(image: Any) -> None:
        del image.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence

    def few(image: Any) -> None:
        image.PerFrameFunctionalGroupsSequence = image.PerFrameFunctionalGroupsSequence[:-2]

    def bare(image: Any) -> None:
        del image.PerFrameFunctionalGroupsSequence, image.SharedFunctionalGroupsSequence

    def short(image: Any) -> None:
        image.PixelData = image.PixelData[: -2 * SHAPE[0] * SHAPE[1]]

    def scout(image: Any) -> None:
        kind = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
        image.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence[0].FrameType = kind

    assert "1 slice is missing" in refusal(write("missing", order=[0, 1, 3, 4, 5]))
    message = refusal(write("twice", order=[0, 1, 2, 2, 3]))
    assert "twice.dcm frame 3 and twice.dcm frame 4" in message
    assert "different orientations in turned.dcm frame 1 and turned.dcm frame 5" in refusal(write("turned", turned))
    assert "nowhere.dcm frame 3: expected 3 numbers in ImagePositionPatient" in refusal(write("nowhere", nowhere))
    assert "a functional group for each of 7 frames, got 5" in refusal(write("few", few))
    assert "functional groups that place each of the 7 frames" in refusal(write("bare", bare))
    assert "short.dcm: expected complete" in refusal(write("short", short))
    assert "got 7 localizer images" in refusal(write("scout", scout))


@pytest.mark.parametrize("syntax", [None, "JPEGLSLossless"])
def test_frames_beyond_those_of_the_header_are_none(
    tmp_path: Path, phantom: Write, oblique_affine: np.ndarray, write_enhanced: Write, syntax: str | None
) -> None:
    volume = phantom((34, 33, 4))
    write_enhanced(tmp_path / "a.dcm", volume, oblique_affine)
    image = pydicom.dcmread(tmp_path / "a.dcm")
    if syntax:
        image.compress(getattr(pydicom.uid, syntax), encapsulate_ext=False, generate_instance_uid=False)
        frames = list(pydicom.encaps.generate_frames(image.PixelData, number_of_frames=4))
        image.PixelData = pydicom.encaps.encapsulate(frames, has_bot=False)
    image.NumberOfFrames = 3
    image.PerFrameFunctionalGroupsSequence = image.PerFrameFunctionalGroupsSequence[:3]
    image.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").data, volume[:, :, :3])


def test_parts_of_one_stack_in_two_files(
    tmp_path: Path, volume: np.ndarray, oblique_affine: np.ndarray, write_enhanced: Write
) -> None:
    def second(image: Any) -> None:
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "1.2.3.5.2"

    write_enhanced(tmp_path / "in" / "a.dcm", volume, oblique_affine, second, order=[4, 6, 5])
    write_enhanced(tmp_path / "in" / "b.dcm", volume, oblique_affine, order=[2, 0, 1, 3])
    np.testing.assert_array_equal(read_volume(tmp_path / "in").data, volume)
    assert [h.SOPInstanceUID for h in source_headers(tmp_path / "in")] == ["1.2.3.5.1", "1.2.3.5.2"]
    (tmp_path / "in" / "copy.dcm").write_bytes((tmp_path / "in" / "a.dcm").read_bytes())
    assert "2 copies of a.dcm frame 1" in refusal(tmp_path / "in")


def test_headers_of_the_source(
    tmp_path: Path, volume: np.ndarray, oblique_affine: np.ndarray, write_enhanced: Write, write_dicom: Write
) -> None:
    write_enhanced(tmp_path / "a.dcm", volume, oblique_affine, order=SHUFFLED)
    (header,) = source_headers(tmp_path / "a.dcm")
    assert header.PatientID == "P1"
    assert "PixelData" not in header

    flipped = oblique_affine @ np.diag([1.0, 1.0, -1.0, 1.0])  # stored from the last slice to the first
    write_dicom(tmp_path / "classic", volume, flipped)
    with zipfile.ZipFile(tmp_path / "classic.zip", "w") as archive:
        for file in (tmp_path / "classic").iterdir():
            archive.write(file, f"study/{file.name}")
    for source in (tmp_path / "classic", tmp_path / "classic.zip"):
        headers = source_headers(source, "1.2.3.4")
        assert [h.SOPInstanceUID for h in headers] == [f"1.2.3.4.{k}" for k in range(7, 0, -1)]
        affine = read_volume(source).affine
        for k, h in enumerate(headers):
            np.testing.assert_allclose(affine[:3] @ [0, 0, k, 1] * [-1, -1, 1], h.ImagePositionPatient, atol=1e-6)
