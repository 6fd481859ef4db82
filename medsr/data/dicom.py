"""DICOM series: which files belong together, whether they form a volume, and where it lies.

Most readers average uneven gaps away and let a missing slice pass. Here a series is either a regular stack of
slices, possibly tilted, or an error that names the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from medsr.data.archives import is_archive, unpacked
from medsr.data.dicom_geometry import stack_affine
from medsr.data.dicom_pixels import decode, quiet_pydicom
from medsr.data.suffixes import DICOM, IMAGE_SUFFIXES, natural_key
from medsr.data.volume import RAS_TO_LPS, Volume, check_affine, describe, one_line, to_float32
from medsr.errors import InputError

SERIES_VARIABLE = "MEDSR_DICOM_SERIES"  # environment variable that chooses where a folder holds several series

_TAGS = [
    "SOPClassUID",
    "ImageType",
    "Modality",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
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
    "BitsStored",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
]


@dataclass(frozen=True)
class DicomSeries:
    """The image files of one SeriesInstanceUID, in natural order of their names.

    Attributes:
        uid: SeriesInstanceUID.
        files: paths of the images.
        headers: their data sets without pixels, in the same order.
    """

    uid: str
    files: tuple[Path, ...]
    headers: tuple[Any, ...]

    @property
    def description(self) -> str:
        """SeriesDescription, or "" where there is none."""
        return str(self.headers[0].get("SeriesDescription") or "").strip()

    @property
    def modality(self) -> str:
        """Modality, or "" where there is none."""
        return str(self.headers[0].get("Modality") or "")

    def __str__(self) -> str:
        localizer = " localizer" if all("LOCALIZER" in (h.get("ImageType") or []) for h in self.headers) else ""
        return (
            f"'{self.description or 'no description'}' "
            f"({self.modality}{localizer}, {len(self.files)} images, UID {self.uid})"
        )


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its magic word, or by suffix when it lacks the preamble.

    Raises:
        OSError: the file cannot be read. It may be a slice, so it is not passed over.
    """
    name = path.name.lower()
    if name == "dicomdir" or name.startswith(".") or name.endswith(IMAGE_SUFFIXES) or not path.is_file():
        return False
    with open(path, "rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or (name.endswith(DICOM) and len(start) == 132)


def find_series(path: Path) -> list[DicomSeries]:
    """Returns the image series in a folder and its subfolders, in the order of their series numbers.

    Files that are not DICOM, DICOMDIR, and objects that are not images (reports, segmentations, RT) are
    passed over.

    Args:
        path: a folder, or one file, which then is a series of one image.

    Raises:
        InputError: a DICOM file cannot be read.
    """
    groups: dict[str, list[tuple[Path, Any]]] = {}
    for file in [path] if path.is_file() else _files_below(path):
        try:
            header = _read_header(file) if is_dicom(file) else None
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror or error}; check its permissions") from error
        if header is not None:
            groups.setdefault(str(header.get("SeriesInstanceUID") or "none"), []).append((file, header))
    series = [DicomSeries(uid, *map(tuple, zip(*group, strict=True))) for uid, group in groups.items()]
    return sorted(series, key=lambda s: (int(s.headers[0].get("SeriesNumber") or 0), natural_key(s.uid)))


def _files_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=natural_key)
        found.extend(Path(root, name) for name in sorted(names, key=natural_key))
    return found


def _read_header(path: Path) -> Any | None:
    """Returns the header of an image, None for another kind of DICOM object."""
    try:
        with quiet_pydicom():
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
            kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
            name = "" if kind is None else pydicom.uid.UID(kind).name
            if kind is None or ("Image Storage" in name and "Rows" not in header):
                raise ValueError("the header is incomplete")
            # A private class has no name; it is an image if it says how large.
            is_image = "Image Storage" in name or (name == kind and "Rows" in header)
    except Exception as error:  # pydicom raises anything from EOFError to NotImplementedError
        raise InputError(
            f"{path}: expected a DICOM image, got a damaged file ({one_line(error)}); copy it again or remove it"
        ) from error
    return header if is_image else None


def choose_series(path: Path, series: str | None = None) -> DicomSeries:
    """Returns the series to read from a folder.

    Args:
        path: folder or file.
        series: its SeriesInstanceUID. None takes the only one, else the one that the environment variable
            ``MEDSR_DICOM_SERIES`` names.

    Raises:
        InputError: no images, several series and no choice, or no series of that UID.
    """
    found = find_series(path)
    listed = "; ".join(str(s) for s in found[:6]) + ("; ..." if len(found) > 6 else "")
    if not found:
        raise InputError(
            f"{path}: expected an image file or a folder of DICOM images, got no DICOM image; check the "
            "path, and of other formats name a file, not a folder"
        )
    wanted = series or (os.environ.get(SERIES_VARIABLE) if len(found) > 1 else None)
    if wanted:
        for candidate in found:
            if candidate.uid == wanted:
                return candidate
        raise InputError(f"{path}: expected series {wanted}, got {listed}; choose one of these UIDs")
    if len(found) > 1:
        raise InputError(
            f"{path}: expected one DICOM series, got {len(found)}: {listed}; choose one with series=UID or "
            f"the environment variable {SERIES_VARIABLE}=UID"
        )
    return found[0]


def source_headers(path: str | os.PathLike[str], series: str | None = None) -> list[pydicom.Dataset]:
    """Returns everything but the pixels of the images that `read_dicom` makes a volume of.

    Args:
        path: folder, .zip or file, as for `read_dicom`.
        series: SeriesInstanceUID, needed when there are several.

    Returns:
        One data set per slice, in the order of the volume's last axis; of an enhanced multi-frame image the one data
        set it has.

    Raises:
        InputError: as `read_dicom`, as far as headers go.
    """
    with _folder_of(Path(path).expanduser()) as folder:
        chosen = choose_series(folder, series)
        for file, header in zip(chosen.files, chosen.headers, strict=True):
            _check_image(file, header)
        order, _ = stack_affine(folder, chosen.files, chosen.headers, [])
        with quiet_pydicom():
            return [pydicom.dcmread(chosen.files[k], stop_before_pixels=True, force=True) for k in order]


@contextmanager
def _folder_of(path: Path) -> Iterator[Path]:
    """Yields a path to read: an archive unpacked, anything else as it is."""
    if is_archive(path):
        with unpacked(path) as folder:
            yield folder
    else:
        yield path


def read_dicom(path: Path, series: str | None = None) -> Volume:
    """Reads one DICOM series as a volume.

    Array axes are columns, rows and slices (sorted along the slice normal), as in ITK. A tilted gantry gives
    a sheared affine, exactly as acquired, and a warning. MONOCHROME1 (display inverted) is refused: it occurs
    in projection radiography, and whether its numbers were meant inverted cannot be known.

    Args:
        path: folder with the series (subfolders included), or one file, which gives one slice.
        series: SeriesInstanceUID, needed when there are several.

    Raises:
        InputError: the files do not form one regular stack of slices, or cannot be decoded.
    """
    chosen = choose_series(path, series)
    warnings: list[str] = []
    for file, header in zip(chosen.files, chosen.headers, strict=True):
        _check_image(file, header)
    order, lps = stack_affine(path, chosen.files, chosen.headers, warnings)
    if path.is_file():
        warnings.append("one DICOM file is one slice: give its folder to read the whole series")
    first = chosen.headers[0]
    data = np.empty((int(first.Columns), int(first.Rows), len(order)), dtype=np.float32)
    for index, k in enumerate(order):
        data[:, :, index] = decode(chosen.files[k], chosen.headers[k]).T
    data = to_float32(data, path, warnings)
    affine = check_affine(RAS_TO_LPS @ lps, path, "DICOM headers")
    meta = describe(
        filename=str(path),
        format="dicom",
        original_dtype=_stored_dtype(chosen.headers),
        series_uid=chosen.uid,
        series_description=chosen.description,
        modality=chosen.modality,
        warnings=warnings,
    )
    return Volume(data, affine, meta)


def _check_image(path: Path, header: Any) -> None:
    """Raises InputError for an image that cannot be a slice of a grey volume."""
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise InputError(
            f"{path}: expected one slice per file, got a multi-frame image of {header.NumberOfFrames} "
            "frames; convert it to NIfTI first, e.g. with dcm2niix"
        )
    colour = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    if colour != "MONOCHROME2" or int(header.get("SamplesPerPixel") or 1) != 1:
        raise InputError(f"{path}: expected MONOCHROME2 grey values, got {colour}; convert the series to grey first")
    if header.get("ModalityLUTSequence"):
        raise InputError(f"{path}: expected a linear rescale, got a Modality LUT; convert the series to NIfTI first")
    slope = header.get("RescaleSlope")
    if slope is not None and float(slope) == 0:
        raise InputError(f"{path}: expected a RescaleSlope other than 0, got 0; repair the header")


def _stored_dtype(headers: Sequence[Any]) -> str:
    header = headers[0]
    if "BitsStored" not in header:
        return "float"
    return f"{'int' if header.get('PixelRepresentation') else 'uint'}{8 if header.BitsStored <= 8 else 16}"
