"""DICOM sources with the headers that scanners write, for tests of what is derived from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
Change = Callable[[int, Dataset], Any]


def _study(image: Dataset, modality: str) -> None:
    image.SpecificCharacterSet = "ISO_IR 100"
    image.PatientName, image.PatientID, image.PatientSex = "Müller^Jörg", "4711", "M"
    image.PatientBirthDate, image.PatientAge, image.PatientWeight = "19700131", "050Y", "81.5"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.9"
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20200131", "101112", "S1", "A1"
    image.StudyDescription, image.ReferringPhysicianName = "Head", "Who^Doctor"
    image.Modality, image.SeriesNumber, image.SeriesDescription = modality, 5, "head thick slices"
    image.BodyPartExamined, image.ProtocolName = "HEAD", "protocol 7"
    image.PatientPosition, image.PositionReferenceIndicator = "HFS", "NASION"
    image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20200131"
    image.Manufacturer, image.ManufacturerModelName = "ACME", "Scanner 1"
    image.SoftwareVersions, image.DeviceSerialNumber, image.InstitutionName = ["V7", "B2"], "007", "General Hospital"
    image.SOPClassUID = uid.CTImageStorage if modality == "CT" else uid.MRImageStorage


def _modality(image: Dataset, k: int, modality: str) -> None:
    """Facts that stay true of a derived image, and facts about this acquired slice only."""
    image.AcquisitionTime, image.ContentTime = f"1020{k % 60:02d}", f"1021{k % 60:02d}"
    block = image.private_block(0x0029, "ACME PRIVATE", create=True)
    block.add_new(0x01, "LO", "raw data of Müller")
    if modality == "CT":
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.AcquisitionNumber, image.KVP, image.ConvolutionKernel = 1, "120", "B30f"
        image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, -1024, "HU"
        image.WindowCenter, image.WindowWidth = "40", "400"
        image.ExposureTime, image.XRayTubeCurrent, image.CTDIvol, image.TableHeight = 500, 200, 12.5, "150"
        image.IrradiationEventUID = "1.2.3.4.5.6"
    else:
        image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        image.ScanningSequence, image.SequenceVariant, image.ScanOptions = ["GR", "IR"], ["SP", "MP"], "PFP"
        image.MRAcquisitionType, image.RepetitionTime, image.EchoTime = "3D", "2300", "2.98"
        image.InversionTime, image.FlipAngle, image.EchoTrainLength = "900", "9", 1
        image.MagneticFieldStrength, image.ImagedNucleus = "3", "1H"
        image.WindowCenter, image.WindowWidth = f"{400 + k}", "900"  # MR scanners window slice by slice
        image.PixelBandwidth, image.AcquisitionMatrix, image.SAR = "240", [0, 256, 240, 0], "0.1"


@pytest.fixture(scope="session")
def scan() -> Callable[..., np.ndarray]:
    """Write a series as a scanner does; returns its stored values (columns, rows, slices)."""

    def write(
        folder: Path,
        affine: np.ndarray,
        modality: str = "CT",
        shape: tuple[int, int, int] = (6, 5, 4),
        change: Change = lambda k, image: None,
    ) -> np.ndarray:
        folder.mkdir(parents=True, exist_ok=True)
        stored = np.random.default_rng(3).integers(0, 2400, shape).astype(np.uint16)
        lps = RAS_TO_LPS @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        for k in range(shape[2]):
            image = Dataset()
            _study(image, modality)
            _modality(image, k, modality)
            image.SOPInstanceUID, image.InstanceNumber = f"1.2.3.4.{k + 1}", k + 1
            image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
            image.Columns, image.Rows = shape[:2]
            image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
            image.PixelSpacing = [f"{spacing[1]:.9g}", f"{spacing[0]:.9g}"]
            image.SliceThickness = f"{0.8 * spacing[2]:.9g}"  # a gap of a fifth
            image.SliceLocation = f"{1000 - 2 * k}"  # of the table, not of the patient
            image.ImageOrientationPatient = [f"{v:.10f}" for v in (lps[:3, :2] / spacing[:2]).T.ravel()]
            image.ImagePositionPatient = [f"{v:.9f}" for v in lps[:3, 3] + k * lps[:3, 2]]
            image.PixelData = stored[:, :, k].T.astype("<u2").tobytes()
            if change(k, image) is not False:
                _save(folder / f"{k:03d}.dcm", image)
        return stored

    return write


@pytest.fixture(scope="session")
def enhanced_scan() -> Callable[..., np.ndarray]:
    """Write one enhanced multi-frame MR or CT image; returns its stored values (columns, rows, frames)."""

    def write(
        folder: Path, affine: np.ndarray, modality: str = "MR", shape: tuple[int, int, int] = (6, 5, 4)
    ) -> np.ndarray:
        folder.mkdir(parents=True, exist_ok=True)
        stored = np.random.default_rng(4).integers(0, 2000, shape).astype(np.uint16)
        lps = RAS_TO_LPS @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image = Dataset()
        _study(image, modality)
        image.SOPClassUID = uid.EnhancedMRImageStorage if modality == "MR" else uid.EnhancedCTImageStorage
        image.SOPInstanceUID, image.InstanceNumber, image.NumberOfFrames = "1.2.3.4.1", 1, shape[2]
        image.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Columns, image.Rows = shape[:2]
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
        image.AcquisitionDateTime, image.ContentQualification = "20200131102000", "PRODUCT"
        shared = Dataset()
        shared.PixelMeasuresSequence = [_item(PixelSpacing=[spacing[1], spacing[0]], SliceThickness=spacing[2])]
        cosines = [f"{v:.10f}" for v in (lps[:3, :2] / spacing[:2]).T.ravel()]
        shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=cosines)]
        rescale = {"RescaleSlope": "1", "RescaleIntercept": "-1024" if modality == "CT" else "0"}
        rescale["RescaleType"] = "HU" if modality == "CT" else "US"
        shared.PixelValueTransformationSequence = [_item(**rescale)]
        shared.FrameVOILUTSequence = [_item(WindowCenter="300", WindowWidth="700")]
        if modality == "MR":
            image.MRAcquisitionType, image.EchoPulseSequence, image.SteadyStatePulseSequence = "3D", "GRADIENT", "NONE"
            image.SegmentedKSpaceTraversal, image.MagneticFieldStrength = "PARTIAL", 3.0
            timing = _item(RepetitionTime=2300.0, FlipAngle=9.0, EchoTrainLength=176)
            shared.MRTimingAndRelatedParametersSequence = [timing]
            shared.MREchoSequence = [_item(EffectiveEchoTime=2.98)]
            shared.MRModifierSequence = [_item(InversionRecovery="YES", InversionTimes=[900.0], Spoiling="RF")]
        else:
            shared.CTXRayDetailsSequence = [_item(KVP=120.0)]
        image.SharedFunctionalGroupsSequence = [shared]
        places = [[f"{v:.9f}" for v in lps[:3, 3] + k * lps[:3, 2]] for k in range(shape[2])]
        image.PerFrameFunctionalGroupsSequence = [
            _item(PlanePositionSequence=[_item(ImagePositionPatient=place)]) for place in places
        ]
        image.PixelData = stored.transpose(2, 1, 0).astype("<u2").tobytes()
        _save(folder / "enhanced.dcm", image)
        return stored

    return write


def _item(**tags: Any) -> Dataset:
    item = Dataset()
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return item


def _save(path: Path, image: Dataset) -> None:
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    pydicom.dcmwrite(path, image, enforce_file_format=True)
