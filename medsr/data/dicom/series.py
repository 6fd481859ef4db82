"""Find the DICOM images in a folder and group them by series."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom import uid

from medsr.data.dicom.decoders import check_deflated
from medsr.data.dicom.errors import BoundedFile, header_errors, quiet_pydicom
from medsr.errors import InputError
from medsr.files.suffixes import DICOM, IMAGE_SUFFIXES, natural_key

_OVERLAYS = range(0x6000, 0x6100)
SERIES_VARIABLE = "MEDSR_DICOM_SERIES"  # the environment variable that chooses among several series in a folder


@dataclass(frozen=True)
class DicomSeries:
    """The image files of one SeriesInstanceUID, in natural order of their names.

    Attributes:
        uid: The SeriesInstanceUID.
        files: The paths of the images.
        headers: The data sets of the images without pixels, in the same order.
    """

    uid: str
    files: tuple[Path, ...]
    headers: tuple[Any, ...]

    @property
    def description(self) -> str:
        """The SeriesDescription, or an empty string without one."""
        return " ".join(_text(self.headers[0], "SeriesDescription").split())

    @property
    def modality(self) -> str:
        """The Modality, or an empty string without one."""
        return _text(self.headers[0], "Modality")

    @property
    def number(self) -> int:
        """The SeriesNumber, or 0 without one."""
        return _integer(self.headers[0], "SeriesNumber", 0)

    @property
    def images(self) -> int:
        """The number of images, where each frame of a multi-frame file counts as one."""
        return sum(max(_integer(header, "NumberOfFrames", 1), 1) for header in self.headers)

    def __str__(self) -> str:
        localizer = " localizer" if all("LOCALIZER" in _text(h, "ImageType") for h in self.headers) else ""
        return (
            f"series {self.number} '{self.description or 'no description'}' "
            f"({self.modality}{localizer}, {self.images} images, UID {self.uid})"
        )


def _text(header: Any, tag: str) -> str:
    """Return a value as text, or an empty string if it is absent or damaged."""
    try:
        with quiet_pydicom():
            return str(header.get(tag) or "")
    except Exception:  # pydicom converts values on first use and raises errors of any type
        return ""


def _integer(header: Any, tag: str, default: int) -> int:
    try:
        return int(_text(header, tag))
    except ValueError:
        return default


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM by its magic word, or by its suffix if it lacks the preamble.

    Raises:
        OSError: If the file cannot be read. It may be a slice, so it must not be ignored.
    """
    name = path.name.lower()
    if name == "dicomdir" or name.startswith(".") or name.endswith(IMAGE_SUFFIXES) or not path.is_file():
        return False
    with open(path, "rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or (name.endswith(DICOM) and len(start) == 132)


def find_series(path: Path) -> list[DicomSeries]:
    """Return the image series in a folder and its subfolders, in the order of their series numbers.

    Files that are not DICOM, DICOMDIR files, and objects that are not images (reports, segmentations, RT) are ignored.

    Args:
        path: A folder, or one file, which is a series of one image.

    Raises:
        InputError: If a DICOM file cannot be read.
    """
    groups: dict[str, list[tuple[Path, Any]]] = {}
    with quiet_pydicom():
        for file in [path] if path.is_file() else _files_below(path):
            try:
                header = _read_header(file) if is_dicom(file) else None
            except OSError as error:
                raise InputError(f"{file}: cannot be read: {error.strerror or error}; check its permissions") from error
            if header is not None:
                groups.setdefault(_text(header, "SeriesInstanceUID") or "none", []).append((file, header))
        series = [DicomSeries(key, *map(tuple, zip(*group, strict=True))) for key, group in groups.items()]
        return sorted(series, key=lambda s: (s.number, natural_key(s.uid)))


def _files_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=natural_key)
        found.extend(Path(root, name) for name in sorted(names, key=natural_key))
    return found


def _read_header(path: Path) -> Any | None:
    """Return the header of an image, or None for another kind of DICOM object."""
    with header_errors(path):
        check_deflated(path)
        with BoundedFile(path) as file:
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        for tag in set(header.keys()):
            if tag.is_private or tag.group in _OVERLAYS:
                del header[tag]  # large and not needed later; headers stay in memory as long as their image
        kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
        name = "" if kind is None else uid.UID(kind).name
        if kind is None or ("Image Storage" in name and "Rows" not in header):
            raise ValueError("the header is incomplete")
        # A private class has no name. It is an image if it states a size.
        return header if "Image Storage" in name or (name == kind and "Rows" in header) else None


def choose_series(path: Path, series: str | None = None) -> DicomSeries:
    """Return the series to read from a folder.

    Args:
        path: The folder or file.
        series: The SeriesInstanceUID. None means the only series, or if there are several, the one that the environment
            variable ``MEDSR_DICOM_SERIES`` names.

    Raises:
        InputError: If there is no image, there are several series and none is chosen, or no series has that UID.
    """
    found = find_series(path)
    listed = "; ".join(str(s) for s in found[:6]) + ("; ..." if len(found) > 6 else "")
    if not found:
        raise InputError(
            f"{path}: expected an image file or a folder of DICOM images, got no DICOM image; check the "
            "path, and for other formats name a file instead of a folder"
        )
    wanted = series or (os.environ.get(SERIES_VARIABLE) if len(found) > 1 else None)
    if wanted:
        for candidate in found:
            if candidate.uid == wanted:
                return candidate
        raise InputError(f"{path}: expected series {wanted}, got {listed}; choose one of these UIDs")
    if len(found) > 1:
        raise InputError(
            f"{path}: expected one DICOM series, got {len(found)}: {listed}; choose one with --series UID (series=UID "
            f"in Python) or the environment variable {SERIES_VARIABLE}=UID"
        )
    return found[0]
