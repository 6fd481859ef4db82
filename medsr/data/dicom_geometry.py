"""Where a stack of DICOM slices lies, or why it is not a volume (PS3.3 C.7.6.2, Image Plane Module)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medsr.data.volume import check_spacing
from medsr.errors import InputError

# Positions are written as decimal text, often with two decimals, which moves a slice by up to this many mm.
_ROUNDING_MM = 0.02
_UNEVEN = 0.01  # a distance may differ from the others by this part of itself
_COSINES = 1e-4  # direction cosines of one series agree within this


def stack_affine(
    path: Path, files: Sequence[Path], headers: Sequence[Any], warnings: list[str]
) -> tuple[list[int], np.ndarray]:
    """Orders the slices of a series and computes its affine.

    A slice lies off its place on the regular grid by at most 1 % of the slice distance or 0.02 mm (the
    larger, but never more than 10 % of the distance). A sideways drift of the whole stack within 0.02 mm is
    rounding; a larger one is a tilted gantry and goes into the affine as a shear.

    Args:
        path: the folder, for messages.
        files: the images, any order.
        headers: their data sets.
        warnings: a note is appended when the gantry is tilted.

    Returns:
        The order of the files along the slice normal, and the (4, 4) affine in DICOM's LPS coordinates from
        (column, row, slice) index to mm.

    Raises:
        InputError: slices that differ in size, spacing or direction, lie at one position, or are unevenly
            spaced.
    """
    for file, header in zip(files, headers, strict=True):
        _check_plane(file, header)
    _check_same_plane(path, files, headers)
    row, column, normal = _axes(files[0], headers[0])
    down, across = check_spacing(headers[0].PixelSpacing, files[0], "header (PixelSpacing)")
    positions = np.array([h.ImagePositionPatient for h in headers], dtype=np.float64)
    heights = positions @ normal
    order = [int(k) for k in np.argsort(heights, kind="stable")]
    if len(order) == 1:
        step = normal * _single_slice_distance(files[0], headers[0])
    else:
        step = _slice_step(path, [files[k] for k in order], positions[order], normal, warnings)
    affine = np.eye(4)
    affine[:3, 0] = row * across
    affine[:3, 1] = column * down
    affine[:3, 2] = step
    affine[:3, 3] = positions[order[0]]
    return order, affine


def _check_plane(file: Path, header: Any) -> None:
    """Raises InputError when one of the tags that place an image in space is missing or not a number."""
    for tag, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        value = header.get(tag)
        try:
            numbers = [float(v) for v in value or ()]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise InputError(
                f"{file}: expected {count} numbers in {tag}, got {'none' if value is None else value}; "
                "without them the image has no place in space, so convert it by a tool that knows its source"
            )


def _check_same_plane(path: Path, files: Sequence[Path], headers: Sequence[Any]) -> None:
    first = headers[0]
    localizers = sum("LOCALIZER" in (h.get("ImageType") or []) for h in headers)
    hint = f" ({localizers} of {len(headers)} images are localizers: remove them)" if localizers else ""
    for file, header in zip(files, headers, strict=True):
        cosines = np.subtract(header.ImageOrientationPatient, first.ImageOrientationPatient, dtype=np.float64)
        if np.abs(cosines).max() > _COSINES:
            raise InputError(
                f"{path}: expected parallel slices, got different orientations in {files[0].name} and "
                f"{file.name}{hint}; keep one stack in the folder"
            )
    for file, header in zip(files, headers, strict=True):
        if (header.Rows, header.Columns) != (first.Rows, first.Columns):
            raise InputError(
                f"{path}: expected slices of one size, got {first.Rows}x{first.Columns} in {files[0].name} "
                f"and {header.Rows}x{header.Columns} in {file.name}{hint}; keep one stack in the folder"
            )
        if not np.allclose(_floats(header.PixelSpacing), _floats(first.PixelSpacing), rtol=1e-4, atol=0):
            raise InputError(
                f"{path}: expected one pixel spacing, got {list(first.PixelSpacing)} mm in {files[0].name} "
                f"and {list(header.PixelSpacing)} mm in {file.name}{hint}; keep one stack in the folder"
            )


def _axes(file: Path, header: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the unit vectors along a row, along a column, and normal to the slice."""
    row, column = np.array(_floats(header.ImageOrientationPatient)).reshape(2, 3)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(row @ column)) > 1e-3:
        raise InputError(
            f"{file}: expected two perpendicular unit vectors in ImageOrientationPatient, "
            f"got {list(header.ImageOrientationPatient)}; repair the header"
        )
    row, column = row / lengths[0], column / lengths[1]
    normal = np.cross(row, column)
    return row, column, normal / np.linalg.norm(normal)


def _single_slice_distance(file: Path, header: Any) -> float:
    """Returns the extent in mm of a slice that has no neighbour."""
    for tag in ("SpacingBetweenSlices", "SliceThickness"):
        if header.get(tag):
            return check_spacing([header.get(tag)], file, f"header ({tag})")[0]
    raise InputError(
        f"{file}: expected SpacingBetweenSlices or SliceThickness of the only slice, got neither; "
        "give a series of several slices"
    )


def _slice_step(
    path: Path, files: Sequence[Path], positions: np.ndarray, normal: np.ndarray, warnings: list[str]
) -> np.ndarray:
    """Returns the vector from one slice to the next; positions are sorted along the normal."""
    heights = positions @ normal
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    tolerance = max(_UNEVEN * usual, min(_ROUNDING_MM, 0.1 * usual))
    same = np.flatnonzero(gaps <= max(0.05 * usual, 1e-4))
    if len(same):
        k = int(same[0])
        raise InputError(
            f"{path}: expected one image per slice position, got {len(same)} that share one with another, "
            f"e.g. {files[k].name} and {files[k + 1].name} at {heights[k]:.3f} mm (a time series, several "
            "echoes, or copies); keep one image per position"
        )
    uneven = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    if len(uneven):
        raise InputError(_uneven_message(path, files, heights, gaps, usual, uneven))
    step = (positions[-1] - positions[0]) / len(gaps)
    strays = np.linalg.norm(positions - positions[0] - np.arange(len(files))[:, None] * step, axis=1)
    if strays.max() > tolerance:
        k = int(strays.argmax())
        raise InputError(
            f"{path}: expected slices stacked evenly along a line, got {files[k].name} at {heights[k]:.3f} "
            f"mm off it by {strays[k]:.3g} mm; resample the series or convert it by a tool that knows its "
            "source"
        )
    sideways = step - (step @ normal) * normal
    if np.linalg.norm(sideways) * len(gaps) <= _ROUNDING_MM:
        return step - sideways
    angle = np.degrees(np.arctan2(np.linalg.norm(sideways), step @ normal))
    warnings.append(f"the slices are stacked {angle:.3g} degrees off their normal (gantry tilt): kept as a shear")
    return step


def _uneven_message(
    path: Path, files: Sequence[Path], heights: np.ndarray, gaps: np.ndarray, usual: float, uneven: np.ndarray
) -> str:
    """Says which slices are missing, or that the distances vary."""
    places = [
        f"{gaps[k]:.4g} mm between {heights[k]:.3f} mm ({files[k].name}) and {heights[k + 1]:.3f} mm "
        f"({files[k + 1].name})"
        for k in uneven[:3]
    ]
    listed = ", ".join(places) + (f" and {len(uneven) - 3} more" if len(uneven) > 3 else "")
    multiples = gaps[uneven] / usual
    if (multiples > 1.5).all() and (np.abs(multiples - np.rint(multiples)) < 0.05).all():
        missing = int((np.rint(multiples) - 1).sum())
        verdict = f"{missing} slice{'s are' if missing > 1 else ' is'} missing; complete the series"
    else:
        verdict = "the slices are unevenly spaced; resample the series before"
    return f"{path}: expected slices {usual:.4g} mm apart as most are, got {listed}: {verdict}"


def _floats(values: Sequence[Any]) -> list[float]:
    return [float(v) for v in values]
