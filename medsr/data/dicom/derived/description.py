"""Describe a derived series, its source and the program that made it (PS3.3 C.7.5.1, C.7.6.1.1.3, C.12.1.1.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pydicom
from pydicom import uid
from pydicom.sr.codedict import codes

from medsr.data.dicom.classic import is_enhanced
from medsr.geometry import Scale, format_scale

# The root of every UID that is made here: that of pydicom, which is meant for programs without their own root.
UID_PREFIX = str(uid.PYDICOM_ROOT_UID)
MANUFACTURER = "medsr"
STATEMENT = "Research use only. Super-resolved detail is inferred, not measured; not for diagnosis."
_LO, _ST = 64, 1024  # the largest numbers of characters of a long string and of a short text
_LARGEST_NUMBER = 2**31 - 1  # the largest value of an integer string
_EQUIPMENT = (  # the General Equipment of the source, which becomes an item of ContributingEquipmentSequence
    *("Manufacturer", "InstitutionName", "InstitutionAddress", "StationName", "InstitutionalDepartmentName"),
    *("ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"),
)


@dataclass(frozen=True)
class Processing:
    """The method and the program that made a volume.

    Attributes:
        method: The bundle's name.
        version: The bundle's version.
        weights_sha256: The hash of its weights.
        software: The names and versions of the programs, medsr's own first.
        formation: The formation of the source images that the volume is consistent with, in words; empty for none.
    """

    method: str = ""
    version: str = ""
    weights_sha256: str | None = None
    software: Mapping[str, str] = field(default_factory=dict)
    formation: str = ""

    @property
    def name(self) -> str:
        """The method and its version."""
        return f"{self.method or MANUFACTURER} {self.version}".strip()


def uid_maker(prefix: str, seed: str | None) -> Callable[[str], str]:
    """Return a function that makes a UID for a purpose: a hash of seed and purpose if there is a seed, else random."""

    def make(purpose: str) -> str:
        sources = None if seed is None else [seed, "\n", purpose]
        return str(uid.generate_uid(prefix, entropy_srcs=sources))

    return make


def describe_series(
    header: pydicom.Dataset,
    source: Sequence[Any],
    scale: Scale,
    number: int | None,
    new_uid: Callable[[str], str],
) -> list[str]:
    """Set the tags that the new series does not share with its source: UIDs, number, description, dates, research use.

    Args:
        header: The header of the derived series.
        source: The headers of the source.
        scale: The scale of the volume over its source.
        number: The series number; None means `derived_number`.
        new_uid: A function that makes the UID for a purpose.

    Returns:
        The warnings, one line each.
    """
    first, warnings = source[0], []
    header.SeriesInstanceUID = new_uid("series")
    frames = {str(image.get("FrameOfReferenceUID") or "") for image in source}
    if len(frames) > 1 or "" in frames:
        # The tag is type 1, so a UID is made, the same for every series derived from this source. Some anonymisers make
        # a new one for every slice (LIDC-IDRI).
        what = f"{len(frames)} frames of reference" if len(frames) > 1 else "no frame of reference"
        warnings.append(f"the source's images state {what}: the derived series gets a new one")
        header.FrameOfReferenceUID = uid_maker(UID_PREFIX, str(first.SeriesInstanceUID))("frame of reference")
    header.SeriesDescription = f"{scale_label(scale)} {first.get('SeriesDescription') or ''}"[:_LO].strip()
    header.SeriesNumber = derived_number(first.get("SeriesNumber")) if number is None else number
    now = _now(header)
    for kind in ("Series", "Content", "InstanceCreation"):
        setattr(header, f"{kind}Date", now.strftime("%Y%m%d"))
        setattr(header, f"{kind}Time", now.strftime("%H%M%S"))
    header.ContentQualification = "RESEARCH"
    return warnings


def is_made_here(header: Any) -> bool:
    """Return whether medsr made an image or contributed to it."""
    equipment = [header, *(header.get("ContributingEquipmentSequence") or ())]
    return any(item.get("Manufacturer") == MANUFACTURER for item in equipment)


def scale_label(scale: Scale) -> str:
    """Return the beginning of every series description, such as "SR x2" or "SR 1x1x5"."""
    return f"SR x{format_scale(scale[:1])}" if len(set(scale)) == 1 else f"SR {format_scale(scale)}"


def derived_number(source: Any) -> int:
    """Return the source's series number followed by 01, or unchanged if that would be too large."""
    number = 100 * int(source or 0) + 1
    return number if 0 < number <= _LARGEST_NUMBER else int(source)


def describe_derivation(header: pydicom.Dataset, source: Sequence[Any], scale: Scale, processing: Processing) -> None:
    """Set the tags that state the processing, the source images and the equipment.

    The equipment of the derived images is medsr, which made them. The scanner moves to ContributingEquipmentSequence,
    as the standard demands for post-processing. medsr is listed there too, with the versions of its packages.
    """
    obeyed = f"Consistent with the formation {processing.formation}. " if processing.formation else ""
    done = f"Super-resolution by {processing.name}, scale {format_scale(scale)}. {obeyed}{STATEMENT}"
    before = str(header.get("DerivationDescription") or "")
    header.DerivationDescription = f"{before[: _ST - len(done) - 2]}; {done}" if before else done
    header.DerivationCodeSequence = [
        *(header.get("DerivationCodeSequence") or ()),
        code_item(codes.DCM.SpatialResampling),
    ]
    header.SourceImageSequence = [_source_item(image) for image in source]
    contributing = list(header.get("ContributingEquipmentSequence") or ())
    if source[0].get("Manufacturer"):
        contributing.append(_acquisition(source[0]))
    header.ContributingEquipmentSequence = [*contributing, _processing(processing, scale, _now(header))]
    header.Manufacturer = MANUFACTURER
    header.ManufacturerModelName = processing.name[:_LO]
    header.SoftwareVersions = _versions(processing)


def code_item(code: Any) -> pydicom.Dataset:
    """Return a code as an item of a code sequence."""
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _source_item(image: Any) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    if is_enhanced(image):
        item.ReferencedFrameNumber = list(range(1, int(image.get("NumberOfFrames") or 1) + 1))
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.SourceImageForImageProcessingOperation)]
    return item


def _acquisition(image: Any) -> pydicom.Dataset:
    """Return the equipment of the source: a scanner, or the program that derived the source."""
    item = pydicom.Dataset()
    original = (image.get("ImageType") or ["ORIGINAL"])[0] != "DERIVED"
    purpose = codes.DCM.AcquisitionEquipment if original else codes.DCM.ProcessingEquipment
    item.PurposeOfReferenceCodeSequence = [code_item(purpose)]
    for keyword in _EQUIPMENT:
        if image.get(keyword):
            setattr(item, keyword, image.get(keyword))
    return item


def _processing(processing: Processing, scale: Scale, now: datetime) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = processing.name[:_LO]
    item.SoftwareVersions = _versions(processing)
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    weights = f"; weights SHA-256 {processing.weights_sha256}" if processing.weights_sha256 else ""
    item.ContributionDescription = f"Super-resolution, scale {format_scale(scale)}{weights}. {STATEMENT}"[:_ST]
    return item


def _versions(processing: Processing) -> list[str]:
    listed = [f"{name} {version}" for name, version in processing.software.items()]
    return [text[:_LO] for text in listed or [processing.name]]


def _now(header: pydicom.Dataset) -> datetime:
    """Return the current time in the time zone of the source, to which all times of an image refer."""
    offset = str(header.get("TimezoneOffsetFromUTC") or "")
    if len(offset) == 5 and offset[0] in "+-" and offset[1:].isdigit():
        minutes = (int(offset[1:3]) * 60 + int(offset[3:])) * (-1 if offset[0] == "-" else 1)
        if abs(minutes) < 24 * 60:
            return datetime.now(timezone(timedelta(minutes=minutes)))
    return datetime.now().astimezone()
