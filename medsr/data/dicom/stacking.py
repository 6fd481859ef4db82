"""Compute the affine of a stack of DICOM slices, or say why it is not a volume (PS3.3 C.7.6.2, Image Plane Module)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medsr.data.dicom.planes import DISTINCTIONS, Plane
from medsr.data.volume import check_spacing
from medsr.errors import InputError
from medsr.geometry import affine_of_axes, slice_normal

# Positions are decimal text, often with two decimals, so rounding moves a slice by up to this many mm.
_ROUNDING_MM = 0.02
_UNEVEN = 0.01  # the part of the usual distance by which a distance may differ from it
_COSINES = 1e-4  # the largest difference of direction cosines in one series
_VOLUMES = ("StackID", "TemporalPositionIndex")  # images that differ in these are several volumes by definition


def stack_affine(path: Path, planes: Sequence[Plane], warnings: list[str]) -> tuple[list[int], np.ndarray]:
    """Sort the slices of a series and compute its affine.

    A slice may be off its position on the regular grid by 1 % of the slice distance or 0.02 mm (the larger of them, but
    never more than 10 % of the distance). A sideways drift of the whole stack within 0.02 mm is treated as rounding; a
    larger one is a tilted gantry and becomes a shear of the affine.

    Args:
        path: The folder, for messages.
        planes: The slices in any order.
        warnings: A list of warnings. One is appended if the gantry is tilted.

    Returns:
        The order of the slices along their normal, and the affine (4, 4) from (column, row, slice) index to mm in the
        LPS coordinates of DICOM.

    Raises:
        InputError: If the slices belong to several volumes, differ in size, spacing or direction, have the same
            position, or are unevenly spaced.
    """
    _check_one_volume(path, planes)
    _check_same_plane(path, planes)
    row, column, normal = _axes(planes[0])
    down, across = check_spacing(planes[0].spacing, planes[0].where, "header (PixelSpacing)")
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    heights = positions @ normal
    order = [int(k) for k in np.argsort(heights, kind="stable")]
    if len(order) == 1:
        step = normal * _single_slice_distance(planes[0])
    else:
        step = _slice_step(path, [planes[k] for k in order], positions[order], normal, warnings)
    return order, affine_of_axes([row * across, column * down, step], positions[order[0]])


def _check_one_volume(path: Path, planes: Sequence[Plane]) -> None:
    """Raise InputError if the tags state several volumes, all images are localizers, or an image is there twice."""
    localizers = sum("LOCALIZER" in plane.kind for plane in planes)
    if localizers == len(planes):
        raise InputError(
            f"{path}: expected a volume, got {localizers} localizer image{'s' if localizers > 1 else ''}; "
            "give the series that was planned on it"
        )
    for tag in _VOLUMES:
        values = _values(planes, tag)
        if len(values) > 1:
            raise InputError(
                f"{path}: expected one volume, got {len(values)} that differ in {tag} ({_listed(values)}); "
                "split the series by it and give one volume"
            )
    count = Counter((plane.instance, plane.frame) for plane in planes if plane.instance)
    for plane in planes:
        if count[plane.instance, plane.frame] > 1:
            raise InputError(
                f"{path}: expected every image once, got {count[plane.instance, plane.frame]} copies of {plane.name} "
                "(one SOPInstanceUID); remove the copies"
            )


def _values(planes: Sequence[Plane], tag: str) -> list[str]:
    """Return the values of a tag in `DISTINCTIONS`, in the order of their appearance."""
    return list(dict.fromkeys(plane.labels.get(tag, "none") for plane in planes))


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values[:6]) + (", ..." if len(values) > 6 else "")


def _check_same_plane(path: Path, planes: Sequence[Plane]) -> None:
    first = planes[0]
    localizers = sum("LOCALIZER" in plane.kind for plane in planes)
    hint = f" ({localizers} of {len(planes)} images are localizers: remove them)" if localizers else ""
    for plane in planes:
        if np.abs(np.subtract(plane.orientation, first.orientation)).max() > _COSINES:
            raise InputError(
                f"{path}: expected parallel slices, got different orientations in {first.name} and "
                f"{plane.name}{hint}; keep one stack in the folder"
            )
    for plane in planes:
        if plane.size != first.size:
            raise InputError(
                f"{path}: expected slices of one size, got {first.size[0]}x{first.size[1]} in {first.name} "
                f"and {plane.size[0]}x{plane.size[1]} in {plane.name}{hint}; keep one stack in the folder"
            )
        if not np.allclose(plane.spacing, first.spacing, rtol=1e-4, atol=0):
            raise InputError(
                f"{path}: expected one pixel spacing, got {list(first.spacing)} mm in {first.name} "
                f"and {list(plane.spacing)} mm in {plane.name}{hint}; keep one stack in the folder"
            )
        if plane.photometric != first.photometric:
            raise InputError(
                f"{path}: expected one photometric interpretation, got {first.photometric} in {first.name} and "
                f"{plane.photometric} in {plane.name}; keep one stack in the folder"
            )


def _axes(plane: Plane) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the unit vectors along a row, along a column, and normal to the slice."""
    row, column = np.array(plane.orientation).reshape(2, 3)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(row @ column)) > 1e-3:
        raise InputError(
            f"{plane.where}: expected two perpendicular unit vectors in ImageOrientationPatient, "
            f"got {list(plane.orientation)}; repair the header"
        )
    row, column = row / lengths[0], column / lengths[1]
    return row, column, slice_normal(row, column)


def _single_slice_distance(plane: Plane) -> float:
    """Return the extent in mm of a slice without neighbours."""
    if plane.extent is None:
        raise InputError(
            f"{plane.where}: expected SpacingBetweenSlices or SliceThickness of the only slice, got neither; "
            "give a series of several slices"
        )
    value, tag = plane.extent
    return check_spacing([value], plane.where, f"header ({tag})")[0]


def _slice_step(
    path: Path, planes: Sequence[Plane], positions: np.ndarray, normal: np.ndarray, warnings: list[str]
) -> np.ndarray:
    """Return the vector from one slice to the next; the positions are sorted along the normal."""
    heights = positions @ normal
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    tolerance = max(_UNEVEN * usual, min(_ROUNDING_MM, 0.1 * usual))
    same = np.flatnonzero(gaps <= max(0.05 * usual, 1e-4))
    if len(same):
        raise InputError(_shared_message(path, planes, heights, [int(k) for k in same]))
    uneven = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    if len(uneven):
        raise InputError(_uneven_message(path, planes, heights, gaps, usual, uneven))
    step = (positions[-1] - positions[0]) / len(gaps)
    strays = np.linalg.norm(positions - positions[0] - np.arange(len(planes))[:, None] * step, axis=1)
    if strays.max() > tolerance:
        k = int(strays.argmax())
        raise InputError(
            f"{path}: expected slices stacked evenly along a line, got {planes[k].name} at {heights[k]:.3f} "
            f"mm off it by {strays[k]:.3g} mm; resample the series or convert it by a tool that knows its "
            "source"
        )
    sideways = step - (step @ normal) * normal
    if np.linalg.norm(sideways) * len(gaps) <= _ROUNDING_MM:
        return step - sideways
    angle = np.degrees(np.arctan2(np.linalg.norm(sideways), step @ normal))
    warnings.append(
        f"the slices are stacked {angle:.3g} degrees off their normal (gantry tilt): the affine has a shear"
    )
    return step


def _shared_message(path: Path, planes: Sequence[Plane], heights: np.ndarray, same: Sequence[int]) -> str:
    """Return a message that names two slices at one position and the tags in which they differ."""
    k = same[0]
    pair = planes[k], planes[k + 1]
    differing = [tag for tag in DISTINCTIONS if pair[0].labels.get(tag) != pair[1].labels.get(tag)]
    reasons = [f"{tag} ({_listed(_values(planes, tag))})" for tag in differing[:3]]
    why = f"they differ in {', '.join(reasons)}" if reasons else "a time series, several echoes, or copies"
    return (
        f"{path}: expected one image per slice position, got {len(same)} that share one with another, "
        f"e.g. {pair[0].name} and {pair[1].name} at {heights[k]:.3f} mm ({why}); keep one image per position"
    )


def _uneven_message(
    path: Path, planes: Sequence[Plane], heights: np.ndarray, gaps: np.ndarray, usual: float, uneven: np.ndarray
) -> str:
    """Return a message that says which slices are missing, or that the distances vary."""
    places = [
        f"{gaps[k]:.4g} mm between {heights[k]:.3f} mm ({planes[k].name}) and {heights[k + 1]:.3f} mm "
        f"({planes[k + 1].name})"
        for k in uneven[:3]
    ]
    listed = ", ".join(places) + (f" and {len(uneven) - 3} more" if len(uneven) > 3 else "")
    multiples = gaps[uneven] / usual
    if (multiples > 1.5).all() and (np.abs(multiples - np.rint(multiples)) < 0.05).all():
        missing = int((np.rint(multiples) - 1).sum())
        verdict = f"{missing} slice{'s are' if missing > 1 else ' is'} missing; complete the series"
    else:
        verdict = "the slices are unevenly spaced; resample the series first"
    return f"{path}: expected slices {usual:.4g} mm apart as most are, got {listed}: {verdict}"
