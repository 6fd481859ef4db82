"""Slices become the grid they were cut from, whatever its place, order and tilt, classic or enhanced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pydicom
import pytest
from hypothesis import given
from pydicom.valuerep import format_number_as_ds
from scipy.spatial.transform import Rotation

from medsr.data.dicom.planes import Plane, planes_of
from medsr.data.dicom.stacking import stack_affine
from medsr.errors import InputError

PATH = Path("series")
finite = {"allow_nan": False, "allow_infinity": False}
spacings = st.tuples(*[st.floats(0.2, 8, **finite)] * 3)
turns = st.tuples(*[st.floats(-np.pi, np.pi, **finite)] * 3)
origins = st.tuples(*[st.floats(-500, 500, **finite)] * 3)
tilts = st.tuples(*[st.floats(-0.6, 0.6, **finite)] * 2)  # of the slice axis, in mm per mm along row and column
orders = st.integers(2, 9).flatmap(lambda n: st.permutations(range(n)))


def grid(spacing: tuple[float, ...], turn: tuple[float, ...], origin: tuple[float, ...]) -> np.ndarray:
    """An affine (LPS) whose slice axis is the cross product of row and column, as DICOM has it."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn).as_matrix() * spacing
    affine[:3, 3] = origin
    return affine


def decimals(values: np.ndarray) -> list[str]:
    """As many digits as DICOM's decimal strings of 16 characters hold."""
    return [format_number_as_ds(float(v)) for v in values]


def classic(affine: np.ndarray, k: int) -> pydicom.Dataset:
    """The header of slice k, 5 rows of 7 pixels."""
    spacing = np.linalg.norm(affine[:3, :2], axis=0)
    header = pydicom.Dataset()
    header.Rows, header.Columns = 5, 7
    header.SOPInstanceUID = f"1.2.{k + 1}"
    header.PixelSpacing = decimals(spacing[::-1])
    header.ImageOrientationPatient = decimals((affine[:3, :2] / spacing).T.ravel())
    header.ImagePositionPatient = decimals(affine[:3, 3] + k * affine[:3, 2])
    return header


def enhanced(affine: np.ndarray, order: list[int]) -> pydicom.Dataset:
    """The header of a multi-frame image, one group of each kind in each frame."""
    frames = []
    for k in order:
        source, frame = classic(affine, k), pydicom.Dataset()
        for group, tags in (
            ("PixelMeasuresSequence", ["PixelSpacing"]),
            ("PlaneOrientationSequence", ["ImageOrientationPatient"]),
            ("PlanePositionSequence", ["ImagePositionPatient"]),
        ):
            item = pydicom.Dataset()
            for tag in tags:
                item[tag] = source[tag]
            setattr(frame, group, [item])
        frames.append(frame)
    header = pydicom.Dataset()
    header.Rows, header.Columns, header.NumberOfFrames = 5, 7, len(order)
    header.PerFrameFunctionalGroupsSequence = frames
    return header


@given(spacings, turns, origins, tilts, orders, st.booleans())
def test_stack_is_the_grid_it_was_cut_from(
    spacing: tuple[float, ...],
    turn: tuple[float, ...],
    origin: tuple[float, ...],
    tilt: tuple[float, ...],
    order: list[int],
    frames: bool,
) -> None:
    affine = grid(spacing, turn, origin)
    affine[:3, 2] += spacing[2] * (tilt[0] * affine[:3, 0] / spacing[0] + tilt[1] * affine[:3, 1] / spacing[1])
    if frames:
        planes = planes_of(Path("a.dcm"), enhanced(affine, order))
    else:
        planes = [plane for k in order for plane in planes_of(Path(f"{k}.dcm"), classic(affine, k))]
    warnings: list[str] = []
    found, lps = stack_affine(PATH, planes, warnings)
    assert [order[k] for k in found] == sorted(order)
    sideways = np.hypot(*tilt) * spacing[2] * (len(order) - 1)
    for corner in np.ndindex(2, 2, 2):
        index = [*(np.array(corner) * [6, 4, len(order) - 1]), 1]
        # A drift of 0.02 mm over the whole stack is rounding, and is taken out.
        np.testing.assert_allclose(lps @ index, affine @ index, atol=1e-6 if sideways > 0.02 else 0.021)
    assert bool(warnings) == (sideways > 0.02) or abs(sideways - 0.02) < 1e-6


@given(spacings, turns, origins, st.integers(3, 8), st.data())
def test_a_slice_that_is_missing_doubled_or_displaced_is_told(
    spacing: tuple[float, ...], turn: tuple[float, ...], origin: tuple[float, ...], n: int, data: st.DataObject
) -> None:
    affine = grid(spacing, turn, origin)
    planes = [planes_of(Path(f"{k}.dcm"), classic(affine, k))[0] for k in range(n + 1)]
    k = data.draw(st.integers(1, n - 1), label="slice")
    missing = planes[:k] + planes[k + 1 :]
    with pytest.raises(InputError, match="1 slice is missing" if n > 3 else "missing|unevenly"):
        stack_affine(PATH, missing, [])
    with pytest.raises(InputError, match=rf"one image per slice position.*{k}.dcm"):
        stack_affine(PATH, [*planes, replace(planes[k], file=Path("twin.dcm"), instance="1.3")], [])
    with pytest.raises(InputError, match=rf"every image once, got 2 copies of {k}.dcm"):
        stack_affine(PATH, [*planes, planes[k]], [])
    # More than a hundredth of the distance and more than rounding, along the normal or sideways.
    axis = data.draw(st.sampled_from([0, 2]), label="axis")
    shift = affine[:3, axis] / spacing[axis] * max(0.02, 0.01 * spacing[2]) * data.draw(st.floats(1.5, 9, **finite))
    moved = replace(planes[k], position=tuple(planes[k].position + shift))
    with pytest.raises(InputError, match=r"unevenly|evenly along|one image per|missing"):
        stack_affine(PATH, [*planes[:k], moved, *planes[k + 1 :]], [])


def test_what_copies_differ_in_is_said() -> None:
    affine = grid((1, 1, 3), (0.1, 0.2, 0.3), (0, 0, 0))

    def echo(k: int, time: float, number: int) -> Plane:
        header = classic(affine, k)
        header.EchoTime, header.AcquisitionNumber, header.FlipAngle = time, number, 90
        header.SOPInstanceUID = f"1.2.{k + 1}.{number + 1}"
        return planes_of(Path(f"{k}_{time:g}.dcm"), header)[0]

    planes = [echo(k, time, number) for k in range(4) for number, time in enumerate((10.0, 80.0))]
    with pytest.raises(InputError) as caught:
        stack_affine(PATH, planes, [])
    assert "they differ in EchoTime (10.0, 80.0), AcquisitionNumber (0, 1)" in str(caught.value)
    assert "FlipAngle" not in str(caught.value)


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("PixelSpacing", [1]),
        ("PixelSpacing", ["1e999", 1]),
        ("ImagePositionPatient", None),
        ("ImagePositionPatient", [0, 0]),
        ("ImageOrientationPatient", [1, 0, 0, 0, 1]),
    ],
)
def test_a_place_that_is_no_place(tag: str, value: Any) -> None:
    header = classic(np.eye(4), 0)
    setattr(header, tag, value)
    with pytest.raises(InputError, match=f"a.dcm: expected [236] numbers in {tag}"):
        planes_of(Path("a.dcm"), header)
