"""Read from DICOM headers how a series was acquired, as a `medsr.data.acquisition.Acquisition`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from medsr.data.acquisition import Acquisition, on_grid
from medsr.data.dicom.errors import quiet_pydicom
from medsr.geometry import spacing_of

# The places in an enhanced image of tags that a classic one has at the top level (PS3.3 C.7.6.16, C.8.13.5, C.8.15.3).
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_PLACES = (
    "PixelMeasuresSequence",
    "MRFOVGeometrySequence",
    "CTReconstructionSequence",
)
_AXES = {"ROW": 0, "COL": 1, "COLUMN": 1}  # direction of the phase encoding -> array axis (columns, rows, slices)
_DISAGREE = 0.01  # the part by which two statements of one length may differ


def acquisition_of(headers: Sequence[Any], shape: tuple[int, ...], affine: Any) -> Acquisition:
    """Return how a series was acquired.

    Args:
        headers: The data sets of the series without pixels; no file is read again.
        shape: The size of the volume (columns, rows, slices).
        affine: The affine (4, 4) from voxel index to world coordinates, mm.
    """
    notes: list[str] = []
    with quiet_pydicom():
        stated = {key: _stated(headers, key, notes) for key in ("SliceThickness", "SpacingBetweenSlices")}
        thickness, distance = (_number(value) for value in stated.values())
        samples, phase = _samples(headers, shape, spacing_of(affine), notes)
        kernel = _stated(headers, "ConvolutionKernel", notes)
        facts = {
            "source": "header",
            "modality": str(_stated(headers, "Modality", notes) or ""),
            "type": str(_stated(headers, "MRAcquisitionType", notes) or "").strip().upper(),
            "through_plane": 2,
            "slice_thickness": thickness,
            "slice_spacing": distance,
            "samples": samples,
            "phase_axis": phase,
            "kernel": "\\".join(kernel) if isinstance(kernel, list) else kernel,
            "notes": notes,
        }
    return on_grid(facts, shape, affine)


def _samples(
    headers: Sequence[Any], shape: tuple[int, ...], spacing: tuple[float, ...], notes: list[str]
) -> tuple[Any, int | None]:
    """Return the samples over the extent of the image along each axis, and the axis of the phase encoding.

    AcquisitionMatrix is (frequency rows, frequency columns, phase rows, phase columns), two of which are 0.
    InPlanePhaseEncodingDirection states which axis is which. The phase lines cover the acquired field of view, which is
    PercentPhaseFieldOfView of that along the frequency; an image that was padded to a square covers more.
    PercentSampling is not used, because vendors differ in whether they count its lines, and completed k-space is not
    blurred.
    """
    matrix = _stated(headers, "AcquisitionMatrix", notes)
    numbers = [_number(value) for value in matrix] if isinstance(matrix, list) and len(matrix) == 4 else [None] * 4
    frequency, lines = numbers[0] or numbers[1], numbers[2] or numbers[3]
    frequency = frequency or _number(_stated(headers, "MRAcquisitionFrequencyEncodingSteps", notes))
    lines = lines or _number(_stated(headers, "MRAcquisitionPhaseEncodingStepsInPlane", notes))
    through = _number(_stated(headers, "MRAcquisitionPhaseEncodingStepsOutOfPlane", notes))
    direction = str(_stated(headers, "InPlanePhaseEncodingDirection", notes) or "").strip().upper()
    phase = _AXES.get(direction)
    if not frequency or not lines:
        if frequency or lines:
            notes.append("AcquisitionMatrix states only one of its two numbers")
        return None, phase
    if phase is None and frequency != lines:
        notes.append(
            "InPlanePhaseEncodingDirection is missing: the larger number of AcquisitionMatrix is assumed for both axes"
        )
        frequency = lines = max(frequency, lines)
    axis = 1 if phase is None else phase
    percent = _number(_stated(headers, "PercentPhaseFieldOfView", notes))
    if percent and 0 < percent < 100:
        shown = shape[axis] * spacing[axis] / (shape[1 - axis] * spacing[1 - axis])
        lines *= max(1.0, shown / (percent / 100)) if phase is not None else 1.0
    samples: list[float | None] = [None, None, None]
    samples[axis], samples[1 - axis] = lines, frequency
    if through and str(_stated(headers, "MRAcquisitionType", notes) or "").upper() == "3D":
        samples[2] = through
    return tuple(samples), phase


def _stated(headers: Sequence[Any], keyword: str, notes: list[str]) -> Any:
    """Return the value of a tag on which all headers agree, None if it is missing, damaged or differs (with a note)."""
    values: list[Any] = []
    for value in _values(headers, keyword):
        if not any(_same(value, other) for other in values):
            values.append(value)
    if len(values) > 1:
        note = f"{keyword} differs between slices"
        if note not in notes:
            notes.append(note)
        return None
    return values[0] if values else None


def _values(headers: Sequence[Any], keyword: str) -> Iterator[Any]:
    for header in headers:
        try:
            items = [item for group in _GROUPS for item in header.get(group) or ()]
            places = [item[place][0] for item in items for place in _PLACES if item.get(place)]
            for place in [header, *places]:
                value = place.get(keyword)
                if value is not None and str(value) != "":
                    yield list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else value
        except Exception:  # pydicom converts values on first use and raises errors of any type
            continue


def _same(value: Any, other: Any) -> bool:
    a, b = _number(value), _number(other)
    return value == other if a is None or b is None else abs(a - b) <= _DISAGREE * max(a, b)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None
