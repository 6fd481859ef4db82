"""The output voxels that an arbitrary-scale network computes, and the input that each of them reads, exactly."""

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
    """A box of the SR grid in global coordinates: a voxel has the same index in every tile.

    Attributes:
        scale: The scale of each axis.
        low: The first output voxel per axis, counted from the first edge of the image.
        high: The end of the output voxels per axis, exclusive.
        origin: The input voxel at which the given features begin, counted in the same way.
        mirrored: Whether the image is flipped, per axis. There all voxels count from the edge that was the last one
            before, so that they are negative, and output voxel i of the image becomes voxel -1 - i.
    """

    scale: Scale
    low: tuple[int, ...]
    high: tuple[int, ...]
    origin: tuple[int, ...]
    mirrored: tuple[bool, ...]

    @classmethod
    def whole(cls, shape: Sequence[int], scale: Scale) -> "Query":
        """Return the query for a whole image of this size: round(n * s) output voxels per axis."""
        nowhere = (0,) * len(scale)
        # An integer scale is multiplied directly, because the size may be a symbol of torch.export.
        high = tuple(
            n * s.numerator if s.denominator == 1 else output_shape((n,), (s,))[0]
            for n, s in zip(shape, scale, strict=True)
        )
        return cls(scale, nowhere, high, nowhere, (False,) * len(scale))

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of output voxels per axis."""
        return tuple(b - a for a, b in zip(self.low, self.high, strict=True))


@dataclass(frozen=True, eq=False)
class Axis:
    """The input that the output voxels along one axis read.

    Every input voxel has as many slots as an input voxel can have output voxels; the queried voxels are chosen from
    these slots.

    Attributes:
        first: The first input voxel.
        count: The number of input voxels.
        offsets: All distinct offsets of output voxels within input voxels, between 0 and 1.
        slots: The index of the offset, (period, slots); input voxel `first` + i uses row i modulo the period.
        chosen: The queried slots, in order, out of count * slots.
    """

    first: int
    count: int
    offsets: NDArray[np.float64]
    slots: NDArray[np.int64]
    chosen: NDArray[np.int64]

    def part(self, start: int, stop: int) -> "Axis":
        """Return the part with the input voxels from `start` up to `stop`, counted from the first."""
        period, width = self.slots.shape
        rows = (start + np.arange(min(period, stop - start))) % period
        low, high = np.searchsorted(self.chosen, [start * width, stop * width])
        chosen = self.chosen[low:high] - start * width
        return Axis(self.first + start, stop - start, self.offsets, self.slots[rows], chosen)


def axis_of(query: Query, axis: int, positions: str) -> Axis:
    """Return what the output voxels of a query read along one axis; `positions` is one of `POSITIONS`."""
    return _axis(query.scale[axis], query.low[axis], query.high[axis], query.mirrored[axis], positions)


def one_voxel(scale: Fraction, positions: str) -> Axis:
    """Return what the output voxels in one input voxel read at an integer scale, where all input voxels are alike."""
    return _axis(scale, 0, scale.numerator, False, positions)


@lru_cache(maxsize=512)  # the tiles of an image, slices of a volume and batches in training repeat their queries
def _axis(scale: Fraction, low: int, high: int, mirrored: bool, positions: str) -> Axis:
    margin = ceil(scale) + 1  # the first and the last input voxel then have all their output voxels
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
    """Return the scale if a network takes it.

    Raises:
        MedsrError: If an axis shrinks or grows beyond the largest scale.
    """
    if not all(1 <= s <= largest for s in scale):
        given = ", ".join(f"{float(s):g}" for s in scale)
        raise MedsrError(f"this network takes scales from 1 to {largest:g} per axis, got {given}; choose one of those")
    return scale


def check_positions(positions: str) -> str:
    """Return the name if it is valid.

    Raises:
        MedsrError: If the name is not one of `POSITIONS`.
    """
    if positions not in POSITIONS:
        raise MedsrError(f"the way to count positions is one of {', '.join(POSITIONS)}, got {positions!r}")
    return positions


def beyond(query: Query, axes: Sequence[Axis], shape: Sequence[int]) -> Optional[str]:
    """Return why a query does not fit features of this size, or None. Half an output voxel may lie outside."""
    for number, (axis, origin, n) in enumerate(zip(axes, query.origin, shape, strict=True)):
        if axis.first < origin - 1 or axis.first + axis.count > origin + n + 1:
            last = axis.first + axis.count - 1
            return (
                f"the query reads input voxels {axis.first} to {last} along axis {number}, but the features hold "
                f"{origin} to {origin + n - 1}; ask for less, or give features with a larger halo"
            )
    return None
