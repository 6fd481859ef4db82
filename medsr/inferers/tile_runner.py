"""Run a network on one tile: halo cropped, flips averaged, halved when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations

import torch
from torch import nn

from medsr.errors import InputError
from medsr.inferers.families import Source
from medsr.inferers.forward import ForwardInferer
from medsr.inferers.tiling import Tile

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


@dataclass
class TileResult:
    """Output voxels of a tile."""

    slices: tuple[slice, ...]
    image: torch.Tensor
    deviation: torch.Tensor | None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that an allocation failed, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _OUT_OF_MEMORY)


class TileRunner:
    """See the module; the arguments are those of `SuperResolutionInferer`."""

    def __init__(self, precision: str, channels_last: bool, compiled: bool, ensemble: bool) -> None:
        self.forward = ForwardInferer(precision)
        self.channels_last = channels_last
        self.compiled = compiled
        self.ensemble = ensemble
        self._ready: tuple[nn.Module, nn.Module] | None = None  # the network given, and the one that is run
        self._too_large: int | None = None  # input voxels of the smallest read that did not fit
        self._warnings: list[str] = []

    def take_warnings(self) -> list[str]:
        """Warnings since the last call."""
        warnings, self._warnings = self._warnings, []
        return warnings

    def run(self, tile: Tile, source: Source, network: nn.Module, halo: int, align: int) -> Iterator[TileResult]:
        """Results that partition the tile: one, or several if it had to be halved.

        Raises:
            InputError: the network's output has the wrong size or is not finite.
            MemoryError: the tile cannot be halved any further.
        """
        read = tile.read(source.shape, halo, align)
        if self._too_large is None or read.voxels < self._too_large:
            try:
                yield self._run_once(tile, read, source, self._prepared(network))
                return
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._too_large = read.voxels
            self._warnings.append(f"a tile of {read.voxels:,} voxels did not fit into memory and was halved")
        halves = tile.halves(align)
        if halves is None or max(h.read(source.shape, halo, align).voxels for h in halves) >= read.voxels:
            raise MemoryError(f"the smallest possible tile ({read.voxels:,} voxels) does not fit into memory")
        for half in halves:
            yield from self.run(half, source, network, halo, align)

    def _prepared(self, network: nn.Module) -> nn.Module:
        if self._ready is None or self._ready[0] is not network:
            if self.channels_last:
                dims = {p.ndim for p in network.parameters()}
                network.to(memory_format=torch.channels_last_3d if 5 in dims else torch.channels_last)
            self._ready = (network, torch.compile(network) if self.compiled else network)
            self._too_large = None
        return self._ready[1]

    def _run_once(self, tile: Tile, read: Tile, source: Source, network: nn.Module) -> TileResult:
        image = source.read(read)
        if self.channels_last:
            layout = torch.channels_last_3d if image.ndim == 5 else torch.channels_last
            image = image.contiguous(memory_format=layout)
        inside = tuple(
            slice((a - start) * s, (b - start) * s)
            for a, b, start, s in zip(tile.low, tile.high, read.low, source.scale, strict=True)
        )
        expected = tuple((b - a) * s for a, b, s in zip(read.low, read.high, source.scale, strict=True))
        mean, squares = None, None
        spatial = range(2, image.ndim)
        flips = chain.from_iterable(combinations(spatial, k) for k in range(len(spatial) + 1)) if self.ensemble else [()]
        for count, axes in enumerate(flips, start=1):
            output = self.forward(image.flip(axes) if axes else image, network).flip(axes)
            if tuple(output.shape[2:]) != expected:
                raise InputError(f"the network returned {tuple(output.shape[2:])} voxels, expected {expected}")
            output = output[(..., *inside)]
            if mean is None:
                mean = output
                squares = torch.zeros_like(output) if self.ensemble else None
            else:  # Welford
                delta = output - mean
                mean = mean + delta / count
                squares = squares + delta * (output - mean)
        assert mean is not None
        if not torch.isfinite(mean).all():
            raise InputError("the network returned values that are not finite; check its weights and the precision")
        deviation = None if squares is None else (squares / count).sqrt()
        slices = tuple(slice(a * s, b * s) for a, b, s in zip(tile.low, tile.high, source.scale, strict=True))
        return TileResult(slices, mean, deviation)
