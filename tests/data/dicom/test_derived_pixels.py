"""Real units as 16-bit integers: the source's own where they fit, else as fine as they can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from medsr.data.dicom.derived.pixels import Encoding, choose_encoding, largest_step, window_of
from medsr.data.dicom.derived.writing import write_derived_series
from medsr.data.dicom.reading import source_headers
from medsr.data.readers import read_volume
from medsr.geometry import Grid, as_scale

Scan = Callable[..., np.ndarray]
CT = Encoding(1.0, -1024.0)


def volume(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32).reshape(-1, 1, 1)


@pytest.mark.parametrize(
    ("values", "modality", "source", "expected"),
    [
        # HU stay HU
        ((-1024, 0.4, 3071), "CT", CT, CT),
        # an overshoot below what unsigned integers hold makes them signed
        ((-1030.5, 3071), "CT", CT, Encoding(1, -1024, signed=True)),
        # a CT step above 1 HU is refined, unless every value is a step of it
        ((0.3, 100), "CT", Encoding(4.0, -1024), Encoding(1.0)),
        ((0, 4, 400), "CT", Encoding(4.0, -1024), Encoding(4.0, -1024)),
        # MR in whole scanner units, and a negative overshoot
        ((0, 900.2), "MR", Encoding(), Encoding()),
        ((-3.2, 900), "MR", Encoding(), Encoding(signed=True)),
        # a faint MR image is stored in halves until rounding is below 0.1 % of its range
        ((0, 100.3), "MR", Encoding(), Encoding(0.125)),
        # Philips: a slope of its own
        ((0.5, 9000), "MR", Encoding(2.442, 0), Encoding(2.442, 0)),
        # nothing but one value
        ((7.25,), "MR", Encoding(), Encoding(0.0078125)),
        ((0,), "CT", CT, CT),
        # no encoding in common
        ((0, 5000.5), "MR", None, Encoding()),
        # 65536 steps are too few at one offset, or at any
        ((-40000, 20000), "CT", CT, Encoding(1.0, -40000.0)),
        ((0, 1.3107e7), "MR", Encoding(), Encoding(201.0, 0.0)),
    ],
)
def test_choice(values: tuple[float, ...], modality: str, source: Encoding | None, expected: Encoding) -> None:
    assert choose_encoding(volume(*values), modality, source) == expected


@given(
    st.lists(st.floats(-1e5, 1e5, width=32), min_size=2, max_size=8),
    st.sampled_from(["CT", "MR"]),
    st.one_of(
        st.none(),
        st.builds(Encoding, st.sampled_from([1e-4, 0.37, 1.0, 2.5, 1000.0]), st.floats(-2000, 2000), st.booleans()),
    ),
)
def test_rounding_is_at_most_half_a_step(values: list[float], modality: str, source: Encoding | None) -> None:
    array = volume(*values)
    encoding = choose_encoding(array, modality, source)
    stored = encoding.stored(array)
    assert stored.dtype.itemsize == 2
    again = stored.astype(np.float64) * encoding.slope + encoding.intercept
    span = float(array.max()) - float(array.min())
    assert np.abs(again - array).max() <= encoding.slope * (0.5 + 1e-2) + 1e-6 * np.abs(array).max()
    fine = largest_step(modality, float(array.min()), float(array.max()))
    assert encoding.slope <= max(fine, span / 65000, 0) or encoding.holds(array)


def derive_at_scale_1(source: Path, out: Path) -> list[Dataset]:
    image = read_volume(source)
    write_derived_series(out, image.data, image.affine, source_headers(source), scale=1)
    return [pydicom.dcmread(path) for path in sorted(out.iterdir())]


def per_slice(k: int, image: Dataset) -> None:
    image.RescaleSlope, image.RescaleIntercept = f"{0.5 + 0.25 * k}", f"{-100 + k}"


def negative(k: int, image: Dataset) -> None:
    image.PixelRepresentation, image.BitsStored, image.HighBit = 1, 16, 15
    image.PixelData = (np.frombuffer(image.PixelData, "<u2").astype("<i2") - 1200).tobytes()


def inverted(k: int, image: Dataset) -> None:
    image.PhotometricInterpretation = "MONOCHROME1"


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("change", [lambda k, image: None, per_slice, negative, inverted])
def test_scale_1_loses_nothing(
    scan: Scan, oblique_affine: np.ndarray, tmp_path: Path, modality: str, change: Callable[[int, Dataset], Any]
) -> None:
    scan(tmp_path / "in", oblique_affine, modality, change=change)
    derived = derive_at_scale_1(tmp_path / "in", tmp_path / "out")
    source = [pydicom.dcmread(path) for path in sorted((tmp_path / "in").iterdir())]
    for new, old in zip(derived, source, strict=True):
        np.testing.assert_array_equal(new.pixel_array, old.pixel_array)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            np.testing.assert_allclose(new[keyword].value, old[keyword].value, rtol=0, atol=1e-8)
        assert new.SliceLocation == old.SliceLocation
        assert new.PixelRepresentation == old.PixelRepresentation
        assert new.PhotometricInterpretation == old.PhotometricInterpretation, "it is shown as before"
        slope, intercept = old.get("RescaleSlope", 1), old.get("RescaleIntercept", 0)
        assert (new.get("RescaleSlope", 1), new.get("RescaleIntercept", 0)) == (slope, intercept)
    before, after = read_volume(tmp_path / "in"), read_volume(tmp_path / "out")
    np.testing.assert_array_equal(after.data, before.data)
    np.testing.assert_allclose(after.affine, before.affine, rtol=0, atol=1e-9)


def test_normalised_and_restored_values_are_the_same_integers(
    scan: Scan, oblique_affine: np.ndarray, tmp_path: Path
) -> None:
    scan(tmp_path / "in", oblique_affine)
    image = read_volume(tmp_path / "in")
    offset, scale = np.float32(-1000.7), np.float32(1234.5)
    restored = (image.data - offset) / scale * scale + offset
    assert (restored != image.data).any(), "float32 does not come back by itself"
    write_derived_series(tmp_path / "out", restored, image.affine, source_headers(tmp_path / "in"), scale=1)
    np.testing.assert_array_equal(read_volume(tmp_path / "out").data, image.data)


def test_mr_has_rescale_tags_only_where_it_needs_them(scan: Scan, oblique_affine: np.ndarray, tmp_path: Path) -> None:
    scan(tmp_path / "in", oblique_affine, "MR")
    image, headers = read_volume(tmp_path / "in"), source_headers(tmp_path / "in")
    grid = Grid(image.data.shape, image.affine).enlarged(as_scale(2, 3))
    values = np.random.default_rng(0).normal(0, 1, grid.shape)
    plain, faint = (tmp_path / name for name in ("plain", "faint"))
    assert write_derived_series(plain, 500 * values, grid.affine, headers, scale=2).slope == 1
    assert write_derived_series(faint, values, grid.affine, headers, scale=2).slope < 0.02
    header = pydicom.dcmread(plain / "IM0001.dcm")
    assert not [k for k in ("RescaleSlope", "RescaleIntercept", "RescaleType") if k in header]
    header = pydicom.dcmread(faint / "IM0001.dcm")
    assert header.RescaleType == "US"
    again = read_volume(faint)
    assert np.abs(again.data - values).max() <= 0.501 * header.RescaleSlope


def test_windows(scan: Scan, oblique_affine: np.ndarray, tmp_path: Path) -> None:
    scan(tmp_path / "mr", oblique_affine, "MR")  # a window of its own in every slice
    image = derive_at_scale_1(tmp_path / "mr", tmp_path / "out")[0]
    low, high = np.percentile(read_volume(tmp_path / "mr").data, [0.5, 99.8])
    assert abs(image.WindowCenter - (low + high) / 2) < 0.1
    assert abs(image.WindowWidth - (high - low)) < 0.1
    assert "VOILUTFunction" not in image
    assert window_of(np.full((3, 3, 3), 7.0)) == (7, 1)
    source, headers = read_volume(tmp_path / "mr"), source_headers(tmp_path / "mr")
    write_derived_series(tmp_path / "out", source.data / 1e5, source.affine, headers, scale=1)
    image = pydicom.dcmread(tmp_path / "out" / "IM0001.dcm")
    assert image.WindowWidth < 1
    assert image.VOILUTFunction == "LINEAR_EXACT", "LINEAR needs a width of 1"


def test_a_range_beyond_16_bits_is_said(scan: Scan, oblique_affine: np.ndarray, tmp_path: Path) -> None:
    scan(tmp_path / "in", oblique_affine)
    image, headers = read_volume(tmp_path / "in"), source_headers(tmp_path / "in")
    series = write_derived_series(tmp_path / "out", image.data * 100, image.affine, headers, scale=1)
    (warning,) = series.warnings
    assert warning == (
        f"16 bits are too few for the range of the values: they are stored in coarse steps of {series.slope:g}"
    )
    assert np.abs(read_volume(tmp_path / "out").data - image.data * 100).max() <= series.slope / 2 * 1.01
