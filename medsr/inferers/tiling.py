"""Where to cut an image into tiles: a partition of the output, each tile reading its input with a halo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, product
from math import ceil, prod

from medsr.geometry import input_range

_MOST_CUTS = 48  # tiles along one axis that the planner considers


@dataclass(frozen=True)
class Tile:
    """A box of the network's input grid whose output is wanted: voxels [low, high) per axis."""

    low: tuple[int, ...]
    high: tuple[int, ...]

    def read(self, shape: Sequence[int], halo: int, align: int) -> Tile:
        """The box that must be read: with the halo, outwards to multiples of `align`, within the image."""
        ranges = [
            input_range(a, b, Fraction(1), n, halo, align)
            for a, b, n in zip(self.low, self.high, shape, strict=True)
        ]
        return Tile(tuple(r[0] for r in ranges), tuple(r[1] for r in ranges))

    def halves(self, align: int) -> tuple[Tile, Tile] | None:
        """The tile cut in two along its longest axis, at a multiple of `align`; None if it is too short."""
        lengths = [b - a for a, b in zip(self.low, self.high, strict=True)]
        axis = lengths.index(max(lengths))
        middle = self.low[axis] + ceil(lengths[axis] / 2 / align) * align
        if middle >= self.high[axis]:
            return None
        low, high = list(self.low), list(self.high)
        low[axis] = high[axis] = middle
        return Tile(self.low, tuple(high)), Tile(tuple(low), self.high)

    @property
    def voxels(self) -> int:
        """Number of voxels in the box."""
        return prod(b - a for a, b in zip(self.low, self.high, strict=True))

    def slices(self) -> tuple[slice, ...]:
        """The box as indices."""
        return tuple(slice(a, b) for a, b in zip(self.low, self.high, strict=True))


def balanced_cuts(n: int, count: int, align: int) -> list[int]:
    """Boundaries of `count` nearly equal parts of [0, n), at multiples of `align`; no part is empty."""
    units = ceil(n / align)
    cuts = sorted({min(n, units * k // count * align) for k in range(count)} | {n})
    return cuts if cuts[0] == 0 else [0, *cuts]


def tiles_of(shape: Sequence[int], cuts: Sequence[Sequence[int]]) -> list[Tile]:
    """All boxes between the cuts of each axis."""
    parts = [list(pairwise(axis)) for axis in cuts]
    return [Tile(tuple(p[0] for p in box), tuple(p[1] for p in box)) for box in product(*parts)]


def regular_tiles(shape: Sequence[int], size: Sequence[int], align: int) -> list[Tile]:
    """Tiles of at most `size` voxels (rounded up to `align`), balanced."""
    counts = [ceil(n / max(align, ceil(m / align) * align)) for n, m in zip(shape, size, strict=True)]
    return tiles_of(shape, [balanced_cuts(n, k, align) for n, k in zip(shape, counts, strict=True)])


def plan_tiles(shape: Sequence[int], halo: int, most_voxels: int, align: int = 1) -> list[Tile]:
    """The partition that reads the fewest voxels while no tile reads more than `most_voxels`.

    Cutting one axis into slabs costs the least; the planner tries every combination of counts. If even the smallest
    tiles with their halo are above the limit, the smallest are returned.
    """
    options = []
    for n in shape:
        axis = []
        for count in range(1, min(_MOST_CUTS, ceil(n / align)) + 1):
            cuts = balanced_cuts(n, count, align)
            ranges = [input_range(low, high, Fraction(1), n, halo, align) for low, high in pairwise(cuts)]
            reads = [stop - start for start, stop in ranges]
            if not axis or len(cuts) != len(axis[-1][2]):
                axis.append((max(reads), sum(reads), cuts))
        options.append(axis)
    best, smallest = None, None
    for combination in product(*options):
        largest = prod(option[0] for option in combination)
        cost = prod(option[1] for option in combination)
        cuts = [option[2] for option in combination]
        if largest <= most_voxels and (best is None or cost < best[0]):
            best = (cost, cuts)
        if smallest is None or (largest, cost) < smallest[0]:
            smallest = ((largest, cost), cuts)
    assert smallest is not None
    return tiles_of(shape, best[1] if best else smallest[1])
