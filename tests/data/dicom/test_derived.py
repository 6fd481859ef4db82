"""What a derived series says: identity, provenance, geometry, what it keeps and what it drops; what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from medsr.data.dicom.derived.writing import Processing, is_derived_series, write_derived_series
from medsr.data.dicom.reading import source_headers
from medsr.data.readers import Volume, read_volume
from medsr.errors import InputError, OutputError
from medsr.geometry import Grid, as_scale

PROCESSING = Processing("recnn3d", "0.1.0", "ab" * 32, {"medsr": "0.1.0", "torch": "2.13.0"})
Scan = Callable[..., np.ndarray]


def enlarged(source: Path, scale: Any) -> tuple[Volume, np.ndarray]:
    """The source and a volume on its SR grid: nearest neighbours, so that every value is one of the source's."""
    volume = read_volume(source)
    exact = as_scale(scale, 3)
    grid = Grid(volume.data.shape, volume.affine).enlarged(exact)
    places = [
        np.clip((np.arange(m) + 0.5) / float(s), 0, n - 1).astype(int)
        for m, n, s in zip(grid.shape, volume.data.shape, exact, strict=True)
    ]
    return Volume(volume.data[np.ix_(*places)], grid.affine, volume.meta), grid.affine


def derive(source: Path, out: Path, scale: Any = 2, **options: Any) -> list[Dataset]:
    """Derive a series; its images in the order of their names."""
    volume, affine = enlarged(source, scale)
    options = {"processing": PROCESSING, **options}
    write_derived_series(out, volume.data, affine, source_headers(source), scale=scale, **options)
    return [pydicom.dcmread(path) for path in sorted(out.iterdir())]


@pytest.fixture
def ct(scan: Scan, oblique_affine: np.ndarray, tmp_path: Path) -> Path:
    scan(tmp_path / "ct", oblique_affine)
    return tmp_path / "ct"


@pytest.fixture
def mr(scan: Scan, oblique_affine: np.ndarray, tmp_path: Path) -> Path:
    scan(tmp_path / "mr", oblique_affine, "MR")
    return tmp_path / "mr"


def test_same_patient_study_and_space_but_a_new_series(ct: Path, tmp_path: Path) -> None:
    images = derive(ct, tmp_path / "out")
    source = source_headers(ct)[0]
    same = """
        PatientName PatientID PatientBirthDate PatientSex PatientAge PatientWeight StudyInstanceUID StudyDate StudyTime
        StudyID AccessionNumber StudyDescription ReferringPhysicianName FrameOfReferenceUID PositionReferenceIndicator
        PatientPosition BodyPartExamined ProtocolName Modality InstitutionName SpecificCharacterSet SOPClassUID KVP
        ConvolutionKernel WindowCenter WindowWidth AcquisitionNumber AcquisitionDate RescaleType
    """
    for keyword in same.split():
        assert all(image[keyword].value == source[keyword].value for image in images), keyword
    assert len(images) == 8
    assert {image.SeriesInstanceUID for image in images}.isdisjoint({source.SeriesInstanceUID})
    assert len({image.SeriesInstanceUID for image in images}) == 1
    assert len({image.SOPInstanceUID for image in images}) == 8
    assert all(image.SOPInstanceUID == image.file_meta.MediaStorageSOPInstanceUID for image in images)
    assert all(uid.UID(image.SOPInstanceUID).is_valid and len(image.SOPInstanceUID) <= 64 for image in images)


def test_a_frame_of_reference_per_slice_is_none(scan: Scan, oblique_affine: np.ndarray, tmp_path: Path) -> None:
    def anonymise(k: int, image: Dataset) -> None:
        image.FrameOfReferenceUID = f"1.2.3.9.{k}"

    scan(tmp_path / "in", oblique_affine, change=anonymise)
    image = read_volume(tmp_path / "in")
    series = write_derived_series(
        tmp_path / "out", image.data, image.affine, source_headers(tmp_path / "in"), scale=1, series_number=9
    )
    assert series.warnings == ("the source's images state 4 frames of reference: the derived series gets a new one",)
    frames = {pydicom.dcmread(path).FrameOfReferenceUID for path in (tmp_path / "out").iterdir()}
    assert len(frames) == 1
    assert not frames.pop().startswith("1.2.3.9")


def test_it_says_what_it_is(ct: Path, tmp_path: Path) -> None:
    image = derive(ct, tmp_path / "out", (1, 2, 2.5))[0]
    assert list(image.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert image.SeriesDescription == "SR 1x2x2.5 head thick slices"
    assert image.SeriesNumber == 501
    assert image.ContentQualification == "RESEARCH"
    assert "recnn3d 0.1.0, scale 1x2x2.5" in image.DerivationDescription
    assert "not for diagnosis" in image.DerivationDescription
    (code,) = image.DerivationCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("113085", "DCM")
    assert image.SeriesDate == image.ContentDate != "20200131"


def test_sources_and_equipment(mr: Path, tmp_path: Path) -> None:
    image = derive(mr, tmp_path / "out")[0]
    assert [item.ReferencedSOPInstanceUID for item in image.SourceImageSequence] == [
        f"1.2.3.4.{k}" for k in range(1, 5)
    ]
    assert {item.ReferencedSOPClassUID for item in image.SourceImageSequence} == {uid.MRImageStorage}
    assert {item.PurposeOfReferenceCodeSequence[0].CodeValue for item in image.SourceImageSequence} == {"121322"}
    scanner, program = image.ContributingEquipmentSequence
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Acquisition Equipment"
    assert (scanner.Manufacturer, scanner.DeviceSerialNumber) == ("ACME", "007")
    assert list(scanner.SoftwareVersions) == ["V7", "B2"]
    assert program.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Processing Equipment"
    for item in (program, image):
        assert (item.Manufacturer, item.ManufacturerModelName) == ("medsr", "recnn3d 0.1.0")
        assert list(item.SoftwareVersions) == ["medsr 0.1.0", "torch 2.13.0"]
    assert "ab" * 32 in program.ContributionDescription
    assert "DeviceSerialNumber" not in image, "that of the scanner, which did not make this image"


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_facts_about_acquired_slices_are_dropped(
    scan: Scan, oblique_affine: np.ndarray, tmp_path: Path, modality: str
) -> None:
    scan(tmp_path / "in", oblique_affine, modality)
    for image in derive(tmp_path / "in", tmp_path / "out"):
        dropped = (
            "ExposureTime XRayTubeCurrent CTDIvol TableHeight IrradiationEventUID PixelBandwidth AcquisitionMatrix"
        )
        assert not [keyword for keyword in f"{dropped} SAR AcquisitionTime".split() if keyword in image]
        assert not [element for element in image.iterall() if element.tag.is_private]
        assert image.ContentTime != "102100"
    assert b"raw data of" not in (tmp_path / "out" / "IM0001.dcm").read_bytes()


def test_nested_private_tags_go_too(scan: Scan, oblique_affine: np.ndarray, tmp_path: Path) -> None:
    def request(k: int, image: Dataset) -> None:
        item = Dataset()
        item.RequestedProcedureID = "7"
        item.private_block(0x0029, "ACME PRIVATE", create=True).add_new(1, "LO", "secret")
        image.RequestAttributesSequence = [item]

    scan(tmp_path / "in", oblique_affine, change=request)
    headers = source_headers(tmp_path / "in")
    volume, affine = enlarged(tmp_path / "in", 2)
    write_derived_series(tmp_path / "out", volume.data, affine, headers, scale=2)
    image = pydicom.dcmread(tmp_path / "out" / "IM0001.dcm")
    assert image.RequestAttributesSequence[0].RequestedProcedureID == "7"
    assert not [element for element in image.iterall() if element.tag.is_private]
    assert len(headers[0].RequestAttributesSequence[0]) == 3, "the caller's headers are as they were"
    assert "ContributingEquipmentSequence" not in headers[0]


def test_geometry_of_every_slice(ct: Path, oblique_affine: np.ndarray, tmp_path: Path) -> None:
    images = derive(ct, tmp_path / "out", (2, 1, 2.5))
    grid = Grid((6, 5, 4), oblique_affine).enlarged(as_scale([2, 1, 2.5], 3))
    lps = np.diag([-1.0, -1, 1, 1]) @ grid.affine
    assert len(images) == 10
    for k, image in enumerate(images):
        assert image.InstanceNumber == k + 1
        np.testing.assert_allclose(image.ImagePositionPatient, lps[:3, 3] + k * lps[:3, 2], atol=1e-6, rtol=0)
        assert (image.Rows, image.Columns) == (5, 12)
        np.testing.assert_allclose(image.PixelSpacing, [1.1, 0.45], rtol=1e-12)
        thickness = [image.SliceThickness, image.SpacingBetweenSlices]
        np.testing.assert_allclose(thickness, [0.8, 1], atol=1e-9)  # 2 and 2.5 mm before: the gap keeps its share
        assert image.ImageOrientationPatient == source_headers(ct)[0].ImageOrientationPatient
        # the table moved 2 mm a slice downwards from 1000; the first SR slice begins at its edge, 0.3 slices before
        np.testing.assert_allclose(image.SliceLocation, 1000 + 2 * 0.3 - 0.8 * k, atol=1e-9)


@pytest.mark.parametrize("descending", [False, True])
def test_instance_numbers_run_as_the_sources(
    scan: Scan, oblique_affine: np.ndarray, tmp_path: Path, descending: bool
) -> None:
    def number(k: int, image: Dataset) -> None:
        image.InstanceNumber = 100 - k if descending else 3 * k

    scan(tmp_path / "in", oblique_affine, change=number)
    images = derive(tmp_path / "in", tmp_path / "out")
    assert [image.InstanceNumber for image in images] == list(range(1, 9)), "in the order of the files' names"
    heights = [image.ImagePositionPatient[2] for image in images]
    assert (heights[0] > heights[-1]) == descending


def test_gantry_tilt_is_exact_and_skewed_pixels_are_refused(
    scan: Scan, oblique_affine: np.ndarray, tmp_path: Path
) -> None:
    tilted = oblique_affine.copy()
    tilted[:3, 2] += 0.4 * tilted[:3, 1]
    scan(tmp_path / "in", tilted)
    _, affine = enlarged(tmp_path / "in", 2)
    derive(tmp_path / "in", tmp_path / "out")
    again = read_volume(tmp_path / "out")
    np.testing.assert_allclose(again.affine, affine, atol=1e-6, rtol=0)
    skewed = affine.copy()
    skewed[:3, 1] += 0.01 * skewed[:3, 0]
    headers = source_headers(tmp_path / "in")
    with pytest.raises(OutputError, match=r"skewed: expected perpendicular rows and columns .* got 8\d\.\d+ degrees"):
        write_derived_series(tmp_path / "skewed", np.zeros((12, 10, 8)), skewed, headers, scale=2)
    assert not (tmp_path / "skewed").exists()


def test_uids_are_new_each_time_or_a_hash_of_the_seed(ct: Path, tmp_path: Path) -> None:
    def uids(out: str, **options: Any) -> tuple[str, ...]:
        images = derive(ct, tmp_path / out, **options)
        return images[0].SeriesInstanceUID, *(image.SOPInstanceUID for image in images)

    assert not set(uids("a")) & set(uids("b"))
    assert uids("c", uid_seed="run 1") == uids("d", uid_seed="run 1")
    assert not set(uids("e", uid_seed="run 1")) & set(uids("f", uid_seed="run 2"))
    mine = uids("g", uid_seed="run 1", uid_prefix="1.2.826.0.1.99.")
    assert all(text.startswith("1.2.826.0.1.99.") for text in mine)
    assert all(text.startswith(uid.PYDICOM_ROOT_UID) for text in uids("h"))


def test_long_descriptions_are_cut(scan: Scan, oblique_affine: np.ndarray, tmp_path: Path) -> None:
    def describe(k: int, image: Dataset) -> None:
        image.SeriesDescription, image.SeriesNumber = "ü" * 64, 2**31 - 1
        image.DerivationDescription = "z" * 1024

    scan(tmp_path / "in", oblique_affine, change=describe)
    image = derive(tmp_path / "in", tmp_path / "out", 1.5)[0]
    assert image.SeriesDescription == "SR x1.5 " + "ü" * 56
    assert image.SeriesNumber == 2**31 - 1
    assert len(image.DerivationDescription) == 1024
    assert image.DerivationDescription.endswith("not for diagnosis.")
    assert derive(tmp_path / "in", tmp_path / "own", series_number=77)[0].SeriesNumber == 77


def test_warnings_about_the_source_are_carried_over(scan: Scan, oblique_affine: np.ndarray, tmp_path: Path) -> None:
    def one_is_lossy(k: int, image: Dataset) -> None:
        image.LossyImageCompression = "01" if k == 2 else "00"
        if k == 2:
            image.LossyImageCompressionRatio, image.LossyImageCompressionMethod = "7.5", "ISO_10918_1"
            image.BurnedInAnnotation = "YES"

    scan(tmp_path / "in", oblique_affine, change=one_is_lossy)
    image = derive(tmp_path / "in", tmp_path / "out")[0]
    assert (image.LossyImageCompression, image.LossyImageCompressionRatio) == ("01", 7.5)
    assert image.BurnedInAnnotation == "YES"


def test_type_2_tags_are_there_and_missing_type_1_tags_are_made(
    scan: Scan, oblique_affine: np.ndarray, tmp_path: Path
) -> None:
    def bare(k: int, image: Dataset) -> None:
        for keyword in (
            "PatientName",
            "PatientBirthDate",
            "AccessionNumber",
            "ScanOptions",
            "EchoTime",
            "Manufacturer",
        ):
            del image[keyword]
        for keyword in ("FrameOfReferenceUID", "ScanningSequence", "SeriesNumber", "ImageType", "PatientPosition"):
            del image[keyword]

    scan(tmp_path / "in", oblique_affine, "MR", change=bare)
    first, second = (derive(tmp_path / "in", tmp_path / name)[0] for name in "ab")
    for keyword in ("PatientName", "PatientBirthDate", "AccessionNumber", "ScanOptions", "EchoTime", "PatientPosition"):
        assert keyword in first
        assert not first[keyword].value
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID, "one space for all that comes of one source"
    assert first.ScanningSequence == "RM"
    assert list(first.ImageType) == ["DERIVED", "SECONDARY", "OTHER"]
    assert first.SeriesNumber == 1


def test_ill_formed_values_go_unless_they_identify(scan: Scan, oblique_affine: np.ndarray, tmp_path: Path) -> None:
    def spoil(k: int, image: Dataset) -> None:
        with pydicom.config.disable_value_validation():
            image.PatientAge, image.ProtocolName = "42", "p" * 65
            image.PatientID, image.StudyTime = "7" * 65, "half past ten"

    scan(tmp_path / "in", oblique_affine, change=spoil)
    image = derive(tmp_path / "in", tmp_path / "out")[0]
    assert "PatientAge" not in image
    assert "ProtocolName" not in image
    assert image.PatientID == "7" * 65
    assert str(image.StudyTime) == "half past ten"


@pytest.mark.parametrize(
    ("part", "given", "expected"),
    [("HEAD", None, False), ("HEAD", "", False), ("KNEE", None, True), ("", None, True), ("KNEE", "R", "R")],
)
def test_laterality(
    scan: Scan, oblique_affine: np.ndarray, tmp_path: Path, part: str, given: str | None, expected: Any
) -> None:
    def change(k: int, image: Dataset) -> None:
        image.BodyPartExamined = part
        if given is not None:
            image.Laterality = given

    scan(tmp_path / "in", oblique_affine, change=change)
    image = derive(tmp_path / "in", tmp_path / "out")[0]
    assert ("Laterality" in image) == bool(expected)
    if expected == "R":
        assert image.Laterality == "R"


def test_an_enhanced_source_gives_classic_images(
    enhanced_scan: Scan, oblique_affine: np.ndarray, tmp_path: Path
) -> None:
    stored = enhanced_scan(tmp_path / "mr", oblique_affine)
    image = derive(tmp_path / "mr", tmp_path / "out")[0]
    assert image.SOPClassUID == uid.MRImageStorage
    assert list(image.ImageType) == ["DERIVED", "SECONDARY", "OTHER"]
    assert (list(image.ScanningSequence), list(image.SequenceVariant)) == (["GR", "IR"], ["SK", "SP"])
    assert (image.RepetitionTime, image.EchoTime, image.InversionTime, image.FlipAngle) == (2300, 2.98, 900, 9)
    assert (image.EchoTrainLength, image.MagneticFieldStrength) == (176, 3)
    assert (image.WindowCenter, image.WindowWidth) == (300, 700)
    assert "NumberOfFrames" not in image
    assert "SharedFunctionalGroupsSequence" not in image
    (item,) = image.SourceImageSequence
    assert item.ReferencedSOPClassUID == uid.EnhancedMRImageStorage
    assert list(item.ReferencedFrameNumber) == list(range(1, 5))
    same = derive(tmp_path / "mr", tmp_path / "same", 1)
    np.testing.assert_array_equal(np.stack([image.pixel_array.T for image in same], axis=-1), stored)
    enhanced_scan(tmp_path / "ct", oblique_affine, "CT")
    image = derive(tmp_path / "ct", tmp_path / "out-ct")[0]
    assert (image.SOPClassUID, image.KVP, image.RescaleIntercept) == (uid.CTImageStorage, 120, -1024)
    assert list(image.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Modality": "PT"}, "expected a source of modality MR or CT to write DICOM, got PT; write .nii.gz instead"),
        ({"StudyInstanceUID": None}, "expected a StudyInstanceUID in every image"),
        ({"SOPInstanceUID": None}, "expected a SOPInstanceUID in every image"),
    ],
)
def test_sources_that_nothing_can_be_derived_from(ct: Path, tmp_path: Path, tags: dict[str, Any], words: str) -> None:
    headers = source_headers(ct)
    volume, affine = enlarged(ct, 2)
    for header in headers:
        for keyword, value in tags.items():
            setattr(header, keyword, value)
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        write_derived_series(tmp_path / "out", volume.data, affine, headers, scale=2)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_headers_of_another_series_are_refused(ct: Path, tmp_path: Path) -> None:
    volume, affine = enlarged(ct, 2)
    headers = source_headers(ct)
    with pytest.raises(InputError, match="expected the DICOM headers of the source, got none"):
        write_derived_series(tmp_path / "out", volume.data, affine, [], scale=2)
    with pytest.raises(InputError, match=r"001\.dcm: expected slice 1 of the image .* 2\.5 mm away"):
        write_derived_series(tmp_path / "out", volume.data, affine, headers[1:], scale=2)
    with pytest.raises(InputError, match=r"000\.dcm: expected slice 1 of the image"):
        write_derived_series(tmp_path / "out", volume.data, affine, headers, scale=(2, 2, 4))
    headers[2].PatientID = "0815"
    with pytest.raises(InputError, match="different PatientID") as caught:
        write_derived_series(tmp_path / "out", volume.data, affine, headers, scale=2)
    assert "0815" not in str(caught.value), "whose it is belongs into no log"
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize("array", [np.zeros((3, 3)), np.full((12, 10, 8), np.nan), np.zeros((12, 10, 8), complex)])
def test_arrays_that_are_no_volume(ct: Path, tmp_path: Path, array: np.ndarray) -> None:
    _, affine = enlarged(ct, 2)
    with pytest.raises(OutputError, match="out: expected"):
        write_derived_series(tmp_path / "out", array, affine, source_headers(ct), scale=2)
    assert not (tmp_path / "out").exists()


def test_a_damaged_tag_is_one_line(ct: Path, tmp_path: Path) -> None:
    headers = source_headers(ct)
    volume, affine = enlarged(ct, 2)
    headers[0].SeriesNumber = None
    headers[0].add_new("SeriesNumber", "LO", "five")
    with pytest.raises(OutputError, match="a value that DICOM does not allow") as caught:
        write_derived_series(tmp_path / "out", volume.data, affine, headers, scale=2)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [ct]


def test_an_earlier_series_is_replaced_and_no_other_folder_is(ct: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    derive(ct, out, (1, 1, 3))
    derive(ct, out, (1, 1, 2))
    assert len(list(out.iterdir())) == 8, "nothing of the longer series is left"
    with pytest.raises(OutputError, match="expected no folder of that name, got one; remove it"):
        derive(ct, out, overwrite=False)
    (out / "notes.txt").write_text("mine")
    assert not is_derived_series(out)
    with pytest.raises(OutputError, match="got one that holds other files"):
        derive(ct, out)
    assert (out / "notes.txt").read_text() == "mine"
    assert len(list(out.iterdir())) == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct", "out"]


def test_nothing_is_left_of_a_series_that_fails_half_way(
    ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    derive(ct, tmp_path / "old")
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    written = []
    original = pydicom.dcmwrite

    def fail(file: Any, *args: Any, **options: Any) -> None:
        if len(written) == 5:
            raise OSError(28, "No space left on device")
        written.append(file)
        original(file, *args, **options)

    monkeypatch.setattr(pydicom, "dcmwrite", fail)
    for name in ("new", "old"):
        written.clear()
        with pytest.raises(OutputError, match=f"{name}: cannot be written: the disk is full"):
            derive(ct, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct", "old"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before


def test_times_are_in_the_time_zone_of_the_source(scan: Scan, oblique_affine: np.ndarray, tmp_path: Path) -> None:
    def zone(k: int, image: Dataset) -> None:
        image.TimezoneOffsetFromUTC = "-1130"

    scan(tmp_path / "in", oblique_affine, change=zone)
    before = datetime.now(timezone.utc).replace(microsecond=0)
    image = derive(tmp_path / "in", tmp_path / "out")[0]
    assert image.TimezoneOffsetFromUTC == "-1130"
    for kind in ("Series", "Content", "InstanceCreation"):
        text = f"{image[f'{kind}Date'].value}{image[f'{kind}Time'].value}-1130"
        assert before <= datetime.strptime(text, "%Y%m%d%H%M%S%z") <= datetime.now(timezone.utc)


def test_scale_may_be_a_fraction(ct: Path, tmp_path: Path) -> None:
    assert derive(ct, tmp_path / "out", Fraction(7, 3))[0].SeriesDescription.startswith("SR x7/3 ")
