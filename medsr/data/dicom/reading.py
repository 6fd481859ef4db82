"""Read a DICOM series from a folder, an archive or a file as a volume with its position in space.

Most readers average uneven gaps and ignore a missing slice. Here a series is either a regular stack of slices, possibly
tilted, or an error that names the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from medsr.data.acquisition import ACQUISITION
from medsr.data.dicom.acquisition import acquisition_of
from medsr.data.dicom.archives import is_archive, unpacked
from medsr.data.dicom.errors import header_errors, quiet_pydicom
from medsr.data.dicom.pixels import read_pixels
from medsr.data.dicom.planes import Plane, planes_of
from medsr.data.dicom.series import SERIES_VARIABLE, DicomSeries, choose_series, find_series, is_dicom
from medsr.data.dicom.stacking import stack_affine
from medsr.data.volume import Volume, check_affine, check_size, describe, to_float32
from medsr.geometry import ras_lps

__all__ = [
    "SERIES_VARIABLE",
    "DicomSeries",
    "choose_series",
    "find_series",
    "is_dicom",
    "read_dicom",
    "source_headers",
]


@dataclass(frozen=True)
class _Stack:
    """The slices of one series in the order of the volume, and the affine of the volume (LPS)."""

    series: DicomSeries
    planes: tuple[Plane, ...]
    lps: np.ndarray
    warnings: list[str]

    @property
    def headers(self) -> dict[Path, Any]:
        """The header of each file."""
        return dict(zip(self.series.files, self.series.headers, strict=True))

    @property
    def ordered_headers(self) -> tuple[Any, ...]:
        """The headers in the order of the volume, each file once."""
        return tuple(self.headers[file] for file in dict.fromkeys(plane.file for plane in self.planes))


def read_dicom(path: Path, series: str | None = None, max_voxels: int | None = None) -> Volume:
    """Read one DICOM series as a volume.

    The array axes are columns, rows and slices (sorted along the slice normal), as in ITK. A tilted gantry gives a
    sheared affine, exactly as acquired, and a warning.

    The values are the stored values times RescaleSlope plus RescaleIntercept of each slice. MONOCHROME1 (small values
    are displayed bright) does not change them; ``meta["photometric"]`` keeps it for results that are displayed.

    Args:
        path: A folder with the series (subfolders included), a .zip of one, or one file: an enhanced multi-frame image
            is a volume, and a classic image is one slice.
        series: The SeriesInstanceUID, which is needed if there are several series.
        max_voxels: See `read_volume`.

    Raises:
        InputError: If the files do not form one regular stack of slices, or cannot be decoded.
    """
    with _opened(path) as folder:
        stack = _find_stack(folder, series)
        first = stack.planes[0]
        check_size((first.size[1], first.size[0], len(stack.planes)), path, max_voxels)
        if path.is_file() and first.frame is None and len(stack.planes) == 1 and folder == path:
            stack.warnings.append("a single DICOM file is read as one slice; give its folder to read the whole series")
        affine = check_affine(ras_lps(stack.lps), path, "DICOM headers")
        data = to_float32(read_pixels(stack.planes, stack.headers, stack.warnings), path, stack.warnings)
        if first.photometric == "MONOCHROME1":
            stack.warnings.append(
                "MONOCHROME1: the values are kept as stored, although small ones are meant to be displayed bright"
            )
        with header_errors(first.file):
            dtype = _stored_dtype(stack.headers[first.file])
        meta = describe(
            filename=str(path),
            format="dicom",
            original_dtype=dtype,
            series_uid=stack.series.uid,
            series_description=stack.series.description,
            modality=stack.series.modality,
            photometric=first.photometric,
            warnings=stack.warnings,
            **{ACQUISITION: acquisition_of(stack.ordered_headers, data.shape, affine)},
        )
    return Volume(data, affine, meta, stack.ordered_headers)


def source_headers(path: str | os.PathLike[str], series: str | None = None) -> list[pydicom.Dataset]:
    """Return the headers of the images that `read_dicom` makes a volume from, without their pixels.

    Args:
        path: The folder, .zip or file, as for `read_dicom`.
        series: The SeriesInstanceUID, which is needed if there are several series.

    Returns:
        One data set per slice, in the order of the volume's last axis; for an enhanced multi-frame image its only data
        set.

    Raises:
        InputError: If the headers do not describe one regular stack of slices.
    """
    with _opened(Path(path).expanduser()) as folder:
        return list(_find_stack(folder, series).ordered_headers)


@contextmanager
def _opened(path: Path) -> Iterator[Path]:
    """Yield the path to read: the folder of an unpacked archive, or the path itself."""
    if is_archive(path):
        with unpacked(path) as folder:
            yield folder
    else:
        yield path


def _find_stack(path: Path, series: str | None) -> _Stack:
    chosen = choose_series(path, series)
    warnings: list[str] = []
    with quiet_pydicom():
        files = zip(chosen.files, chosen.headers, strict=True)
        planes = [plane for file, header in files for plane in planes_of(file, header)]
    with np.errstate(all="ignore"):  # `check_affine` finds overflows
        order, lps = stack_affine(path, planes, warnings)
    return _Stack(chosen, tuple(planes[k] for k in order), lps, warnings)


def _stored_dtype(header: Any) -> str:
    if "BitsStored" not in header:
        return "float"
    bits = next((bits for bits in (8, 16) if header.BitsStored <= bits), 32)
    return f"{'int' if header.get('PixelRepresentation') else 'uint'}{bits}"
