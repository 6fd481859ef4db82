"""The runner of a network on one tile: it crops the halo, averages flips, and halves the tile if memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import torch
from torch import nn

from medsr.errors import InputError, MedsrError
from medsr.inferers.forward import ForwardInferer
from medsr.inferers.tile_sources import Call, Source
from medsr.inferers.tiling import Tile, part
from medsr.networks import NetworkSpec

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "allocate memory", "alloc_failed")


@dataclass
class TileResult:
    """The output voxels of a tile: where they belong, their values, and their deviation over the flips."""

    slices: tuple[slice, ...]
    image: torch.Tensor
    deviation: torch.Tensor | None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that an allocation failed, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _OUT_OF_MEMORY)


class TileRunner:
    """The runner of tiles, one after the other; its arguments are those of `SuperResolutionInferer`."""

    def __init__(self, precision: str, channels_last: bool, compiled: bool, ensemble: bool) -> None:
        self.forward = ForwardInferer(precision)
        self.channels_last = channels_last
        self.compiled = compiled
        self.ensemble = ensemble
        self._ready: tuple[nn.Module, Callable[..., Any]] | None = None  # the network given, and what is called
        self._too_large: int | None = None  # the voxels of the smallest read of this image that did not fit
        self._warnings: list[str] = []

    def prepare(self, network: nn.Module) -> None:
        """Prepare for an image: set the network's memory layout, compile it if asked, and forget what did not fit."""
        self._too_large = None
        self._warnings = []
        if self._ready is not None and self._ready[0] is network:
            return
        if self.channels_last:
            volumetric = any(p.ndim == 5 for p in network.parameters())
            layout = torch.channels_last_3d if volumetric else torch.channels_last
            network.to(memory_format=layout)  # type: ignore[call-overload]  # missing from torch's stubs
        self._ready = (network, torch.compile(network) if self.compiled else network)

    def take_warnings(self) -> list[str]:
        """Return the warnings since the last call."""
        warnings, self._warnings = self._warnings, []
        return warnings

    def run(self, tile: Tile, source: Source, spec: NetworkSpec) -> Iterator[TileResult]:
        """Yield results that partition the tile: one, or several if the tile had to be halved.

        Raises:
            InputError: If the network's output has the wrong size or is not finite.
            MedsrError: If the tile does not fit into memory and cannot be halved any further.
        """
        halo = max(source.shape) if spec.halo is None else spec.halo
        read = tile.read(source.shape, halo, spec.size_multiple)
        if self._too_large is None or read.voxels < self._too_large:
            try:
                yield self._run_once(tile, source, spec, halo)
                return
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._too_large = read.voxels
            self._warnings.append(f"a tile of {read.voxels:,} voxels did not fit into memory and was halved")
        halves = tile.halves(source.shape, halo, spec.size_multiple)
        if halves is None:
            raise MedsrError(
                f"even the smallest tile of this network ({read.voxels:,} voxels) does not fit into memory: "
                "free some memory, or run on a device with more"
            )
        for half in halves:
            yield from self.run(half, source, spec)

    def _run_once(self, tile: Tile, source: Source, spec: NetworkSpec, halo: int) -> TileResult:
        axes = range(len(source.shape))
        flips = chain.from_iterable(combinations(axes, k) for k in range(len(axes) + 1)) if self.ensemble else [()]
        box, image = None, torch.empty(0)
        mean, squares = torch.empty(0), torch.empty(0)
        for count, flipped in enumerate(flips, start=1):
            # Alignment counts from the first voxel of the image that the network sees, which is the flipped one here.
            wanted = tile.mirrored(source.shape, flipped)
            seen = wanted.read(source.shape, halo, spec.size_multiple)
            if seen.mirrored(source.shape, flipped) != box:
                box = seen.mirrored(source.shape, flipped)
                image = source.read(box)
            dims = [2 + axis for axis in flipped]
            call = source.call(wanted, seen, flipped)
            output = self._forward(image.flip(dims) if dims else image, call, spec)
            output = part(output, call.wanted).flip(dims)
            if count == 1:
                mean, squares = output, torch.zeros_like(output) if self.ensemble else squares
            else:  # Welford 1962
                delta = output - mean
                mean = mean + delta / count
                squares = squares + delta * (output - mean)
        if not torch.isfinite(mean).all():
            raise InputError("the network returned values that are not finite; check its weights and the precision")
        deviation = (squares / count).sqrt() if self.ensemble else None
        return TileResult(source.outputs(tile), mean, deviation)

    def _forward(self, image: torch.Tensor, call: Call, spec: NetworkSpec) -> torch.Tensor:
        assert self._ready is not None
        if self.channels_last:
            layout = torch.channels_last_3d if image.ndim == 5 else torch.channels_last
            image = image.contiguous(memory_format=layout)
        output = self.forward(image, self._ready[1], *call.arguments)
        expected = (image.shape[0], spec.out_channels, *call.size)
        came = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        if came != expected:
            raise InputError(
                f"the network returned {came} for {tuple(image.shape)}, but its spec says {expected}; correct the spec"
            )
        return output
