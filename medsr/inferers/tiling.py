"""Tiles of an image: they partition the output, and each reads its input with a halo."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, reduce
from itertools import pairwise, product
from math import ceil, prod
from typing import Any

import numpy as np
import torch

from medsr.geometry import input_range

_ONE = Fraction(1)
_MOST_CUTS = 48  # the largest number of tiles along one axis that the planner considers


@dataclass(frozen=True)
class Tile:
    """A box of the network's input grid whose output is wanted: voxels [low, high) per axis."""

    low: tuple[int, ...]
    high: tuple[int, ...]

    def read(self, shape: Sequence[int], halo: int, align: int) -> Tile:
        """Return the box to read: the tile with its halo, grown to multiples of `align`, within the image."""
        ranges = [input_range(a, b, _ONE, n, halo, align) for a, b, n in zip(self.low, self.high, shape, strict=True)]
        return Tile(tuple(r[0] for r in ranges), tuple(r[1] for r in ranges))

    def mirrored(self, shape: Sequence[int], axes: Collection[int]) -> Tile:
        """Return the same voxels in the coordinates of the image flipped along `axes` (counted among spatial axes)."""
        ends = [
            (n - b, n - a) if axis in axes else (a, b)
            for axis, (a, b, n) in enumerate(zip(self.low, self.high, shape, strict=True))
        ]
        return Tile(tuple(low for low, _ in ends), tuple(high for _, high in ends))

    def halves(self, shape: Sequence[int], halo: int, align: int) -> tuple[Tile, Tile] | None:
        """Return the tile cut in two, at a multiple of `align`, across the axis for which the halves read the least.

        It is None if no cut makes the halves read less than the tile does.
        """
        best, least = None, self.read(shape, halo, align).voxels
        for axis, (start, stop) in enumerate(zip(self.low, self.high, strict=True)):
            middle = start + ceil((stop - start) / 2 / align) * align
            if middle >= stop:
                continue
            low, high = list(self.low), list(self.high)
            low[axis] = high[axis] = middle
            halves = Tile(self.low, tuple(high)), Tile(tuple(low), self.high)
            larger = max(half.read(shape, halo, align).voxels for half in halves)
            if larger < least:
                best, least = halves, larger
        return best

    @property
    def voxels(self) -> int:
        """The number of voxels in the box."""
        return prod(b - a for a, b in zip(self.low, self.high, strict=True))

    def slices(self, scale: Sequence[int] | None = None, origin: Sequence[int] | None = None) -> tuple[slice, ...]:
        """Return the box as indices.

        Args:
            scale: The scale of the network whose output is indexed; 1 by default.
            origin: The voxel of the input grid that index 0 stands for.
        """
        scale = scale or (1,) * len(self.low)
        origin = origin or (0,) * len(self.low)
        return tuple(
            slice((a - o) * s, (b - o) * s) for a, b, s, o in zip(self.low, self.high, scale, origin, strict=True)
        )


def part(image: torch.Tensor, slices: Sequence[slice]) -> torch.Tensor:
    """Return a view of the voxels of an image at `slices` of its last axes."""
    index: tuple[Any, ...] = (..., *slices)
    return image[index]


def balanced_cuts(n: int, count: int, align: int) -> list[int]:
    """Return the bounds of `count` nearly equal parts of [0, n), at multiples of `align`, without empty parts."""
    units = ceil(n / align)
    return sorted({min(n, units * k // count * align) for k in range(count)} | {n})


def tiles_of(shape: Sequence[int], cuts: Sequence[Sequence[int]]) -> list[Tile]:
    """Return all boxes between the cuts of each axis."""
    parts = [list(pairwise(axis)) for axis in cuts]
    return [Tile(tuple(p[0] for p in box), tuple(p[1] for p in box)) for box in product(*parts)]


def regular_tiles(shape: Sequence[int], size: Sequence[int], align: int) -> list[Tile]:
    """Return balanced tiles of at most `size` voxels (rounded up to `align`)."""
    counts = [ceil(n / max(align, ceil(m / align) * align)) for n, m in zip(shape, size, strict=True)]
    return tiles_of(shape, [balanced_cuts(n, k, align) for n, k in zip(shape, counts, strict=True)])


def plan_tiles(shape: Sequence[int], halo: int, most_voxels: int, align: int = 1) -> list[Tile]:
    """Return the partition that reads the fewest voxels in total while no tile reads more than `most_voxels`.

    Every combination of numbers of tiles per axis is considered. If even the smallest tiles with their halo
    are above the limit, the smallest are returned.
    """
    options = [_axis_options(n, halo, align) for n in shape]
    largest = reduce(np.multiply.outer, [np.array([o[0] for o in axis]) for axis in options])
    total = reduce(np.multiply.outer, [np.array([o[1] for o in axis]) for axis in options])
    fitting = largest <= most_voxels
    if not fitting.any():
        fitting = largest == largest.min()
    best = np.unravel_index(np.where(fitting, total, np.iinfo(total.dtype).max).argmin(), total.shape)
    return tiles_of(shape, [axis[i][2] for axis, i in zip(options, best, strict=True)])


@lru_cache(maxsize=256)  # because the groups of slices of a volume need the same plan
def _axis_options(n: int, halo: int, align: int) -> list[tuple[int, int, list[int]]]:
    """Return for each number of parts of an axis the voxels of the longest read, of all reads, and the cuts."""
    options: list[tuple[int, int, list[int]]] = []
    for count in range(1, min(_MOST_CUTS, ceil(n / align)) + 1):
        cuts = balanced_cuts(n, count, align)
        ranges = [input_range(low, high, _ONE, n, halo, align) for low, high in pairwise(cuts)]
        reads = [stop - start for start, stop in ranges]
        options.append((max(reads), sum(reads), cuts))
    return options
