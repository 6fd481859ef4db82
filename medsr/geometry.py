"""The grid rule: the only place where the size, spacing and origin of an image are computed.

Edges, not centres, coincide, and the requested scale is honoured exactly. With input size ``n`` and scale
``s`` per axis the output has ``m = round(n * s)`` voxels of spacing ``d / s``, and in index space

    u_in = (u_out + 1/2) / s - 1/2

so the first edge is kept exactly, and the last one whenever ``n * s`` is an integer. Scales are exact
fractions: float arithmetic puts voxels in the wrong place at 2.3 or 2.7.

Affines are 4x4 float64 voxel-to-world matrices (RAS, mm, as in nibabel and MONAI). Scales and spacings are
given per array axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, gcd, inf, isfinite
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from medsr.errors import GridError

Scale = tuple[Fraction, ...]
ScaleLike = float | int | str | Fraction | Sequence[float | int | str | Fraction]

FIELD_OF_VIEW_TOLERANCE = Fraction(1, 1000)  # output voxels that rounding a float scale to a fraction may cost
PARALLEL_TOLERANCE = 0.1  # voxels by which parallel axes may drift apart over an image
_UNKNOWN_SIZE = 1024  # size assumed for that tolerance when none is given
ALIGNMENTS = ("half-pixel", "corner", "edges", "first-voxel")  # of an LR grid to its HR grid
_ORIENTATIONS = {
    "sagittal": 0,
    "coronal": 1,
    "axial": 2,
}  # anatomical plane -> world axis it is perpendicular to


def simplest_fraction(low: Fraction, high: Fraction) -> Fraction:
    """The fraction of smallest denominator in the interval 0 < low <= f <= high (Stern-Brocot)."""
    whole = floor(low)
    if whole == low:
        return Fraction(whole)
    if whole + 1 <= high:
        return Fraction(whole + 1)
    return whole + 1 / simplest_fraction(1 / (high - whole), 1 / (low - whole))


def exact_scale(value: float | int | str | Fraction, size: int | None = None) -> Fraction:
    """One scale as an exact fraction.

    Args:
        value: an integer, fraction or text ("9/4", "2.5") is taken literally; a float is replaced by the
            fraction of smallest denominator that changes the field of view by less than 1e-3 output voxels.
        size: number of input voxels along the axis.

    Raises:
        GridError: not a finite number, or not positive.
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
    """A scale per axis, one number meaning all axes, as exact fractions.

    Raises:
        GridError: wrong number of values, or a value that is not a positive number.
    """
    values = _per_axis(scale, ndim, "scale")
    sizes = [None] * ndim if shape is None else list(shape)
    if len(sizes) != ndim:
        raise GridError(f"expected an image of {ndim} axes for {ndim} scales, got size {sizes}")
    return tuple(exact_scale(v, n) for v, n in zip(values, sizes, strict=True))


def _per_axis(value: Any, ndim: int, what: str) -> list[Any]:
    """One value, or one per axis, as a list."""
    try:
        single = isinstance(value, int | float | str | Fraction) or getattr(value, "ndim", None) == 0
        values = [value] * ndim if single else list(value)
    except TypeError:
        raise GridError(f"expected one {what} or one per axis ({ndim}), got {value!r}") from None
    if len(values) != ndim:
        raise GridError(f"expected one {what} or one per axis ({ndim}), got {len(values)}: {values}")
    return values


def scale_for_spacing(spacing: Sequence[float], target: float | Sequence[float], shape: Sequence[int]) -> Scale:
    """The scale that turns voxels of `spacing` (mm, per axis) into voxels of `target` (mm).

    Raises:
        GridError: a target that is not positive, or coarser than the input (super-resolution only enlarges).
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
    """`scale` itself if no axis shrinks.

    Raises:
        GridError: a scale below 1.
    """
    if any(s < 1 for s in scale):
        raise GridError(f"a super-resolution scale must be at least 1 on every axis, got {format_scale(scale)}")
    return scale


def output_shape(shape: Sequence[int], scale: Scale) -> tuple[int, ...]:
    """Size after scaling: round(n * s) per axis, at least 1."""
    return tuple(max(1, round(n * s)) for n, s in zip(shape, scale, strict=True))


def divisible_shape(shape: Sequence[int], scale: Scale) -> tuple[int, ...]:
    """The largest size not above `shape` that `scale` divides to an integer, to crop HR before degrading it.

    Raises:
        GridError: an axis has too few voxels for the scale.
    """
    sizes = tuple(n - n % s.numerator for n, s in zip(shape, scale, strict=True))
    if 0 in sizes:
        raise GridError(f"an image of {tuple(shape)} voxels is too small to be reduced by {format_scale(scale)}")
    return sizes


def source_positions(indices: ArrayLike, scale: Fraction) -> NDArray[np.float64]:
    """Input index (real-valued) at the centre of each output voxel: (i + 1/2) / s - 1/2, rounded once."""
    i = np.asarray(indices, dtype=np.int64)
    p, q = scale.numerator, scale.denominator
    return ((2 * i + 1) * q - p) / (2.0 * p)


def source_voxels(
    indices: ArrayLike, scale: Fraction, mirrored: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """The input voxel in which the centre of each output voxel lies, and where in it, in integers.

    A centre on the edge between two voxels belongs to the lower one.

    Args:
        indices: of output voxels; they and input voxels count from the first edge of the image.
        scale: of the axis.
        mirrored: the image is flipped, and both count from its last edge, so that they are negative; the voxels are
            the same ones as without flipping.

    Returns:
        Input voxels, numerators, denominator: a centre lies numerator / denominator of a voxel beyond its lower edge.
    """
    i = np.asarray(indices, dtype=np.int64)
    p, q = scale.numerator, scale.denominator
    voxels = ((2 * i + 1) * q - (0 if mirrored else 1)) // (2 * p)
    return voxels, (2 * i + 1) * q - 2 * p * voxels, 2 * p


def output_range(low: int, high: int, scale: Fraction, size: int) -> tuple[int, int]:
    """Output voxels [start, stop) whose centres lie in input voxels [low, high) of `size`; see `source_voxels`."""
    p, q = scale.numerator, scale.denominator
    most = output_shape((size,), (scale,))[0]
    start, stop = ((2 * p * end - q) // (2 * q) + 1 for end in (low, high))
    return min(start, most), min(stop, most)


def input_range(low: int, high: int, scale: Fraction, size: int, halo: int, align: int = 1) -> tuple[int, int]:
    """Input voxels [start, stop) that output voxels [low, high) need, with a halo, clamped to the image.

    Args:
        halo: input voxels of context on either side.
        align: start and stop are moved outwards to multiples of it (attention windows), the stop at most to
            `size`.
    """
    p, q = scale.numerator, scale.denominator  # floor and ceiling of low / scale and high / scale, in integers
    start = max(0, low * q // p - halo)
    stop = min(size, -(-high * q // p) + halo)
    return start - start % align, min(size, -(-stop // align) * align)


def scaled_affine(affine: ArrayLike, scale: Scale) -> NDArray[np.float64]:
    """The affine of the grid that `scale` makes: A @ [diag(1/s) | (1/s - 1)/2]. Scales below 1 reduce."""
    step = np.eye(4)
    for axis, s in enumerate(scale):
        step[axis, axis] = 1 / s
        step[axis, 3] = (1 / s - 1) / 2
    return np.asarray(affine, dtype=np.float64) @ step


def sampling_of(alignment: str, n_hr: int, n_lr: int, scale: Fraction) -> tuple[Fraction, Fraction]:
    """(start, step) of a reduced axis: voxel i of LR lies at HR index start + i * step, exactly.

    Only "half-pixel" is the grid rule. The others are what programs do that simulate LR otherwise: "corner"
    joins the centres of the first and last voxels (``scipy.ndimage.zoom``), "edges" stretches the LR grid
    over the whole HR field of view whatever the scale asked for (``cv2.resize`` with a size), "first-voxel"
    keeps the centre of voxel 0 (decimation, a cropped DFT).

    Raises:
        GridError: another alignment's name.
    """
    if alignment == "half-pixel":
        return (scale - 1) / 2, scale
    if alignment == "edges":
        step = Fraction(n_hr, n_lr)
        return (step - 1) / 2, step
    if alignment == "corner":
        return Fraction(0), Fraction(n_hr - 1, n_lr - 1) if n_lr > 1 else scale
    if alignment == "first-voxel":
        return Fraction(0), scale
    raise GridError(f"an alignment is one of {', '.join(ALIGNMENTS)}, got {alignment!r}")


def sampled_affine(affine: ArrayLike, sampling: Sequence[tuple[Fraction, Fraction]]) -> NDArray[np.float64]:
    """The affine of the grid whose voxel i lies at index start + i * step, (start, step) per axis."""
    change = np.eye(4)
    for axis, (start, step) in enumerate(sampling):
        change[axis, axis], change[axis, 3] = float(step), float(start)
    return np.asarray(affine, dtype=np.float64) @ change


def shifted_affine(affine: ArrayLike, start: Sequence[float]) -> NDArray[np.float64]:
    """The affine of the image cropped so that index `start` becomes index 0."""
    step = np.eye(4)
    step[: len(start), 3] = start
    return np.asarray(affine, dtype=np.float64) @ step


def relative_sampling(
    affine: ArrayLike, other: ArrayLike, other_shape: Sequence[int]
) -> tuple[tuple[float, float], ...]:
    """(start, step) per axis: voxel j of the other image lies at index start + j * step of this one.

    Args:
        affine: of this image.
        other: affine of the other image.
        other_shape: its size, two or three axes.

    Raises:
        GridError: axes that are not parallel (off by more than a tenth of a voxel somewhere), or run
            backwards.
    """
    ndim = len(other_shape)
    change = np.linalg.solve(np.asarray(affine, dtype=np.float64), np.asarray(other, dtype=np.float64))
    steps = np.diag(change)[:ndim]
    drift = np.abs(change[:ndim, :ndim] - np.diag(steps)) @ np.asarray(other_shape)
    if drift.max() > PARALLEL_TOLERANCE or steps.min() <= 0:
        raise GridError(
            "the axes of the two images are not parallel, or not in the same order and direction; "
            "resample one of them along the axes of the other"
        )
    return tuple((float(change[axis, 3]), float(steps[axis])) for axis in range(ndim))


def reoriented_affine(
    affine: ArrayLike, shape: Sequence[int], order: Sequence[int], flipped: Sequence[int]
) -> NDArray[np.float64]:
    """The affine of an image whose axes were permuted and then flipped.

    Args:
        affine: before.
        shape: size before.
        order: for each new axis, the old one.
        flipped: new axes that run backwards.
    """
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for axis in range(len(order), 3):
        change[axis, axis] = 1
    for new, old in enumerate(order):
        change[old, new] = -1 if new in flipped else 1
        change[old, 3] = shape[old] - 1 if new in flipped else 0
    return np.asarray(affine, dtype=np.float64) @ change


def spacing_of(affine: ArrayLike, ndim: int = 3) -> tuple[float, ...]:
    """Voxel size in mm along each array axis."""
    columns = np.asarray(affine, dtype=np.float64)[:3, :ndim]
    return tuple(float(v) for v in np.linalg.norm(columns, axis=0))


def anatomical_axis(affine: ArrayLike, plane: str) -> int:
    """The array axis most nearly perpendicular to an anatomical plane ("axial", "coronal", "sagittal").

    Raises:
        GridError: another plane's name.
    """
    if plane not in _ORIENTATIONS:
        raise GridError(f"a slice orientation is one of {', '.join(_ORIENTATIONS)}, got {plane!r}")
    world = nib.orientations.io_orientation(np.asarray(affine, dtype=np.float64))[:, 0]
    return int(np.flatnonzero(world == _ORIENTATIONS[plane])[0])


def format_scale(scale: Scale) -> str:
    """A scale for people: "2x2x1.5"; a fraction without a short decimal stays one ("7/3")."""
    return "x".join(f"{float(s):g}" if exact_scale(f"{float(s):g}") == s else str(s) for s in scale)


def _mm(values: Sequence[float]) -> str:
    return "x".join(f"{v:.4g}" for v in values) + " mm"


def lattice_step(scale: Fraction) -> tuple[int, int]:
    """(q, p): the smallest LR and HR crop offsets that keep the grids aligned, q LR voxels = p HR voxels."""
    assert gcd(scale.numerator, scale.denominator) == 1
    return scale.denominator, scale.numerator


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a 3D image are: its size and its voxel-to-world affine (mm).

    Raises:
        GridError: a size below 1, an affine that is not finite, or one with a zero or degenerate axis.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "affine", affine)
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GridError(f"expected a 3D image with at least one voxel on every axis, got size {self.shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GridError(f"expected a finite 4x4 affine, got {affine.tolist()}")
        spacing = np.array(self.spacing)
        volume = abs(np.linalg.det(affine[:3, :3]))
        if spacing.min() <= 0 or volume <= 1e-6 * spacing.prod():
            raise GridError(f"the affine is degenerate (voxel spacing {_mm(self.spacing)}): repair the image's header")

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm along each array axis."""
        return spacing_of(self.affine)

    @property
    def is_sheared(self) -> bool:
        """Whether the axes are not perpendicular (gantry tilt): more than 1e-5 in the cosine."""
        directions = self.affine[:3, :3] / np.array(self.spacing)
        return bool(np.abs(directions.T @ directions - np.eye(3)).max() > 1e-5)

    def enlarged(self, scale: Scale) -> Grid:
        """The SR grid of this LR grid."""
        return Grid(output_shape(self.shape, scale), scaled_affine(self.affine, scale))

    def reduced(self, scale: Scale) -> Grid:
        """The LR grid of this HR grid.

        Raises:
            GridError: the sizes are not divisible; crop to `divisible_shape` first.
        """
        if divisible_shape(self.shape, scale) != self.shape:
            raise GridError(
                f"{self.shape} voxels cannot be reduced by {format_scale(scale)} exactly; "
                f"crop to {divisible_shape(self.shape, scale)} first"
            )
        inverse = tuple(1 / s for s in scale)
        return Grid(output_shape(self.shape, inverse), scaled_affine(self.affine, inverse))

    def cropped(self, start: Sequence[int], shape: Sequence[int]) -> Grid:
        """The grid of the sub-image that begins at index `start`."""
        return Grid(tuple(shape), shifted_affine(self.affine, start))

    def edges(self) -> NDArray[np.float64]:
        """World coordinates (mm) of the eight corners of the field of view, (2, 2, 2, 3)."""
        ends = [(-0.5, n - 0.5) for n in self.shape]
        index = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1)
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def distance(self, other: Grid) -> float:
        """Largest distance in mm between corners of the two fields of view; inf if the sizes differ."""
        if self.shape != other.shape:
            return inf
        return float(np.linalg.norm(self.edges() - other.edges(), axis=-1).max())
