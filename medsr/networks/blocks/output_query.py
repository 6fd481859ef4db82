"""Which output voxels an arbitrary-scale network is asked for, and what each of them reads, in exact arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from medsr.errors import MedsrError
from medsr.geometry import Scale, output_shape, source_voxels

POSITIONS = ("centre", "hu2019")


@dataclass(frozen=True)
class Query:
    """A box of the SR grid, in global coordinates: wherever a tile lies, a voxel is asked for by the same index.

    Attributes:
        scale: The scale of each axis.
        low: first output voxel per axis, counted from the image's first edge.
        high: behind the last one.
        origin: input voxel, counted likewise, that the first one of the given features is.
        mirrored: axes along which the image is flipped. There all voxels count from the edge that was the last one
            before, so that they are negative, and output voxel i of the image is now voxel -1 - i.
    """

    scale: Scale
    low: tuple[int, ...]
    high: tuple[int, ...]
    origin: tuple[int, ...]
    mirrored: tuple[bool, ...]

    @classmethod
    def whole(cls, shape: Sequence[int], scale: Scale) -> "Query":
        """All of an image of this size: round(n * s) output voxels per axis."""
        nowhere = (0,) * len(scale)
        # An integer scale is multiplied as it is: the size may be a symbol that torch exports.
        high = tuple(
            n * s.numerator if s.denominator == 1 else output_shape((n,), (s,))[0]
            for n, s in zip(shape, scale, strict=True)
        )
        return cls(scale, nowhere, high, nowhere, (False,) * len(scale))

    @property
    def shape(self) -> tuple[int, ...]:
        """How many voxels are asked for."""
        return tuple(b - a for a, b in zip(self.low, self.high, strict=True))


@dataclass(frozen=True, eq=False)
class Axis:
    """What the output voxels along one axis read.

    Every input voxel has as many slots as one can have output voxels in it; what is asked for is chosen from them.

    Attributes:
        first: input voxel.
        count: of input voxels.
        offsets: in which output voxels lie within input voxels, all that there are; between 0 and 1.
        slots: (period, slots) index of the offset; input voxel `first` + i is as i modulo the period.
        chosen: of count * slots slots, those that are asked for, in order.
    """

    first: int
    count: int
    offsets: NDArray[np.float64]
    slots: NDArray[np.int64]
    chosen: NDArray[np.int64]

    def part(self, start: int, stop: int) -> "Axis":
        """Of the same input voxels only those from `start` up to `stop`, counted from the first."""
        period, width = self.slots.shape
        rows = (start + np.arange(min(period, stop - start))) % period
        low, high = np.searchsorted(self.chosen, [start * width, stop * width])
        chosen = self.chosen[low:high] - start * width
        return Axis(self.first + start, stop - start, self.offsets, self.slots[rows], chosen)


def axis_of(query: Query, axis: int, positions: str) -> Axis:
    """What the output voxels of a query read along one of its axes; `positions` is one of `POSITIONS`."""
    return _axis(query.scale[axis], query.low[axis], query.high[axis], query.mirrored[axis], positions)


def one_voxel(scale: Fraction, positions: str) -> Axis:
    """What the output voxels within one input voxel read, where they are the same in all: the scale is an integer."""
    return _axis(scale, 0, scale.numerator, False, positions)


@lru_cache(maxsize=512)  # tiles of an image, slices of a volume and batches of a training ask for the same
def _axis(scale: Fraction, low: int, high: int, mirrored: bool, positions: str) -> Axis:
    margin = ceil(scale) + 1  # so that the first and the last input voxel have all their output voxels
    outputs = np.arange(low - margin, high + margin)
    if positions == "centre":
        voxels, parts, whole = source_voxels(outputs, scale, mirrored)
    else:
        voxels = outputs * scale.denominator // scale.numerator
        parts, whole = outputs * scale.denominator - voxels * scale.numerator, scale.numerator
    asked = slice(margin, margin + high - low)
    first, count = int(voxels[asked][0]), int(voxels[asked][-1] - voxels[asked][0]) + 1
    starts = np.searchsorted(voxels, first + np.arange(count + 1))
    period = min(scale.denominator, count)
    widths = np.diff(starts)[:period]
    slots = starts[:period, None] + np.minimum(np.arange(widths.max()), widths[:, None] - 1)
    distinct, classes = np.unique(parts[slots], return_inverse=True)
    chosen = (voxels[asked] - first) * widths.max() + np.arange(len(outputs))[asked] - starts[voxels[asked] - first]
    return Axis(first, count, distinct / whole, classes.reshape(slots.shape), chosen)


def check_scale(scale: Scale, largest: float) -> Scale:
    """The scale itself where a network takes it.

    Raises:
        MedsrError: an axis that shrinks, or grows beyond the largest scale.
    """
    if not all(1 <= s <= largest for s in scale):
        given = ", ".join(f"{float(s):g}" for s in scale)
        raise MedsrError(f"this network takes scales from 1 to {largest:g} per axis, got {given}; choose one of those")
    return scale


def check_positions(positions: str) -> str:
    """The name itself.

    Raises:
        MedsrError: not one of `POSITIONS`.
    """
    if positions not in POSITIONS:
        raise MedsrError(f"positions are counted as one of {', '.join(POSITIONS)}, got {positions!r}")
    return positions


def beyond(query: Query, axes: Sequence[Axis], shape: Sequence[int]) -> Optional[str]:
    """What is wrong with a query for features of this size, or None. Half an output voxel may lie outside."""
    for number, (axis, origin, n) in enumerate(zip(axes, query.origin, shape, strict=True)):
        if axis.first < origin - 1 or axis.first + axis.count > origin + n + 1:
            last = axis.first + axis.count - 1
            return (
                f"the query reads input voxels {axis.first} to {last} along axis {number}, and the features hold "
                f"{origin} to {origin + n - 1} of them; ask for less, or give features with a larger halo"
            )
    return None
