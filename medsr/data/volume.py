"""The volume that every reader returns, and the checks that all formats share."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medsr import geometry
from medsr.errors import GridError, InputError

CHANNEL_FILES = "channel_files"  # key of `meta`: the path of each channel, if an image has several files

# Two affines describe the same grid if they place every corner of a volume within this distance.
SAME_GRID_MM = 1e-3

# Above this magnitude float32 cannot hold every integer.
FLOAT32_EXACT_INTEGER = 2**24

# The limit protects against a header of a few bytes that states a huge size. It is 4 GiB in float32.
MAX_VOXELS = 2**30
MAX_VOXELS_VARIABLE = "MEDSR_MAX_VOXELS"  # the environment variable that replaces the limit


@dataclass(frozen=True)
class Volume:
    """An image in memory.

    Attributes:
        data: The intensities, float32 (X, Y, Z), in the units of the file (HU, scanner units).
        affine: The affine (4, 4), float64, from voxel index to world coordinates in RAS+ mm.
        meta: The facts about the file. It always has ``filename``, ``format`` ("nifti", "mgh", "analyze", "nrrd",
            "metaimage", "dicom", "picture"), ``original_dtype``, ``sform_code``, ``qform_code`` (0 if the format has
            none, or if the qform describes another grid than ``affine``), ``units`` (as the header names them, "mm"),
            ``series_uid`` (empty unless DICOM) and ``warnings`` (a list of one-line strings). DICOM, and NIfTI with a
            sidecar, also has ``acquisition``, an `Acquisition`.
        headers: The data sets of a DICOM series without pixels, in the order of the volume; empty for other formats.
    """

    data: np.ndarray
    affine: np.ndarray
    meta: dict[str, Any] = field(default_factory=dict)
    headers: tuple[Any, ...] = ()


def describe(**values: Any) -> dict[str, Any]:
    """Return the ``meta`` dictionary of a ``Volume`` with the keys that every format has."""
    meta: dict[str, Any] = {"sform_code": 0, "qform_code": 0, "units": "mm", "series_uid": "", "warnings": []}
    meta.update(values)
    return meta


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return an exception's message on one line, without the C++ file and line that ITK puts before it."""
    text = str(error) or type(error).__name__
    for marker in ("ITK ERROR:", "sitk::ERROR:"):
        if marker in text:
            text = text.rsplit(marker, 1)[1]
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= limit else text[: limit - 3] + "..."


def check_affine(affine: np.ndarray, path: Path | str, origin: str) -> np.ndarray:
    """Return an affine from a header as a float64 array after `medsr.geometry.check_affine`.

    Args:
        affine: The affine (4, 4) from voxel index to world coordinates.
        path: The file, for the message.
        origin: The header field that the affine came from, for the message.

    Raises:
        InputError: If the affine is degenerate.
    """
    try:
        return geometry.check_affine(affine, origin)
    except GridError as error:
        raise InputError(f"{path}: {error}") from error


def check_spacing(spacing: Any, path: Path | str, origin: str) -> tuple[float, ...]:
    """Return the voxel sizes of a header, in mm, after `medsr.geometry.check_spacing`.

    Args:
        spacing: The voxel sizes, mm.
        path: The file, for the message.
        origin: The header field that they came from, for the message.

    Raises:
        InputError: If a value is zero, negative, NaN or infinite.
    """
    try:
        return geometry.check_spacing(spacing, origin)
    except GridError as error:
        raise InputError(f"{path}: {error}") from error


def check_dtype(dtype: np.dtype, path: Path | str) -> None:
    """Refuse colour and complex voxels.

    Raises:
        InputError: If a voxel is not one real number.
    """
    if dtype.fields is not None:
        raise InputError(
            f"{path}: expected one number per voxel, got colour ({'/'.join(dtype.fields)}) voxels; "
            "convert it to grey values first"
        )
    if dtype.kind not in "iufb":
        what = "complex" if dtype.kind == "c" else str(dtype)
        raise InputError(
            f"{path}: expected real voxel values, got {what} ones; save the magnitude (or a real part) first"
        )


def spatial_shape(shape: tuple[int, ...], path: Path | str) -> tuple[int, int, int]:
    """Return the 3D shape of an array, which may be 2D (one slice) or have trailing axes of size 1.

    Raises:
        InputError: If an axis has no voxels, or the array is not one 3D volume.
    """
    shape = tuple(int(n) for n in shape)
    if not shape or min(shape) <= 0:
        raise InputError(
            f"{path}: expected an image with voxels, got size {shape}; the image is empty, export it again"
        )
    head, tail = shape[:3], shape[3:]
    if any(n != 1 for n in tail):
        raise InputError(
            f"{path}: expected a 3D image, got {len(shape)}D of size {shape}; "
            "split it and give one 3D volume (one channel, one time point)"
        )
    if len(head) < 2:
        raise InputError(f"{path}: expected a 3D image, got 1D of size {shape}; name an image file")
    return (head[0], head[1], head[2] if len(head) == 3 else 1)


def check_size(shape: Sequence[int], path: Path | str, max_voxels: int | None = None) -> None:
    """Refuse an image with more voxels than allowed before memory is reserved for them.

    Args:
        shape: The shape that the header states.
        path: The file, for the message.
        max_voxels: The limit. None means the environment variable ``MEDSR_MAX_VOXELS``, or 2^30 without it.

    Raises:
        InputError: If the image is larger, or the variable is not a whole number.
    """
    if max_voxels is None:
        stated = os.environ.get(MAX_VOXELS_VARIABLE, str(MAX_VOXELS))
        if not stated.strip().isdecimal():
            raise InputError(f"expected a whole number of voxels in {MAX_VOXELS_VARIABLE}, got {stated!r}; correct it")
        max_voxels = int(stated)
    voxels = math.prod(int(n) for n in shape)
    if voxels > max_voxels:
        raise InputError(
            f"{path}: expected at most {max_voxels} voxels, got {voxels} ({' x '.join(str(n) for n in shape)}) by the "
            f"header; crop the image, or raise the limit by {MAX_VOXELS_VARIABLE} (max_voxels in Python)"
        )


def to_float32(array: np.ndarray, path: Path | str, warnings: list[str]) -> np.ndarray:
    """Return intensities as a contiguous float32 array after checking that all of them are finite.

    Args:
        array: The intensities (X, Y, Z) in any real dtype.
        path: The file, for messages.
        warnings: A list of warnings. One is appended if float32 cannot hold the integers exactly.

    Raises:
        InputError: If there are NaN or infinite values, or values beyond the float32 range.
    """
    if array.dtype.kind == "f":
        _check_finite(array, path)
    elif array.dtype.itemsize >= 4 and array.size:
        extreme = max(abs(int(array.min())), abs(int(array.max())))
        if extreme > FLOAT32_EXACT_INTEGER:
            warnings.append(f"intensities reach {extreme}: integers above 2^24 are rounded in float32")
    with np.errstate(over="ignore"):
        # "O" copies a memory map, so that the file may change or vanish afterwards.
        data = np.require(array, np.float32, ["C", "W", "O"])
    if array.dtype.kind == "f" and array.dtype.itemsize > 4 and not np.isfinite(data).all():
        raise InputError(
            f"{path}: expected intensities within the float32 range, got {np.abs(array).max():g}; rescale the image"
        )
    return data


def _check_finite(array: np.ndarray, path: Path | str) -> None:
    # A sum needs one pass and no temporary array. It is finite unless a value is not (or the sum itself overflows).
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum(dtype=np.float64)):
            return
    bad = ~np.isfinite(array)
    count = int(bad.sum())
    if not count:
        return
    nans = int(np.isnan(array).sum())
    first = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
    raise InputError(
        f"{path}: expected finite intensities, got {count} of {array.size} voxels that are not ({nans} NaN, "
        f"{count - nans} infinite), the first at index {first}; replace them (numpy.nan_to_num) and save again"
    )
