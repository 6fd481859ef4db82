"""Compute the positions of the slices of a derived series from its affine (PS3.3 C.7.6.2, Image Plane Module)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.valuerep import DSfloat, format_number_as_ds

from medsr.data.dicom.planes import Plane, planes_of
from medsr.errors import InputError, OutputError
from medsr.geometry import Scale, SlicePlaces, ras_lps, scaled_affine

_COSINES = 1e-4  # the largest cosine between rows and columns that the standard accepts as perpendicular
_SAME_DIRECTION = 1e-7  # the difference up to which the source's own cosines are kept
_SAME_PLACE = 0.1  # the part of a voxel by which the source's slices may be off the volume's LR grid


@dataclass(frozen=True)
class DerivedPlanes:
    """The tags of the slices of a volume; lists are in the order of its last axis.

    Attributes:
        orientation: ImageOrientationPatient.
        spacing: PixelSpacing, mm between rows and between columns.
        thickness: SliceThickness, mm.
        between: SpacingBetweenSlices, mm.
        positions: ImagePositionPatient, (slices, 3), LPS mm.
        locations: SliceLocation, mm.
        numbers: InstanceNumber, from 1, in the same direction as in the source.
        source: The slices of the source in the same order, each with its data set.
    """

    orientation: list[DSfloat]
    spacing: list[DSfloat]
    thickness: DSfloat
    between: DSfloat
    positions: NDArray[np.float64]
    locations: NDArray[np.float64]
    numbers: list[int]
    source: list[tuple[Plane, Any]]


def source_planes(headers: Sequence[Any]) -> list[tuple[Plane, Any]]:
    """Return the slices of the source, each with its data set, in the given order.

    Raises:
        InputError: If an image has no position in space.
    """
    return [
        (plane, header)
        for header in headers
        for plane in planes_of(Path(getattr(header, "filename", None) or "the source"), header)
    ]


def derived_planes(
    affine: NDArray[np.float64], shape: Sequence[int], scale: Scale, source: Sequence[tuple[Plane, Any]]
) -> DerivedPlanes:
    """Compute the tags that state the position of every slice (X, Y) of a volume.

    A tilted gantry (a last axis that is not perpendicular to the slices) needs no special treatment, because each slice
    has its exact position.

    Args:
        affine: The affine (4, 4) from voxel index to world coordinates, RAS mm.
        shape: The shape (X, Y, Z): columns, rows, slices.
        scale: The scale of the volume over its source.
        source: The slices of the source and their data sets, in any order.

    Raises:
        OutputError: If rows and columns are not perpendicular, which DICOM cannot express.
        InputError: If the slices of the source are not on the volume's LR grid.
    """
    places = SlicePlaces.of(ras_lps(affine))
    cosine = places.row @ places.column
    if abs(cosine) > _COSINES:
        angle = np.degrees(np.arccos(cosine))
        raise OutputError(
            f"expected perpendicular rows and columns to write DICOM slices, got {angle:.4g} degrees between them; "
            "write .nii.gz instead"
        )
    ordered = sorted(source, key=lambda pair: float(np.array(pair[0].position) @ places.normal))
    _check_place(affine, scale, ordered)
    positions = places.positions(shape[2])
    return DerivedPlanes(
        _orientation(ordered[0][0], places.row, places.column),
        [decimal(places.spacing[1]), decimal(places.spacing[0])],
        decimal(_thickness(ordered[0], places.distance, scale)),
        decimal(places.distance),
        positions,
        _locations(ordered, positions @ places.normal, places.normal),
        _numbers(ordered, shape[2]),
        ordered,
    )


def decimal(value: float) -> DSfloat:
    """Return a number as a decimal string of 16 characters, rounded to 13 digits: 0.30000000000000004 becomes 0.3."""
    rounded = float(f"{value:.13g}") + 0.0  # no minus zero
    return DSfloat(format_number_as_ds(rounded))


def _check_place(affine: NDArray[np.float64], scale: Scale, ordered: Sequence[tuple[Plane, Any]]) -> None:
    """Raise InputError unless the first and the last slice of the source are on the volume's LR grid."""
    lr = SlicePlaces.of(ras_lps(scaled_affine(affine, tuple(1 / s for s in scale))))
    for index in (0, len(ordered) - 1):
        off = np.linalg.norm(lr.position(index) - ordered[index][0].position)
        if off > _SAME_PLACE * min(lr.spacing) + 0.02:
            raise InputError(
                f"{ordered[index][0].where}: expected slice {index + 1} of the image that was enlarged, got one "
                f"{off:.3g} mm away; give the headers of the series that was read"
            )


def _orientation(first: Plane, row: NDArray[np.float64], column: NDArray[np.float64]) -> list[DSfloat]:
    """Return the direction cosines, in the source's own digits if they are equal; viewers compare the digits."""
    given = np.array(first.orientation).reshape(2, 3)
    given = given / np.linalg.norm(given, axis=1, keepdims=True)
    same = np.abs(given - [row, column]).max() <= _SAME_DIRECTION
    values = first.orientation if same else (*row, *column)
    return [decimal(v) for v in values]


def _thickness(first: tuple[Plane, Any], between: float, scale: Scale) -> float:
    """Return the source's thickness divided by the scale, which keeps the share of gaps, else the slice distance."""
    plane, header = first
    groups = [header]
    if plane.frame is not None:
        frames, shared = header.get("PerFrameFunctionalGroupsSequence"), header.get("SharedFunctionalGroupsSequence")
        items = [frames[plane.frame] if frames else None, shared[0] if shared else None]
        groups = [i.PixelMeasuresSequence[0] for i in items if i is not None and i.get("PixelMeasuresSequence")]
    for group in groups:
        if group.get("SliceThickness"):
            return float(group.SliceThickness) / float(scale[2])
    return between


def _locations(
    ordered: Sequence[tuple[Plane, Any]], heights: NDArray[np.float64], normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return slice locations on the source's scale (such as a table position), else heights along the normal."""
    ends = [(ordered[k][0].position @ normal, ordered[k][1].get("SliceLocation")) for k in (0, -1)]
    (low, first), (high, last) = ends
    if first is None or last is None or ordered[0][0].frame is not None:
        return heights
    slope = (float(last) - float(first)) / (high - low) if high > low else 1.0
    return float(first) + (heights - low) * slope


def _numbers(ordered: Sequence[tuple[Plane, Any]], count: int) -> list[int]:
    """Return instance numbers in the direction of the source's, so that both series scroll the same way."""
    first, last = (
        int(header.get("InstanceNumber") or 0) if plane.frame is None else plane.frame
        for plane, header in (ordered[0], ordered[-1])
    )
    numbers = list(range(1, count + 1))
    return numbers if first <= last else numbers[::-1]
