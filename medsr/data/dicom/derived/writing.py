"""Write an SR volume as new MR or CT images of the same patient, study and frame of reference.

The images are classic MR Image Storage or CT Image Storage, uncompressed, with one file per slice, also if the source
was enhanced multi-frame, because every viewer and PACS reads them. `docs/dicom_output.md` describes their content.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydicom
from numpy.typing import ArrayLike, NDArray
from pydicom import uid

from medsr.data.dicom.derived.description import UID_PREFIX, Processing, describe_derivation, describe_series, uid_maker
from medsr.data.dicom.derived.header import check_sources, kept_header
from medsr.data.dicom.derived.pixels import Encoding, choose_encoding, largest_step, source_encodings, window_of
from medsr.data.dicom.derived.planes import DerivedPlanes, decimal, derived_planes, source_planes
from medsr.data.dicom.errors import quiet_pydicom
from medsr.errors import InputError, MedsrError, OutputError
from medsr.files.atomic import atomic_folder
from medsr.geometry import Grid, Scale, ScaleLike, as_scale

__all__ = ["DerivedSeries", "Processing", "check_sources", "is_derived_series", "write_derived_series"]

_LARGEST_SIDE = 65535  # Rows and Columns are 16-bit numbers
_NARROWEST_LINEAR = 1.0  # the smallest width of a LINEAR window (PS3.3 C.11.2.1.2.1)


@dataclass(frozen=True)
class DerivedSeries:
    """The facts about a series that was written.

    Attributes:
        series_uid: The SeriesInstanceUID of the new series.
        source_series_uid: The SeriesInstanceUID of its source.
        images: The number of files.
        slope: The RescaleSlope, the largest one if slices differ; a stored value is off by at most half of it.
        intercept: The RescaleIntercept of the first slice.
        warnings: The warnings, one line each.
    """

    series_uid: str
    source_series_uid: str
    images: int
    slope: float
    intercept: float
    warnings: tuple[str, ...] = ()


def write_derived_series(
    directory: str | os.PathLike[str],
    array: ArrayLike,
    affine: ArrayLike,
    source_headers: Sequence[pydicom.Dataset],
    *,
    scale: ScaleLike,
    processing: Processing | None = None,
    uid_seed: str | None = None,
    uid_prefix: str = UID_PREFIX,
    series_number: int | None = None,
    overwrite: bool = True,
) -> DerivedSeries:
    """Write a volume as a new series, IM0001.dcm and so on in the order of InstanceNumber; all files or none appear.

    Args:
        directory: The folder to create. An earlier derived series there is replaced; other folders are not touched.
        array: The values (X, Y, Z) = columns, rows, slices, in real units (HU, scanner units).
        affine: The affine (4, 4) from voxel index to world coordinates, RAS mm. The last axis may be tilted against
            the slices.
        source_headers: The data sets of the images that the volume was made from
            (`medsr.data.dicom.reading.source_headers`).
        scale: The scale of the volume over its source, one number or one per axis.
        processing: The method and the program that made the volume.
        uid_seed: A text of which the UIDs are a hash. The same seed gives the same UIDs, so a run that is repeated
            after a crash sends the same series again and not a second one. None draws new UIDs.
        uid_prefix: The root of the UIDs.
        series_number: The SeriesNumber; by default the source's followed by 01 (5 gives 501).
        overwrite: Whether an earlier series in `directory` is replaced.

    Returns:
        The facts about the new series.

    Raises:
        InputError: If the source is not one MR or CT series with UIDs, or not the source of the volume.
        OutputError: If rows and columns are not perpendicular, a value is not finite, or the folder cannot be written;
            no file is left behind.
    """
    directory, volume, exact = Path(directory).expanduser(), np.asarray(array), as_scale(scale, 3)
    _check_volume(directory, volume, affine)
    with _one_line_about(directory, source_headers), quiet_pydicom():
        modality = check_sources(source_headers)
        matrix = np.asarray(affine, dtype=np.float64)
        planes = derived_planes(matrix, volume.shape, exact, source_planes(source_headers))
        encodings = _encodings(volume, modality, planes, exact)
        new_uid = uid_maker(uid_prefix, uid_seed)
        header = kept_header(source_headers, modality)
        warnings = describe_series(header, source_headers, exact, series_number, new_uid)
        describe_derivation(header, source_headers, exact, processing or Processing())
        _describe_pixels(header, volume, planes, encodings)
        with atomic_folder(directory, overwrite=overwrite, replaceable=is_derived_series) as folder:
            header = _encoded(header)
            for k, encoding in enumerate(encodings):
                _describe_slice(header, planes, k, new_uid)
                _store(header, volume[:, :, k].T, encoding)
                _write(folder / f"IM{planes.numbers[k]:0{max(4, len(str(volume.shape[2])))}d}.dcm", header)
    step = max(encoding.slope for encoding in encodings)
    if step > largest_step(modality, float(volume.min()), float(volume.max())) and not encodings[0].holds(volume):
        warnings.append(f"16 bits are too few for the range of the values: they are stored in coarse steps of {step:g}")
    source_uid = str(source_headers[0].SeriesInstanceUID)
    first = encodings[0].intercept
    return DerivedSeries(str(header.SeriesInstanceUID), source_uid, len(encodings), step, first, tuple(warnings))


def is_derived_series(folder: Path) -> bool:
    """Return whether a folder holds only files that `write_derived_series` writes, so that it may be replaced."""
    return folder.is_dir() and all(re.fullmatch(r"IM\d{4,}\.dcm", path.name) for path in folder.iterdir())


@contextmanager
def _one_line_about(directory: Path, headers: Sequence[Any]) -> Iterator[None]:
    """Name a path in every error, and turn errors of pydicom on values of the source into one line."""
    file = getattr(headers[0], "filename", None) if headers else None
    source = Path(file).parent if file else "the source"
    try:
        yield
    except MedsrError as error:
        place = source if isinstance(error, InputError) else directory
        if str(place) in str(error) or "the source" in str(error):
            raise
        raise type(error)(f"{place}: {error}") from error
    except (ValueError, TypeError, AttributeError, OverflowError, NotImplementedError) as error:  # from pydicom
        # The message names the tag, but not its value, which may be a patient's name.
        tag = re.search(r"\([0-9A-Fa-f]{4}, ?[0-9A-Fa-f]{4}\)", str(error))
        raise OutputError(
            f"{directory}: cannot be written: the source's header holds a value that DICOM does not allow "
            f"({tag.group() if tag else type(error).__name__}); repair it or write .nii.gz"
        ) from error


def _check_volume(directory: Path, volume: NDArray[Any], affine: ArrayLike) -> None:
    if volume.ndim != 3 or 0 in volume.shape or volume.dtype.kind not in "iuf":
        raise OutputError(
            f"{directory}: expected a real array (X, Y, Z) with voxels, got {volume.dtype} of shape {volume.shape}; "
            "give one 3D volume"
        )
    if volume.dtype.kind == "f" and not np.isfinite(volume).all():
        bad = int(volume.size - np.isfinite(volume).sum())
        raise OutputError(
            f"{directory}: expected finite values, got {bad} NaN or infinite ones; replace them (numpy.nan_to_num)"
        )
    if max(volume.shape[:2]) > _LARGEST_SIDE:
        raise OutputError(
            f"{directory}: expected at most {_LARGEST_SIDE} rows and columns, got {volume.shape[:2]}; write "
            ".nrrd instead"
        )
    Grid(volume.shape, np.asarray(affine, dtype=np.float64))


def _encodings(volume: NDArray[Any], modality: str, planes: DerivedPlanes, scale: Scale) -> list[Encoding]:
    """Return the encoding of each slice: the same for all, but at scale 1 that of its source, which loses nothing."""
    count = volume.shape[2]
    own = source_encodings([header for _, header in planes.source], [(p.slope, p.intercept) for p, _ in planes.source])
    if own is not None and all(s == 1 for s in scale) and len(own) == count:
        extremes = zip(own, volume.min(axis=(0, 1)), volume.max(axis=(0, 1)), strict=True)
        if all(encoding.fits(float(low), float(high)) for encoding, low, high in extremes):
            return own
    common = own[0] if own else None
    if own and len(set(own)) > 1:
        common = replace(own[0], slope=min(encoding.slope for encoding in own), intercept=0.0)
    return [choose_encoding(volume, modality, common)] * count


def _describe_pixels(
    header: pydicom.Dataset, volume: NDArray[Any], planes: DerivedPlanes, encodings: Sequence[Encoding]
) -> None:
    """Set the tags of the Image Plane, Image Pixel, Modality LUT and VOI LUT modules that all slices share."""
    header.Columns, header.Rows = volume.shape[:2]
    header.PixelSpacing, header.ImageOrientationPatient = planes.spacing, planes.orientation
    header.SliceThickness, header.SpacingBetweenSlices = planes.thickness, planes.between
    header.SamplesPerPixel = 1
    # A MONOCHROME1 source keeps its numbers, so the result must be displayed in the same way (small values bright).
    header.PhotometricInterpretation = header.get("PhotometricInterpretation") or "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit = 15
    if header.Modality == "CT" or not all(encoding.is_identity for encoding in encodings):
        header.RescaleType = header.get("RescaleType") or ("HU" if header.Modality == "CT" else "US")
    elif "RescaleType" in header:
        del header.RescaleType
    if not (header.get("WindowCenter") is not None and header.get("WindowWidth") is not None):
        _describe_window(header, volume)


def _describe_window(header: pydicom.Dataset, volume: NDArray[Any]) -> None:
    """Set a window computed from the volume, if the source's slices have no common one."""
    for keyword in ("WindowCenterWidthExplanation", "VOILUTFunction"):
        if keyword in header:
            del header[keyword]
    centre, width = window_of(volume)
    header.WindowCenter, header.WindowWidth = decimal(centre), decimal(width)
    if width < _NARROWEST_LINEAR:
        header.VOILUTFunction = "LINEAR_EXACT"


def _describe_slice(header: pydicom.Dataset, planes: DerivedPlanes, k: int, new_uid: Callable[[str], str]) -> None:
    header.SOPInstanceUID = new_uid(f"image {k}")
    header.InstanceNumber = planes.numbers[k]
    header.ImagePositionPatient = [decimal(v) for v in planes.positions[k]]
    header.SliceLocation = decimal(planes.locations[k])


def _store(header: pydicom.Dataset, picture: NDArray[Any], encoding: Encoding) -> None:
    """Set the pixels of a slice (rows, columns) and the tags that describe how they are stored."""
    stored = encoding.stored(picture)
    header.PixelRepresentation = int(encoding.signed)
    of_pixels = "SS" if encoding.signed else "US"
    header.add_new("SmallestImagePixelValue", of_pixels, int(stored.min()))
    header.add_new("LargestImagePixelValue", of_pixels, int(stored.max()))
    if "RescaleType" in header:
        header.RescaleSlope, header.RescaleIntercept = decimal(encoding.slope), decimal(encoding.intercept)
    header.add_new("PixelData", "OW", stored.tobytes())


def _encoded(header: pydicom.Dataset) -> pydicom.Dataset:
    """Return the header in its encoded form, which pydicom copies into every file instead of encoding it again.

    Every slice names all source images, so without this hundreds of slices with hundreds of sources take minutes.
    """
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = header.SeriesInstanceUID
    buffer = BytesIO()
    _save(buffer, header)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


def _write(path: Path, header: pydicom.Dataset) -> None:
    """Write one image."""
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    with path.open("xb") as file:
        _save(file, header)


def _save(file: IO[bytes], header: pydicom.Dataset) -> None:
    """Write an image in the DICOM file format, by pydicom 3, or by pydicom 2, which MONAI Label 0.8 needs."""
    if int(pydicom.__version__.split(".")[0]) >= 3:
        pydicom.dcmwrite(file, header, enforce_file_format=True)
        return
    header.is_little_endian, header.is_implicit_VR = True, False
    pydicom.dcmwrite(file, header, write_like_original=False)
