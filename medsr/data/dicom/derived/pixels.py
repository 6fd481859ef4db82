"""Store real units as the 16-bit integers of a DICOM image, and choose the grey window to show them.

A stored integer n means n * RescaleSlope + RescaleIntercept (PS3.3 C.11.1). The source's own pair is kept wherever the
values fit, so that HU stay HU and an image that was not changed is stored bit by bit as it came.

The classic MR Image IOD has no Modality LUT module. Real World Value Mapping would be its way to state units, but
neither SimpleITK nor MONAI nor most viewers apply it, while all of them apply a RescaleSlope, which MR scanners write
too (a Standard Extended SOP Class, PS3.2). So an MR series gets no rescale tags where its values are whole scanner
units, the usual case, and RescaleSlope and RescaleIntercept where they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, isfinite, log10
from typing import Any

import numpy as np
from pydicom.valuerep import format_number_as_ds

_LEVELS = 2**16
_HU = 1.0  # largest step of a CT value: rounding by at most half a HU
_MR_STEPS = 500  # an MR range is divided at least so finely: rounding by at most 0.1 % of it
_ON_GRID = 1e-2  # part of a step that float32 arithmetic may leave a stored value off its place
_WINDOW_PERCENTILES = (0.5, 99.8)
_SAMPLED = 10**6  # voxels that percentiles are taken of


@dataclass(frozen=True)
class Encoding:
    """The rule by which real units are stored.

    Attributes:
        slope: Real units per step, above 0.
        intercept: Real units of the stored value 0.
        signed: Whether stored values are signed.
    """

    slope: float = 1.0
    intercept: float = 0.0
    signed: bool = False

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest stored value."""
        return (-_LEVELS // 2, _LEVELS // 2 - 1) if self.signed else (0, _LEVELS - 1)

    @property
    def is_identity(self) -> bool:
        """Whether stored values are the real units."""
        return self.slope == 1 and self.intercept == 0

    def steps(self, values: Any) -> Any:
        """Real units as the nearest whole steps, not yet limited to 16 bits."""
        return np.rint((np.asarray(values, dtype=np.float64) - self.intercept) / self.slope)

    def fits(self, low: float, high: float) -> bool:
        """Return whether values from low to high can be stored."""
        smallest, largest = self.limits
        return bool(self.steps(low) >= smallest and self.steps(high) <= largest)

    def holds(self, values: np.ndarray) -> bool:
        """Return whether the values are whole steps, up to float32 rounding."""
        position = (values.astype(np.float64) - self.intercept) / self.slope
        return bool(np.abs(position - np.rint(position)).max() <= _ON_GRID)

    def stored(self, values: np.ndarray) -> np.ndarray:
        """Return the 16-bit integers, little endian, of values that fit."""
        return self.steps(values).astype("<i2" if self.signed else "<u2")


def largest_step(modality: str, low: float, high: float) -> float:
    """Return the coarsest step (real units) that a modality's values from low to high are stored with."""
    return _HU if modality == "CT" else ((high - low) or abs(high) or 1.0) / _MR_STEPS


def choose_encoding(values: np.ndarray, modality: str, source: Encoding | None) -> Encoding:
    """Choose how a volume is stored: as its source, if the values fit and the step of the source is fine enough.

    Else the source's step, halved until it is fine enough, with an intercept that makes the values fit. Only where
    65536 steps do not span the values is the step made coarser.

    Args:
        values: (X, Y, Z), finite.
        modality: "CT" or "MR".
        source: Encoding of the source; None where its slices differ.
    """
    low, high = float(values.min()), float(values.max())
    step = largest_step(modality, low, high)
    if source is not None:
        for same in (source, replace(source, signed=not source.signed)):
            if same.fits(low, high) and (same.slope <= step or same.holds(values)):
                return same
    slope = source.slope if source is not None else 1.0
    while slope > step:
        slope /= 2
    slope = _decimal(slope)
    for plain in (Encoding(slope), Encoding(slope, signed=True)):
        if plain.fits(low, high):
            return plain
    if (high - low) / slope > _LEVELS - 2:
        slope = _rounded_up((high - low) / (_LEVELS - 2))
    return Encoding(slope, _decimal(floor(low / slope) * slope))


def source_encodings(headers: Sequence[Any], pairs: Sequence[tuple[float, float]]) -> list[Encoding] | None:
    """Return the encodings of the source's slices; None if one cannot be taken over (a negative slope).

    Args:
        headers: Data sets of the source, for the sign of their pixels.
        pairs: Slope and intercept of every slice.
    """
    if not all(slope > 0 and isfinite(slope) and isfinite(intercept) for slope, intercept in pairs):
        return None
    signed = bool(int(headers[0].get("PixelRepresentation") or 0))
    return [Encoding(slope, intercept, signed) for slope, intercept in pairs]


def window_of(values: np.ndarray) -> tuple[float, float]:
    """Centre and width of a grey window for values that came without one."""
    sample = values.ravel()[:: max(1, values.size // _SAMPLED)]
    low, high = (float(v) for v in np.percentile(sample, _WINDOW_PERCENTILES))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    width = high - low if high > low else 1.0
    return float(f"{(low + high) / 2:.5g}"), float(f"{width:.5g}")


def _decimal(value: float) -> float:
    """Return the nearest number that a decimal string of DICOM (16 characters) can hold."""
    return float(format_number_as_ds(value))


def _rounded_up(value: float) -> float:
    """Return the next number of three digits: a step that a header shows legibly."""
    unit = 10.0 ** (floor(log10(value)) - 2)
    return _decimal(ceil(value / unit) * unit)
