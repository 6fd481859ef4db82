"""The inferer for all families of networks: exact tiles, bounded memory and the right grid."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from torch import nn

from medsr.degradation import Degradation
from medsr.errors import GridError, InputError, about
from medsr.geometry import Scale, ScaleLike, anatomical_axis, as_scale, format_scale, output_shape
from medsr.inferers.between_scales import REFUSE, UP_AND_DOWN, check_between_scales, next_larger, reduced
from medsr.inferers.facts import FACTS
from medsr.inferers.formed import NetworkInputs, as_asked, as_slices, formed_image, guarded, read_request
from medsr.inferers.planning import choose_tiles, slice_groups
from medsr.inferers.request_checks import (
    check_image,
    check_result,
    network_spec,
    requested_scale,
    slice_axis,
    with_sr_affine,
)
from medsr.inferers.result import ImageFindings, SuperResolution
from medsr.inferers.tile_runner import TileRunner, is_out_of_memory
from medsr.inferers.tile_sources import Source, make_source
from medsr.inferers.tiling import part
from medsr.networks import Family, NetworkSpec
from medsr.weights import CONSISTENT, INTERPOLATED, check_start

logger = logging.getLogger(__name__)


class SuperResolutionInferer(Inferer):
    """An inferer that enlarges LR images with a network, by a scale or to a target spacing.

    The result has the grid that `medsr.geometry` prescribes. For networks with a finite halo it equals the
    whole-image result up to float32 rounding, however it is tiled: the output tiles partition the image, each
    reads its input with the network's halo, and nothing is blended. A tile that does not fit into memory
    is halved and run again, with a warning. Any other failure stops the run.

    Networks of the restore family get the image interpolated with their own kernel at global coordinates,
    tile by tile; those of the arbitrary family are asked for output voxels at global coordinates. 2D networks
    run over the slices of a volume.

    Args:
        scale: The scale, one number or one per array axis. For a 2D network on a volume, one number means the
            in-plane scale. Without `scale` and `spacing` the scale is the one recorded when the LR image was
            simulated, or else the one that a fixed network was built for.
        spacing: The target voxel size in mm, one number or one per array axis, instead of `scale`.
        tile_size: The network input voxels per tile and axis of the network, without the halo; by default planned
            from `memory_mb`. A network that looks at the whole image is never tiled.
        memory_mb: The memory in MiB that the network's forward pass may take, beside its weights, the input and the
            results; an error is raised if the network needs more. An allocator that keeps freed memory
            (`medsr.runtime.keep_freed_memory`) may hold up to twice as much.
        slice_plane: The anatomical plane of the slices that a 2D network sees, "axial", "coronal" or "sagittal".
        precision: The autocast precision of the network, "float32" (none), "bfloat16" or "float16"; the input, the
            residual and the output stay float32.
        channels_last: Whether the network and the tiles use the channels-last memory layout. It changes nothing but
            rounding; plain stacks of convolutions are some 5 to 15 % faster with it on a CPU.
        compile: Whether to run the network through `torch.compile`.
        ensemble: Whether to average over all flips of the image and report their standard deviation.
        between_scales: What to do if a fixed network was not built for the scale: "refuse", or "up-and-down", which
            enlarges by the next larger scale it was built for, then reduces by cubic interpolation (Zhu 2022, section
            4.3.4). Meanwhile the larger image, or that of some slices, is held in memory.
        formation: How the LR image was formed: "auto" (its header, or else an estimate), a formation in the words of
            `medsr.formation.parse_formation`, a degradation, "simulated" for the one that simulated it, or None. The
            result is made consistent with it exactly, which takes about two further images of its size.
        start: What a restore network reads, as its weights were trained: "interpolated", or "consistent" for the
            interpolated image that was made consistent with the formation.
        safe: Whether the interpolated image, made consistent, takes the place of a result that exceeds the limits of
            `medsr.inferers.guards`.
        device: The device that the network is moved to and runs on; by default the one it is on.
        output_device: The device on which results are collected.
        max_voxels: The largest number of voxels of a result.

    Examples:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> from medsr.inferers import SuperResolutionInferer
        >>> from medsr.networks import create
        >>> network = create("recnn-10l", depth=3, features=4)
        >>> lr = MetaTensor(torch.rand(1, 1, 8, 10, 6), affine=torch.diag(torch.tensor([1.0, 1.0, 3.0, 1.0])))
        >>> sr = SuperResolutionInferer(spacing=1.0, memory_mb=64)(lr, network)
        >>> tuple(sr.shape), sr.affine.diagonal().tolist(), sr.affine[2, 3].item()
        ((1, 1, 8, 10, 18), [1.0, 1.0, 1.0, 1.0], -1.0)
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
        compile: bool = False,
        ensemble: bool = False,
        between_scales: str = REFUSE,
        formation: Degradation | str | Mapping[str, Any] | None = None,
        start: str = INTERPOLATED,
        safe: bool = False,
        device: str | torch.device | None = None,
        output_device: str | torch.device = "cpu",
        max_voxels: int = 2**30,
    ) -> None:
        if scale is not None and spacing is not None:
            raise GridError("give a scale or a target spacing, not both")
        sizes = [tile_size] if isinstance(tile_size, int) else list(tile_size or [])
        if memory_mb <= 0 or any(n < 1 for n in sizes):
            raise InputError(f"memory_mb and tile_size must be positive, got {memory_mb} and {tile_size}")
        anatomical_axis(np.eye(4), slice_plane)  # refuses a wrong name now, not at the first volume
        self.scale = scale
        self.spacing = spacing
        self.tile_size = tile_size
        self.memory_mb = memory_mb
        self.slice_plane = slice_plane
        self.precision = precision
        self.ensemble = ensemble
        self.between_scales = check_between_scales(between_scales, ensemble)
        self.formation = read_request(formation)
        self.start = check_start(start)
        self.safe = safe
        self.device = None if device is None else torch.device(device)
        self.output_device = torch.device(output_device)
        self.max_voxels = max_voxels
        self.runner = TileRunner(precision, channels_last, compile, ensemble)

    def __call__(  # type: ignore[override]  # a network with a spec, not just any callable
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
            inputs: The LR images, (B, C, *spatial), with values about [0, 1]; a MetaTensor's affine gives spacing and
                orientation.
            network: A network with a `spec`.
            scale: The scale of this call, instead of the inferer's.
            reference: The guidance images on the SR grid, (B, C', *SR spatial), for networks that take them.
            args: Not used; accepted because MONAI's engines may pass some.
            kwargs: Not used, like `args`.

        Returns:
            The SR images, (B, C, *SR spatial), float32 on `output_device`, as a MetaTensor with the SR affine if
            `inputs` is one. Its `meta` then holds the `InferenceFacts` of each image, which decollating keeps with it.

        Raises:
            GridError: If no scale is known, the scale is impossible, or the result has more voxels than `max_voxels`.
            InputError: If the network cannot take the images, or has to be given more memory.
        """
        with about(inputs):
            result = self.enlarge(inputs, network, scale=scale, reference=reference)
        if isinstance(result.image, MetaTensor):
            request = {"scale": self.scale if scale is None else scale, "spacing": self.spacing}
            facts = result.facts(request, self._settings())
            # As with the affine, a batch that was not collated has one `meta`, that of its only image.
            result.image.meta[FACTS] = facts if result.image.is_batch or len(facts) > 1 else facts[0]
        return result.image

    def _settings(self) -> dict[str, Any]:
        """Return the options that change voxels, for the record."""
        settings = {name: getattr(self, name) for name in ("precision", "ensemble", "start", "safe")}
        settings["formation"] = as_asked(self.formation)
        return settings if self.between_scales == REFUSE else {**settings, "between_scales": self.between_scales}

    def enlarge(
        self,
        inputs: torch.Tensor,
        network: nn.Module,
        *,
        scale: ScaleLike | None = None,
        reference: torch.Tensor | None = None,
    ) -> SuperResolution:
        """Like `__call__`, but return the full result."""
        started = time.perf_counter()
        spec = network_spec(network)
        check_image(inputs, spec, reference)
        exact = self.exact_scale(inputs, spec, scale)
        check_result(inputs, spec, exact, reference, self.slice_plane, self.max_voxels)
        lr = _plain(inputs)
        result = SuperResolution(torch.empty(0), None, exact, 0, findings=[ImageFindings() for _ in lr])
        if all(s == 1 for s in exact):
            result.image = lr[:, : spec.out_channels].to(self.output_device, copy=True)
            result.deviation = torch.zeros_like(result.image) if self.ensemble else None
            result.warnings.append("the image has the requested spacing already; returned unchanged")
        else:
            with torch.no_grad(), eval_mode(network):
                self._run(inputs, network, spec, self._slice_axis(inputs, spec), reference, result)
        if isinstance(inputs, MetaTensor):
            result.image = with_sr_affine(result.image, inputs, exact)
            if result.deviation is not None:
                result.deviation = with_sr_affine(result.deviation, inputs, exact)
        result.seconds = time.perf_counter() - started
        logger.debug("%s voxels by %s in %d tiles", tuple(lr.shape[2:]), format_scale(exact), result.tiles)
        return result

    def exact_scale(self, inputs: torch.Tensor, spec: NetworkSpec, override: ScaleLike | None = None) -> Scale:
        """Return the scale per spatial axis as exact fractions; `override` comes first, then see `requested_scale`."""
        requested = self.scale if override is None else override
        return requested_scale(inputs, spec, requested, self.spacing, self.slice_plane)

    def _slice_axis(self, inputs: torch.Tensor, spec: NetworkSpec) -> int | None:
        """Return the spatial axis across the slices for a 2D network on a volume, else None."""
        return slice_axis(inputs, self.slice_plane) if spec.spatial_dims < inputs.ndim - 2 else None

    def _run(
        self,
        images: torch.Tensor,
        network: nn.Module,
        spec: NetworkSpec,
        across: int | None,
        reference: torch.Tensor | None,
        result: SuperResolution,
    ) -> None:
        """Fill `result` with the network's output for `images` (B, C, *spatial), made consistent."""
        device = self.device or next(iter(network.parameters()), images).device
        network.to(device)
        self.runner.prepare(network)
        lr = _plain(images).to(device)
        guide = None if reference is None else _plain(reference)
        shape = (lr.shape[0], spec.out_channels, *output_shape(lr.shape[2:], result.scale))
        result.image = self._empty(shape)
        result.deviation = self._empty(shape) if self.ensemble else None
        kernel = spec.interpolation or "spline3"
        consistent = self.start == CONSISTENT and spec.family is Family.RESTORE
        for k, found in enumerate(result.findings):
            found.formed = formed_image(self.formation, images[k], lr[k : k + 1], result.scale)
            if consistent:  # one by one: each has a formation of its own
                own = None if guide is None else guide[k : k + 1]
                inputs = NetworkInputs(lr[k : k + 1], own) if found.formed is None else found.formed.inputs(own, kernel)
                self._run_batch(inputs, spec, across, result, slice(k, k + 1))
        if not consistent:
            self._run_batch(NetworkInputs(lr, guide), spec, across, result, slice(None))
        for k, found in enumerate(result.findings):
            image, measured = result.image[k : k + 1], lr[k : k + 1, : spec.out_channels].to(self.output_device)
            if found.formed is not None:
                found.formed.obey(image)
            found.guards, replaced = guarded(image, measured, result.scale, found.formed, kernel if self.safe else None)
            found.warnings += replaced

    def _run_batch(
        self, inputs: NetworkInputs, spec: NetworkSpec, across: int | None, result: SuperResolution, batch: slice
    ) -> None:
        """Fill the images of a part of the batch."""
        image, deviation = result.image[batch], None if result.deviation is None else result.deviation[batch]
        if across is None:
            self._run_images(inputs, result.scale, spec, result, image, deviation)
            return
        in_plane = tuple(s for axis, s in enumerate(result.scale) if axis != across)
        for position in slice_groups(inputs.lr, across, in_plane, spec, self.memory_mb):
            some = None if deviation is None else as_slices(deviation, across)[position]
            slices = inputs.slices(across, position)
            self._run_images(slices, in_plane, spec, result, as_slices(image, across)[position], some)

    def _run_images(
        self,
        inputs: NetworkInputs,
        scale: Scale,
        spec: NetworkSpec,
        result: SuperResolution,
        image: torch.Tensor,
        deviation: torch.Tensor | None,
    ) -> None:
        """Fill `image` and `deviation`, whose leading axes together are the batch of LR; up and down if allowed."""
        built = next_larger(spec, scale) if self.between_scales == UP_AND_DOWN else None
        if built is None:
            self._run_tiles(make_source(inputs, scale, spec), spec, result, image, deviation)
            return
        larger, shape = as_scale(list(built), len(built)), inputs.lr.shape
        made = self._empty((shape[0], spec.out_channels, *output_shape(shape[2:], larger)))
        self._run_tiles(make_source(inputs, larger, spec), spec, result, made, None)
        image.copy_(reduced(made, shape[2:], built, scale).reshape(image.shape))
        how = f"enlarged by {format_scale(larger)}, then reduced to {format_scale(scale)} by cubic interpolation"
        result.warnings += [] if how in result.warnings else [how]

    def _empty(self, shape: Sequence[int]) -> torch.Tensor:
        try:
            return torch.empty(tuple(shape), device=self.output_device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                f"a result of {tuple(shape)} takes {4 * prod(shape) / 2**30:.1f} GiB, more than is free on "
                f"{self.output_device}; choose a smaller scale"
            ) from None

    def _run_tiles(
        self,
        source: Source,
        spec: NetworkSpec,
        result: SuperResolution,
        image: torch.Tensor,
        deviation: torch.Tensor | None,
    ) -> None:
        """Fill `image` and `deviation`, whose leading axes together are the source's batch."""
        tiles, warnings = choose_tiles(source, spec, self.memory_mb, self.tile_size)
        result.warnings += [warning for warning in warnings if warning not in result.warnings]
        for tile in tiles:
            for done in self.runner.run(tile, source, spec):
                target = part(image, done.slices)
                target.copy_(done.image.reshape(target.shape))
                if deviation is not None and done.deviation is not None:
                    part(deviation, done.slices).copy_(done.deviation.reshape(target.shape))
                result.tiles += 1
        result.warnings += self.runner.take_warnings()


def _plain(image: torch.Tensor) -> torch.Tensor:
    return (image.as_tensor() if isinstance(image, MetaTensor) else image).float()
