"""Tiles partition the image, read what they need, and respect the limit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsr.inferers.tiling import Tile, balanced_cuts, plan_tiles, regular_tiles

shapes = st.lists(st.integers(1, 24), min_size=1, max_size=3).map(tuple)
aligns = st.sampled_from([1, 1, 2, 8])


def times_covered(tiles, shape):
    covered = np.zeros(shape, dtype=int)
    for tile in tiles:
        covered[tile.slices()] += 1
    return covered


def reads(tiles, shape, halo, align):
    return [tile.read(shape, halo, align).voxels for tile in tiles]


@given(shape=shapes, halo=st.integers(0, 12), align=aligns, limit=st.integers(1, 24**3))
def test_plan_is_a_partition_within_the_limit(shape, halo, align, limit):
    tiles = plan_tiles(shape, halo, limit, align)
    assert (times_covered(tiles, shape) == 1).all()
    assert all(tile.voxels > 0 for tile in tiles)
    assert all(low % align == 0 for tile in tiles for low in tile.low)
    largest = max(reads(tiles, shape, halo, align))
    smallest = 1  # read of the smallest possible tile in the worst place, axis by axis
    for n in shape:
        smallest *= max(reads(regular_tiles((n,), [1], align), (n,), halo, align))
    assert largest <= max(limit, smallest)


@given(shape=shapes, halo=st.integers(0, 8), limit=st.integers(200, 20000))
def test_plan_is_the_cheapest_of_all_regular_cuts(shape, halo, limit):
    planned = sum(reads(plan_tiles(shape, halo, limit), shape, halo, 1))
    for size in ([n] * len(shape) for n in (4, 7, 13, 20)):
        tiles = regular_tiles(shape, size, 1)
        if max(reads(tiles, shape, halo, 1)) <= limit:
            assert planned <= sum(reads(tiles, shape, halo, 1))


@given(shape=shapes, size=st.integers(1, 45), align=aligns)
def test_regular_tiles_are_a_partition_of_balanced_tiles(shape, size, align):
    tiles = regular_tiles(shape, [size] * len(shape), align)
    assert (times_covered(tiles, shape) == 1).all()
    most = -(-size // align) * align
    for axis in range(len(shape)):
        lengths = {tile.high[axis] - tile.low[axis] for tile in tiles}
        assert max(lengths) <= most
        if align == 1:
            assert max(lengths) - min(lengths) <= 1


def test_whole_image_when_it_fits():
    assert plan_tiles((30, 20, 10), 10, 6000) == [Tile((0, 0, 0), (30, 20, 10))]
    assert len(plan_tiles((30, 20, 10), 10, 5999)) > 1


def test_slabs_across_the_longest_axis_cost_least():
    tiles = plan_tiles((10, 100, 10), 2, 3000)
    assert {tile.high[0] - tile.low[0] for tile in tiles} == {tile.high[2] - tile.low[2] for tile in tiles} == {10}


@given(n=st.integers(1, 100), count=st.integers(1, 60), align=aligns)
def test_cuts(n, count, align):
    cuts = balanced_cuts(n, count, align)
    assert (cuts[0], cuts[-1]) == (0, n)
    assert all(a < b for a, b in pairwise(cuts))
    assert all(cut % align == 0 for cut in cuts[:-1])
    assert len(cuts) - 1 == min(count, -(-n // align))


@given(data=st.data(), shape=shapes, halo=st.integers(0, 9), align=aligns)
def test_read_covers_the_halo_and_no_more_than_alignment_asks(data, shape, halo, align):
    low = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    high = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(low, shape, strict=True))
    read = Tile(low, high).read(shape, halo, align)
    for a, b, start, stop, n in zip(low, high, read.low, read.high, shape, strict=True):
        assert max(0, a - halo) - (align - 1) <= start <= max(0, a - halo)
        assert min(n, b + halo) <= stop <= min(n, b + halo + align - 1)
        assert start % align == 0
        assert stop % align == 0 or stop == n


@given(data=st.data(), shape=shapes)
def test_mirrored_tile_is_the_tile_of_the_flipped_image(data, shape):
    low = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    tile = Tile(low, tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(low, shape, strict=True)))
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1)))
    image = np.arange(np.prod(shape)).reshape(shape)
    flipped = np.flip(image, tuple(axes))
    seen = flipped[tile.mirrored(shape, axes).slices()]
    np.testing.assert_array_equal(np.flip(seen, tuple(axes)), image[tile.slices()])
    assert tile.mirrored(shape, axes).mirrored(shape, axes) == tile


@given(data=st.data(), shape=shapes, halo=st.integers(0, 9), align=aligns)
def test_halves_are_a_partition_that_reads_less(data, shape, halo, align):
    tile = data.draw(st.sampled_from(regular_tiles(shape, [9] * len(shape), align)))
    halves = tile.halves(shape, halo, align)
    if halves is None:
        return
    covered = times_covered(halves, shape)
    assert (covered == times_covered([tile], shape)).all()
    assert max(reads(halves, shape, halo, align)) < tile.read(shape, halo, align).voxels
    assert all(low % align == 0 for half in halves for low in half.low)


def test_halves_across_an_axis_that_the_halo_does_not_cover():
    tile = Tile((0, 40), (10, 49))  # longest along the first axis, where every half would read all ten voxels
    assert tile.halves((10, 100), 10, 1) == (Tile((0, 40), (10, 45)), Tile((0, 45), (10, 49)))
    assert Tile((0, 0), (10, 10)).halves((10, 10), 10, 1) is None  # a halo over the whole image
    assert Tile((0, 0), (8, 4)).halves((16, 16), 0, 8) is None


@pytest.mark.parametrize("scale", [(1, 1), (2, 3)])
def test_slices_at_a_scale_and_origin(scale):
    tile = Tile((4, 6), (5, 9))
    assert tile.slices(scale, (4, 5)) == (slice(0, scale[0]), slice(scale[1], 4 * scale[1]))
