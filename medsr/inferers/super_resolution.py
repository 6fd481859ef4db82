"""One inferer for all families of networks: exact tiles, bounded memory, the right grid."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from torch import nn

from medsr.degradation import Degradation
from medsr.errors import GridError, InputError
from medsr.geometry import (
    Scale,
    ScaleLike,
    anatomical_axis,
    as_scale,
    check_enlarging,
    format_scale,
    output_shape,
    scale_for_spacing,
    scaled_affine,
    spacing_of,
)
from medsr.inferers.back_projection import back_project
from medsr.inferers.families import Source, make_source
from medsr.inferers.tile_runner import TileRunner
from medsr.inferers.tiling import plan_tiles, regular_tiles
from medsr.networks import NetworkSpec
from medsr.transforms.simulation import LR_SCALE, as_degradation, scale_from_text

logger = logging.getLogger(__name__)


@dataclass
class SuperResolution:
    """What an inferer made.

    Attributes:
        image: (B, C, *spatial) float32.
        deviation: standard deviation over the flips ensemble, same size; None without an ensemble.
        scale: exact scale per spatial axis.
        tiles: number of tiles the network ran on.
        seconds: wall time.
        warnings: what a user should know.
    """

    image: torch.Tensor
    deviation: torch.Tensor | None
    scale: Scale
    tiles: int
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)


class SuperResolutionInferer(Inferer):
    """Enlarge an LR image with a network, by a scale or to a target spacing.

    The result has the grid that `medsr.geometry` prescribes and, for networks with a finite halo, equals the
    whole-image result up to float32 rounding however it is tiled: output tiles partition the image, each reads its
    input with the network's halo, nothing is blended. Memory beyond the output is bounded by `memory_mb`; a tile that
    does not fit nevertheless is halved and run again, with a warning. Any other failure stops the run.

    Networks of the restore family get the image interpolated with their own kernel at global coordinates, tile by
    tile. 2D networks run over the slices of a volume, several at a time.

    Args:
        scale: one number, or one per array axis. For a 2D network on a volume one number means in-plane. Without
            `scale` and `spacing` the scale is the one recorded when the LR image was simulated.
        spacing: target voxel size in mm, one number or one per array axis, instead of `scale`.
        tile_size: network input voxels per tile and axis; planned from `memory_mb` by default.
        memory_mb: activations of the network are planned to stay below this many MiB.
        slice_plane: slices that a 2D network sees, by anatomy.
        precision: "float32", "bfloat16" or "float16" autocast of the network; input, residual and output stay
            float32.
        channels_last: memory layout of network and tiles.
        compile: run the network through `torch.compile`.
        ensemble: average over all flips of the image and report their standard deviation.
        back_projection: iterations that pull the result towards consistency with the LR image.
        degradation: the LR formation that back-projection assumes: object, registered name or dictionary.
        device: where the network runs; the network's own device by default.
        output_device: where results are collected.
        max_voxels: largest result that is attempted.
    """

    def __init__(
        self,
        scale: ScaleLike | None = None,
        spacing: float | Sequence[float] | None = None,
        *,
        tile_size: int | Sequence[int] | None = None,
        memory_mb: int = 2048,
        slice_plane: str = "axial",
        precision: str = "float32",
        channels_last: bool = False,
        compile: bool = False,  # noqa: A002 (the field's word)
        ensemble: bool = False,
        back_projection: int = 0,
        degradation: Degradation | str | Mapping[str, Any] = "gaussian-blur",
        device: str | torch.device | None = None,
        output_device: str | torch.device = "cpu",
        max_voxels: int = 2**30,
    ) -> None:
        if scale is not None and spacing is not None:
            raise GridError("give a scale or a target spacing, not both")
        self.scale = scale
        self.spacing = spacing
        self.tile_size = tile_size
        self.memory_mb = memory_mb
        self.slice_plane = slice_plane
        self.ensemble = ensemble
        self.back_projection = back_projection
        self.degradation = as_degradation(degradation)
        self.device = None if device is None else torch.device(device)
        self.output_device = torch.device(output_device)
        self.max_voxels = max_voxels
        self.runner = TileRunner(precision, channels_last, compile, ensemble)
        self.last: SuperResolution | None = None

    def __call__(
        self,
        inputs: torch.Tensor,
        network: nn.Module,
        *args: Any,
        scale: ScaleLike | None = None,
        reference: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Enlarge a batch.

        Args:
            inputs: (B, C, *spatial) LR images about [0, 1]; a MetaTensor's affine gives spacing and orientation.
            network: a network with a `spec`.
            scale: overrides the inferer's.
            reference: guidance images on the SR grid, (B, C', *SR spatial), for networks that take them.
            args: not used; accepted because MONAI's engines may pass some.
            kwargs: likewise.

        Returns:
            (B, C, *SR spatial) float32 on `output_device`, a MetaTensor with the SR affine if `inputs` is one. The
            full result, with the standard deviation, is kept as `last`.

        Raises:
            GridError: no scale, an impossible one, or more voxels than `max_voxels`.
            InputError: wrong number of channels or axes.
        """
        started = time.perf_counter()
        self.last = self.enlarge(inputs, network, scale=scale, reference=reference)
        self.last.seconds = time.perf_counter() - started
        return self.last.image

    def enlarge(
        self,
        inputs: torch.Tensor,
        network: nn.Module,
        *,
        scale: ScaleLike | None = None,
        reference: torch.Tensor | None = None,
    ) -> SuperResolution:
        """As calling the inferer, but with everything it has to say."""
        spec = _spec(network)
        size = tuple(inputs.shape[2:])
        exact = self.exact_scale(inputs, spec, scale)
        self._check(inputs, spec, exact, reference)
        lr = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        result = SuperResolution(torch.empty(0), None, exact, 0)
        if all(s == 1 for s in exact):
            result.image = lr[:, : spec.out_channels].float().to(self.output_device, copy=True)
            result.warnings.append("the image has the requested spacing already; returned unchanged")
        else:
            device = self.device or next(iter(network.parameters()), lr).device
            with torch.no_grad(), eval_mode(network):
                self._run(lr.float().to(device), network, spec, inputs, reference, result)
                if self.back_projection:
                    back_project(
                        result.image,
                        lr[:, : spec.out_channels].float().to(self.output_device),
                        exact,
                        self.degradation,
                        self.back_projection,
                    )
        if isinstance(inputs, MetaTensor):
            result.image = with_sr_affine(result.image, inputs, exact)
            if result.deviation is not None:
                result.deviation = with_sr_affine(result.deviation, inputs, exact)
        logger.debug("%s voxels by %s in %d tiles", size, format_scale(exact), result.tiles)
        return result

    def exact_scale(self, inputs: torch.Tensor, spec: NetworkSpec, override: ScaleLike | None = None) -> Scale:
        """The scale per spatial axis as exact fractions: the override's, else the inferer's, else the record's."""
        size = tuple(inputs.shape[2:])
        requested = self.scale if override is None else override
        meta = inputs.meta if isinstance(inputs, MetaTensor) else {}
        if requested is None and self.spacing is not None:
            if not isinstance(inputs, MetaTensor):
                raise GridError("a target spacing needs an image with an affine; give a scale instead")
            spacings = {spacing_of(a, len(size)) for a in _affines(inputs)}
            scales = {scale_for_spacing(spacing, self.spacing, size) for spacing in spacings}
            if len(scales) > 1:
                raise GridError("the images of one batch need different scales; use batches of one image")
            return scales.pop()
        if requested is None:
            recorded = meta.get(LR_SCALE)
            recorded = recorded[0] if isinstance(recorded, list) else recorded
            if not recorded:
                raise GridError("no scale: give a scale (2, or one per axis) or a target spacing in mm")
            return scale_from_text(recorded)
        if spec.spatial_dims < len(size) and isinstance(requested, int | float | str):
            in_plane: list[Any] = [requested] * len(size)
            in_plane[self._slice_axis(inputs)] = 1
            requested = in_plane
        return check_enlarging(as_scale(requested, len(size), size))

    def _check(
        self, inputs: torch.Tensor, spec: NetworkSpec, scale: Scale, reference: torch.Tensor | None
    ) -> None:
        size = tuple(inputs.shape[2:])
        channels = inputs.shape[1] + (0 if reference is None else reference.shape[1])
        if len(size) not in (spec.spatial_dims, 3):
            raise InputError(f"the network takes {spec.spatial_dims}D images, got {len(size)}D {size}")
        if channels != spec.in_channels:
            raise InputError(f"the network takes {spec.in_channels} channel(s), the image has {channels}")
        for axis, (n, s) in enumerate(zip(size, scale, strict=True)):
            if n < 2 and s != 1:
                raise InputError(f"axis {axis} has a single voxel; there is nothing to interpolate along it")
        voxels = prod(output_shape(size, scale))
        if voxels > self.max_voxels:
            raise GridError(
                f"{size} voxels enlarged by {format_scale(scale)} make {voxels:,} voxels, above the limit of "
                f"{self.max_voxels:,}; choose a smaller scale, or raise max_voxels"
            )
        if reference is not None and tuple(reference.shape[2:]) != output_shape(size, scale):
            raise InputError(
                f"a guidance image must lie on the SR grid {output_shape(size, scale)}, got {tuple(reference.shape[2:])}"
            )
        if spec.spatial_dims == 2 and len(size) == 3 and scale[self._slice_axis(inputs)] != 1:
            raise GridError(
                f"a 2D network enlarges {self.slice_plane} slices in-plane only; got {format_scale(scale)}, where axis "
                f"{self._slice_axis(inputs)} is through-plane"
            )

    def _slice_axis(self, inputs: torch.Tensor) -> int:
        if isinstance(inputs, MetaTensor):
            return anatomical_axis(_affines(inputs)[0], self.slice_plane)
        return inputs.ndim - 3

    def _run(
        self,
        lr: torch.Tensor,
        network: nn.Module,
        spec: NetworkSpec,
        inputs: torch.Tensor,
        reference: torch.Tensor | None,
        result: SuperResolution,
    ) -> None:
        size = tuple(lr.shape[2:])
        shape = (lr.shape[0], spec.out_channels, *output_shape(size, result.scale))
        result.image = torch.empty(shape, device=self.output_device)
        result.deviation = torch.empty(shape, device=self.output_device) if self.ensemble else None
        if spec.spatial_dims == len(size):
            source = make_source(lr, result.scale, spec, reference)
            self._run_tiles(source, network, spec, result, result.image, result.deviation)
            return
        axis = 2 + self._slice_axis(inputs)
        in_plane = tuple(s for a, s in enumerate(result.scale) if a != axis - 2)
        for position in self._slice_groups(lr, axis, in_plane, spec):
            slices = lr.movedim(axis, 0)[position].flatten(0, 1)
            guide = None if reference is None else reference.movedim(axis, 0)[position].flatten(0, 1)
            source = make_source(slices.contiguous(), in_plane, spec, guide)
            images = torch.empty((slices.shape[0], *result.image.movedim(axis, 0).shape[2:]), device=self.output_device)
            spread = None if result.deviation is None else torch.empty_like(images)
            self._run_tiles(source, network, spec, result, images, spread)
            result.image.movedim(axis, 0)[position] = images.unflatten(0, (-1, lr.shape[0]))
            if result.deviation is not None and spread is not None:
                result.deviation.movedim(axis, 0)[position] = spread.unflatten(0, (-1, lr.shape[0]))

    def _slice_groups(self, lr: torch.Tensor, axis: int, scale: Scale, spec: NetworkSpec) -> Iterator[slice]:
        """Slices that are run together: as many as fit, at most 16."""
        plane = prod(n for a, n in enumerate(lr.shape) if a not in (0, 1, axis))
        if spec.interpolation is not None:
            plane = round(plane * prod(float(s) for s in scale))
        together = max(1, min(16, self._budget(spec) // max(1, plane * lr.shape[0])))
        for start in range(0, lr.shape[axis], together):
            yield slice(start, min(start + together, lr.shape[axis]))

    def _budget(self, spec: NetworkSpec) -> int:
        """Network input voxels whose activations fit the memory limit."""
        return max(1, int(self.memory_mb * 2**20 / max(1, spec.bytes_per_voxel)))

    def _run_tiles(
        self,
        source: Source,
        network: nn.Module,
        spec: NetworkSpec,
        result: SuperResolution,
        image: torch.Tensor,
        deviation: torch.Tensor | None,
    ) -> None:
        shape, align = source.shape, spec.size_multiple
        budget = self._budget(spec) // source.batch
        if spec.halo is None and prod(shape) > budget:
            raise InputError(
                f"this network looks at the whole image, which needs {prod(shape) * spec.bytes_per_voxel / 2**20:.0f} "
                f"MiB of memory; the limit is {self.memory_mb}: raise memory_mb"
            )
        if self.tile_size is not None and spec.halo is not None:
            size = [self.tile_size] * len(shape) if isinstance(self.tile_size, int) else list(self.tile_size)
            tiles = regular_tiles(shape, size, align)
        else:
            tiles = plan_tiles(shape, spec.halo or 0, budget, align)
        halo = max(shape) if spec.halo is None else spec.halo
        for tile in tiles:
            for done in self.runner.run(tile, source, network, halo, align):
                window = (..., *done.slices)
                image[window] = done.image.to(image.device)
                if deviation is not None and done.deviation is not None:
                    deviation[window] = done.deviation.to(deviation.device)
                result.tiles += 1
        for warning in self.runner.take_warnings():
            if warning not in result.warnings:
                result.warnings.append(warning)


def _spec(network: nn.Module) -> NetworkSpec:
    inner = getattr(network, "module", network)  # DistributedDataParallel
    spec = getattr(getattr(inner, "_orig_mod", inner), "spec", None)
    if not isinstance(spec, NetworkSpec):
        raise InputError(f"{type(network).__name__} has no spec; use a network of medsr.networks")
    return spec


def _affines(image: MetaTensor) -> list[np.ndarray]:
    affine = image.affine.detach().cpu().numpy()
    return [affine] if affine.ndim == 2 else list(affine)


def with_sr_affine(image: torch.Tensor, lr: MetaTensor, scale: Scale) -> MetaTensor:
    """A MetaTensor with the LR image's meta and the SR grid's affine."""
    affines = [torch.as_tensor(scaled_affine(a, scale)) for a in _affines(lr)]
    result = MetaTensor(image, meta=dict(lr.meta))
    result.is_batch = lr.is_batch
    result.affine = affines[0] if lr.affine.ndim == 2 else torch.stack(affines)
    return result
