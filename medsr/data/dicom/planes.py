"""Read the facts about the slices of a DICOM image, classic or enhanced, from its header as plain numbers.

A classic file is one slice. The frames of an enhanced image are slices whose tags are in functional groups: those of
the frame, or those that all frames share (PS3.3 C.7.6.16).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid

from medsr.data.dicom.errors import header_errors
from medsr.errors import InputError

_COLOUR_FREE = ("MONOCHROME1", "MONOCHROME2")
_SECONDARY_CAPTURES = {
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
}

# The tags in which images at one position may differ, by the names that the error message uses.
DISTINCTIONS = (
    "StackID",
    "TemporalPositionIndex",
    "TemporalPositionIdentifier",
    "EffectiveEchoTime",
    "EchoTime",
    "DiffusionBValue",
    "InversionTime",
    "FlipAngle",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "FrameType",
    "ImageType",
    "AcquisitionNumber",
    "ContrastBolusAgent",
    "ConvolutionKernel",
)
_GROUP_OF = {  # the functional groups of these tags; the others are in the data set itself
    "StackID": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
}
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")

# The tags that `planes_of` reads, with whole functional groups.
TAGS = [
    *DISTINCTIONS,
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


@dataclass(frozen=True)
class Plane:
    """A slice: a classic image, or one frame of an enhanced one.

    Attributes:
        file: The file of the slice.
        frame: The index of the frame in the file, from 0; None for a classic image.
        size: The number of rows and of columns.
        position: ImagePositionPatient, the centre of the first pixel, LPS mm.
        orientation: ImageOrientationPatient, the cosines along a row and along a column.
        spacing: PixelSpacing, mm between rows and between columns.
        extent: SpacingBetweenSlices, else SliceThickness, in mm, and the name of the tag; None if neither is given.
        slope: The slope of the real units over the stored values.
        intercept: The real units of the stored value 0.
        photometric: "MONOCHROME2" (large values are displayed bright) or "MONOCHROME1" (dark).
        padding: The smallest and the largest stored value that mark pixels outside the acquired area; None without
            padding.
        labels: The values of the tags in `DISTINCTIONS`.
        instance: SOPInstanceUID.
    """

    file: Path
    frame: int | None
    size: tuple[int, int]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    extent: tuple[float, str] | None
    slope: float
    intercept: float
    photometric: str
    padding: tuple[int, int] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    instance: str = ""

    @property
    def kind(self) -> str:
        """The values of FrameType or ImageType, joined to one string."""
        return self.labels.get("FrameType") or self.labels.get("ImageType", "")

    @property
    def name(self) -> str:
        """The name of the slice for messages, without folders."""
        return self.file.name if self.frame is None else f"{self.file.name} frame {self.frame + 1}"

    @property
    def where(self) -> str:
        """The name of the slice for messages, with folders."""
        return str(self.file) if self.frame is None else f"{self.file} frame {self.frame + 1}"


def planes_of(file: Path, header: Any) -> list[Plane]:
    """Return the slices of a file in the order of its frames.

    Args:
        file: The file, for messages.
        header: The data set of the file, with at least `TAGS`.

    Raises:
        InputError: If the image is not a slice of a grey volume (colour, secondary capture, several frames without
            functional groups), has no position in space, or has a damaged value.
    """
    with header_errors(file):
        _check_kind(file, header)
        shared = _first(header.get("SharedFunctionalGroupsSequence"))
        frames = header.get("PerFrameFunctionalGroupsSequence")
        count = int(header.get("NumberOfFrames") or 1)
        if shared is None and not frames:
            if count > 1:
                raise InputError(
                    f"{file}: expected functional groups that place each of the {count} frames (enhanced multi-frame), "
                    "got none; convert it to NIfTI by a tool that knows its source"
                )
            return [_plane(file, None, header, [header])]
        if len(frames or ()) != count:
            raise InputError(
                f"{file}: expected a functional group for each of {count} frames, got {len(frames or ())}; "
                "copy it again"
            )
        # A tag is searched in the groups of the frame, then in the shared ones, and not in the data set itself.
        return [
            _plane(file, k, header, [frame, *([] if shared is None else [shared])]) for k, frame in enumerate(frames)
        ]


def _check_kind(file: Path, header: Any) -> None:
    """Raise InputError for an image that cannot be a slice of a grey volume."""
    colour = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    if colour not in _COLOUR_FREE or int(header.get("SamplesPerPixel") or 1) != 1:
        raise InputError(
            f"{file}: expected grey values (MONOCHROME2 or MONOCHROME1), got {colour}; convert the series to grey first"
        )
    if header.get("SOPClassUID") in _SECONDARY_CAPTURES:
        raise InputError(
            f"{file}: expected an acquired image (MR, CT, PET), got a secondary capture, a picture of a screen or "
            "paper; give the series that it was made from"
        )
    if header.get("ModalityLUTSequence"):
        raise InputError(f"{file}: expected a linear rescale, got a Modality LUT; convert the series to NIfTI first")
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    if min(rows, columns) < 1:
        raise InputError(f"{file}: expected an image with pixels, got {rows} rows, {columns} columns; copy it again")


def _plane(file: Path, frame: int | None, header: Any, places: Sequence[Any]) -> Plane:
    """Read one slice; `places` holds the data set of a classic image, or the functional groups to search."""
    where = f"{file}" if frame is None else f"{file} frame {frame + 1}"

    def find(group: str, tag: str) -> Any:
        return _find(places, None if frame is None else group, tag)

    slope = _number(find("PixelValueTransformationSequence", "RescaleSlope"), where, "RescaleSlope", 1.0)
    if slope == 0:
        raise InputError(f"{where}: expected a RescaleSlope other than 0, got 0; repair the header")
    extent = None
    for tag in ("SpacingBetweenSlices", "SliceThickness"):
        value = find("PixelMeasuresSequence", tag)
        if extent is None and value:
            extent = (_number(value, where, tag, 0.0), tag)
    return Plane(
        file,
        frame,
        (int(header.Rows), int(header.Columns)),
        _numbers(find("PlanePositionSequence", "ImagePositionPatient"), where, "ImagePositionPatient", 3),
        _numbers(find("PlaneOrientationSequence", "ImageOrientationPatient"), where, "ImageOrientationPatient", 6),
        _numbers(find("PixelMeasuresSequence", "PixelSpacing"), where, "PixelSpacing", 2),
        extent,
        slope,
        _number(find("PixelValueTransformationSequence", "RescaleIntercept"), where, "RescaleIntercept", 0.0),
        str(header.get("PhotometricInterpretation") or "MONOCHROME2"),
        _padding(header),
        _labels(header, None if frame is None else places),
        str(header.get("SOPInstanceUID") or ""),
    )


def _first(sequence: Any) -> Any | None:
    return sequence[0] if sequence else None


def _find(places: Sequence[Any], group: str | None, tag: str) -> Any:
    """Return the value of a tag from the first place that has it, else None."""
    for place in places:
        item = place if group is None else _first(place.get(group))
        if item is not None and item.get(tag) is not None:
            return item.get(tag)
    return None


def _number(value: Any, where: str, tag: str, default: float) -> float:
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise InputError(f"{where}: expected a number in {tag}, got {value}; repair the header")
    return number


def _numbers(value: Any, where: str, tag: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in value or ())
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputError(
            f"{where}: expected {count} numbers in {tag}, got {'none' if value is None else value}; "
            "without them the image has no position in space, so convert it by a tool that knows its source"
        )
    return numbers


def _padding(header: Any) -> tuple[int, int] | None:
    """Return the range of PixelPaddingValue and PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2)."""
    value = _integer(header, "PixelPaddingValue")
    if value is None:
        return None
    limit = _integer(header, "PixelPaddingRangeLimit")
    return (value, value) if limit is None else (min(value, limit), max(value, limit))


def _integer(header: Any, tag: str) -> int | None:
    """Return a value that has the type of the pixels; a short header may give it as bytes or with the wrong sign."""
    value = header.get(tag)
    if isinstance(value, bytes):
        value = int.from_bytes(value, "little") if len(value) == 2 else None
    if value is None or value == "":
        return None
    number, bits = int(value), int(header.get("BitsAllocated") or 16)
    if int(header.get("PixelRepresentation") or 0) and number >= 1 << (bits - 1):
        number -= 1 << bits
    return number


def _labels(header: Any, groups: Sequence[Any] | None) -> dict[str, str]:
    """Return the values of the tags in which this slice may differ from another one at its position."""
    labels = {}
    for tag in DISTINCTIONS:
        if groups is None:
            value = header.get(tag)
        elif tag == "FrameType":
            value = next((v for v in (_find(groups, group, tag) for group in _FRAME_TYPES) if v is not None), None)
        else:
            value = _find(groups, _GROUP_OF[tag], tag) if tag in _GROUP_OF else None
        if value is not None and value != "":
            labels[tag] = (
                "\\".join(map(str, value)) if hasattr(value, "__iter__") and not isinstance(value, str) else str(value)
            )
    return labels
