"""Scales as exact fractions, because float arithmetic puts voxels in the wrong place at scales such as 2.3 or 2.7."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor, gcd, isfinite
from typing import Any

from medsr.errors import GridError

Scale = tuple[Fraction, ...]
ScaleLike = float | int | str | Fraction | Sequence[float | int | str | Fraction]

FIELD_OF_VIEW_TOLERANCE = Fraction(
    1, 1000
)  # output voxels by which rounding a float scale to a fraction may change an axis
_UNKNOWN_SIZE = 1024  # size assumed for that tolerance if none is given


def simplest_fraction(low: Fraction, high: Fraction) -> Fraction:
    """Return the fraction f of smallest denominator with 0 < low <= f <= high (Stern-Brocot)."""
    whole = floor(low)
    if whole == low:
        return Fraction(whole)
    if whole + 1 <= high:
        return Fraction(whole + 1)
    return whole + 1 / simplest_fraction(1 / (high - whole), 1 / (low - whole))


def exact_scale(value: float | int | str | Fraction, size: int | None = None) -> Fraction:
    """Return one scale as an exact fraction.

    Args:
        value: The scale. An integer, a fraction or a text ("9/4", "2.5") is taken literally; a float is replaced by
            the fraction of smallest denominator that changes the field of view by less than 1e-3 output voxels.
        size: The number of input voxels along the axis.

    Raises:
        GridError: If the value is not a finite number, or not positive.
    """
    try:
        value = value.item() if hasattr(value, "item") else value  # numpy and torch scalars
        if isinstance(value, float) and not isfinite(value):
            raise ValueError
        literal = Fraction(str(value)) if isinstance(value, str) else Fraction(value)
    except (ValueError, TypeError, ZeroDivisionError):
        raise GridError(f"a scale must be a positive number such as 2, 2.5 or 9/4, got {value!r}") from None
    if literal <= 0:
        raise GridError(f"a scale must be positive, got {value}")
    if not isinstance(value, float):
        return literal
    tolerance = FIELD_OF_VIEW_TOLERANCE / (size or _UNKNOWN_SIZE) * Fraction(999, 1000)
    return simplest_fraction(max(literal - tolerance, literal / 2), literal + tolerance)


def as_scale(scale: ScaleLike, ndim: int, shape: Sequence[int] | None = None) -> Scale:
    """Return the scale along each axis as exact fractions; one number applies to all axes.

    Raises:
        GridError: If the number of values is wrong, or a value is not a positive number.
    """
    values = _per_axis(scale, ndim, "scale")
    sizes = [None] * ndim if shape is None else list(shape)
    if len(sizes) != ndim:
        raise GridError(f"expected an image of {ndim} axes for {ndim} scales, got size {sizes}")
    return tuple(exact_scale(v, n) for v, n in zip(values, sizes, strict=True))


def _per_axis(value: Any, ndim: int, what: str) -> list[Any]:
    """Return a list with one value per axis; a single value is repeated."""
    try:
        single = isinstance(value, int | float | str | Fraction) or getattr(value, "ndim", None) == 0
        values = [value] * ndim if single else list(value)
    except TypeError:
        raise GridError(f"expected one {what} or one per axis ({ndim}), got {value!r}") from None
    if len(values) != ndim:
        raise GridError(f"expected one {what} or one per axis ({ndim}), got {len(values)}: {values}")
    return values


def scale_for_spacing(spacing: Sequence[float], target: float | Sequence[float], shape: Sequence[int]) -> Scale:
    """Return the scale that turns voxels of `spacing` (mm, per axis) into voxels of `target` (mm).

    Raises:
        GridError: If the target is not positive, or coarser than the input (super-resolution only enlarges).
    """
    given = _per_axis(target, len(spacing), "target spacing")
    try:
        targets = [float(t) for t in given]
    except (TypeError, ValueError):
        raise GridError(f"a target spacing must be a positive number of mm, got {given}") from None
    if len(shape) != len(spacing):
        raise GridError(f"expected an image of {len(spacing)} axes for {len(spacing)} spacings, got size {list(shape)}")
    if not all(isfinite(t) and t > 0 for t in targets):
        raise GridError(f"a target spacing must be a positive number of mm, got {targets}")
    scale = tuple(exact_scale(float(d) / t, n) for d, t, n in zip(spacing, targets, shape, strict=True))
    if any(s < 1 for s in scale):
        raise GridError(
            f"target spacing {_mm(targets)} is coarser than the input's {_mm(spacing)} on some axis; "
            "super-resolution only refines: give a spacing not above the input's on every axis"
        )
    return scale


def check_enlarging(scale: Scale) -> Scale:
    """Return `scale`, or refuse it if an axis shrinks.

    Raises:
        GridError: If the scale along an axis is below 1.
    """
    if any(s < 1 for s in scale):
        raise GridError(f"a super-resolution scale must be at least 1 on every axis, got {format_scale(scale)}")
    return scale


def format_scale(scale: Scale) -> str:
    """Return a scale as text for people, "2x2x1.5"; a fraction without a short decimal stays a fraction ("7/3")."""
    return "x".join(f"{float(s):g}" if exact_scale(f"{float(s):g}") == s else str(s) for s in scale)


def scale_text(scale: Scale) -> str:
    """Return a scale as an exact text for collation and JSON: "2,5/2,1"."""
    return ",".join(str(s) for s in scale)


def scale_from_text(text: str) -> Scale:
    """Return the scale that `scale_text` wrote as a text."""
    return as_scale(text.split(","), len(text.split(",")))


def _mm(values: Sequence[float]) -> str:
    return "x".join(f"{v:.4g}" for v in values) + " mm"


def lattice_step(scale: Fraction) -> tuple[int, int]:
    """Return (q, p), the smallest LR and HR crop offsets that keep the grids aligned: q LR voxels are p HR voxels."""
    assert gcd(scale.numerator, scale.denominator) == 1
    return scale.denominator, scale.numerator
