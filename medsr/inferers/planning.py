"""The plan of how much of an image the network sees at a time: tiles within the memory limit, and groups of slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, prod

import torch

from medsr.errors import InputError
from medsr.geometry import Scale, output_shape
from medsr.inferers.tile_sources import Source
from medsr.inferers.tiling import Tile, plan_tiles, regular_tiles
from medsr.networks import Family, NetworkSpec
from medsr.networks.blocks.meta_upscale import META_UPSCALE_BYTES

# On a CPU, slices run together up to this number of voxels. More would take memory and no longer fit the cache; a
# single small slice would not reach oneDNN, which torch calls for batches of two or more and for large images.
_CPU_BATCH_VOXELS = 2**15
_MOST_SLICES = 16
_WASTEFUL = 6  # the user is warned when halos make the network compute every voxel at least this many times


def voxel_budget(spec: NetworkSpec, memory_mb: int) -> int:
    """Return the number of network input voxels whose activations fit the memory limit (MiB)."""
    limit = memory_mb * 2**20
    if spec.family is Family.ARBITRARY:  # the last layer takes memory of its own, however small the tile
        limit = max(limit // 2, limit - META_UPSCALE_BYTES)
    return int(limit / bytes_per_voxel(spec))


def bytes_per_voxel(spec: NetworkSpec) -> int:
    """Return the bytes per voxel of the forward pass and of two copies of the tile and its output, for the ensemble.

    An arbitrary network is planned for its largest scale, at which its last layer holds the output twice more.
    """
    if spec.family is Family.ARBITRARY:
        voxels = 2 * int(spec.largest_scale or 1) ** spec.spatial_dims
    else:
        voxels = prod(spec.scales or (1,))
    return spec.bytes_per_voxel + 8 * (spec.in_channels + spec.out_channels * voxels)


def choose_tiles(
    source: Source, spec: NetworkSpec, memory_mb: int, tile_size: int | Sequence[int] | None
) -> tuple[list[Tile], list[str]]:
    """Return the tiles of an image and the warnings about them.

    Args:
        source: The source that the network reads.
        spec: The spec of the network.
        memory_mb: The memory limit of the network's forward pass, in MiB.
        tile_size: The tile size in input voxels without the halo, one number or one per axis of the network; planned
            from `memory_mb` by default. Networks that look at the whole image ignore it.

    Raises:
        InputError: If no tile can be small enough for the limit, or `tile_size` has the wrong length.
    """
    shape, align, budget = source.shape, spec.size_multiple, voxel_budget(spec, memory_mb)
    halo = max(shape) if spec.halo is None else spec.halo
    planned = tile_size is None or spec.halo is None
    if planned:
        tiles = plan_tiles(shape, halo, budget // source.batch, align)
    else:
        tiles = regular_tiles(shape, _per_axis(tile_size, len(shape)), align)
    reads = [tile.read(shape, halo, align).voxels for tile in tiles]
    needed = max(reads) * source.batch
    if planned and needed > budget:
        why = "looks at the whole image" if spec.halo is None else f"looks {halo} voxels around"
        raise InputError(
            f"this network {why}, which takes {ceil(needed * bytes_per_voxel(spec) / 2**20)} MiB of memory for this "
            f"image, but the limit is {memory_mb}: raise memory_mb"
        )
    times = round(sum(reads) / prod(shape))
    if times < _WASTEFUL:
        return tiles, []
    limit = "memory_mb" if planned else "tile_size"
    return tiles, [f"the tiles are so small that every voxel is computed {times} times; raise {limit} to be faster"]


def _per_axis(tile_size: int | Sequence[int] | None, ndim: int) -> list[int]:
    sizes = [tile_size] * ndim if isinstance(tile_size, int) else list(tile_size or ())
    if len(sizes) != ndim:
        raise InputError(f"tile_size must be one number or {ndim}, one per axis of the network; got {sizes}")
    return sizes


def slice_groups(lr: torch.Tensor, across: int, scale: Scale, spec: NetworkSpec, memory_mb: int) -> Iterator[slice]:
    """Yield groups of slices that run together: as many as are useful on the device and fit the memory limit.

    Args:
        lr: The volumes, (B, C, X, Y, Z).
        across: The spatial axis across the slices.
        scale: The scale of the two in-plane axes.
        spec: The spec of the network.
        memory_mb: The memory limit of the network's forward pass, in MiB.
    """
    size = [n for axis, n in enumerate(lr.shape[2:]) if axis != across]
    plane = lr.shape[0] * prod(output_shape(size, scale) if spec.family is Family.RESTORE else size)
    most = voxel_budget(spec, memory_mb)
    if lr.device.type == "cpu":
        most = min(most, _CPU_BATCH_VOXELS)
    together = max(1, min(_MOST_SLICES, most // plane))
    for start in range(0, lr.shape[2 + across], together):
        yield slice(start, min(start + together, lr.shape[2 + across]))
