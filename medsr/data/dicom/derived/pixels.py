"""Store real units as the 16-bit integers of a DICOM image, and choose the grey window to display them.

A stored integer n means n * RescaleSlope + RescaleIntercept (PS3.3 C.11.1). The slope and the intercept of the source
are kept if the values fit, so that HU stay HU, and an unchanged image is stored bit by bit as it was.

The classic MR Image IOD has no Modality LUT module. It could state units by Real World Value Mapping, but SimpleITK,
MONAI and most viewers do not apply that, while all of them apply a RescaleSlope, which MR scanners write too (a
Standard Extended SOP Class, PS3.2). Therefore an MR series gets no rescale tags if its values are whole scanner units,
which is usual, and RescaleSlope and RescaleIntercept otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, isfinite, log10
from typing import Any

import numpy as np
from pydicom.valuerep import format_number_as_ds

_LEVELS = 2**16
_HU = 1.0  # the largest step of CT values, which rounds by at most half a HU
_MR_STEPS = 500  # the smallest number of steps in the range of MR values, which round by at most 0.1 % of it
_ON_GRID = 1e-2  # the part of a step by which float32 arithmetic may change a stored value
_WINDOW_PERCENTILES = (0.5, 99.8)
_SAMPLED = 10**6  # the number of voxels for the percentiles


@dataclass(frozen=True)
class Encoding:
    """The rule by which real units are stored.

    Attributes:
        slope: The real units per step, above 0.
        intercept: The real units of the stored value 0.
        signed: Whether stored values are signed.
    """

    slope: float = 1.0
    intercept: float = 0.0
    signed: bool = False

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest stored value."""
        return (-_LEVELS // 2, _LEVELS // 2 - 1) if self.signed else (0, _LEVELS - 1)

    @property
    def is_identity(self) -> bool:
        """Whether stored values equal the real units."""
        return self.slope == 1 and self.intercept == 0

    def steps(self, values: Any) -> Any:
        """Return real units as the nearest whole steps, not yet limited to 16 bits."""
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
        """Return values that fit as 16-bit integers, little endian."""
        return self.steps(values).astype("<i2" if self.signed else "<u2")


def largest_step(modality: str, low: float, high: float) -> float:
    """Return the coarsest step (real units) by which values from low to high may be stored for a modality."""
    return _HU if modality == "CT" else ((high - low) or abs(high) or 1.0) / _MR_STEPS


def choose_encoding(values: np.ndarray, modality: str, source: Encoding | None) -> Encoding:
    """Choose how a volume is stored: like its source, if the values fit and the step of the source is fine enough.

    Otherwise the step of the source is halved until it is fine enough, and the intercept makes the values fit. The step
    becomes coarser only if 65536 steps do not span the values.

    Args:
        values: The values (X, Y, Z), finite.
        modality: "CT" or "MR".
        source: The encoding of the source, None if there is none.
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
    """Return the encodings of the source's slices, None if one cannot be used for the result (a negative slope).

    Args:
        headers: The data sets of the source, for the sign of their pixels.
        pairs: The slope and the intercept of every slice.
    """
    if not all(slope > 0 and isfinite(slope) and isfinite(intercept) for slope, intercept in pairs):
        return None
    signed = bool(int(headers[0].get("PixelRepresentation") or 0))
    return [Encoding(slope, intercept, signed) for slope, intercept in pairs]


def window_of(values: np.ndarray) -> tuple[float, float]:
    """Return the centre and the width of a grey window for values without one."""
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
    """Return the value rounded up to three digits, which is easy to read in a header."""
    unit = 10.0 ** (floor(log10(value)) - 2)
    return _decimal(ceil(value / unit) * unit)
