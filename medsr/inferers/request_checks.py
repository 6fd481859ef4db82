"""Checks of what an inferer is asked for (network, image, scale), with one-line errors for what is impossible."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import nn

from medsr.errors import GridError, InputError
from medsr.geometry import (
    Grid,
    Scale,
    ScaleLike,
    anatomical_axis,
    as_scale,
    check_enlarging,
    format_scale,
    output_shape,
    scale_for_spacing,
    scale_from_text,
    scaled_affine,
    spacing_of,
)
from medsr.networks import NetworkSpec
from medsr.transforms.pairs import LR_SCALE


def network_spec(network: nn.Module) -> NetworkSpec:
    """Return the spec of a network, which may be compiled or wrapped for distributed training.

    Raises:
        InputError: If the network has no spec.
    """
    inner = getattr(network, "module", network)  # DistributedDataParallel
    spec = getattr(getattr(inner, "_orig_mod", inner), "spec", None)
    if not isinstance(spec, NetworkSpec):
        raise InputError(f"{type(network).__name__} has no spec; use a network of medsr.networks")
    return spec


def affines_of(image: MetaTensor) -> list[NDArray[np.float64]]:
    """Return the affine of each image of a batch, or the one affine that all of them share."""
    affine = image.affine.detach().cpu().numpy()
    return [affine] if affine.ndim == 2 else list(affine)


def with_sr_affine(image: torch.Tensor, lr: MetaTensor, scale: Scale) -> MetaTensor:
    """Return a MetaTensor with the SR grid's affine and the LR image's meta, without what described the LR grid."""
    affines = [torch.as_tensor(scaled_affine(a, scale)) for a in affines_of(lr)]
    meta = {key: value for key, value in lr.meta.items() if key not in (LR_SCALE, "spatial_shape")}
    result = MetaTensor(image)
    result.meta = meta  # not by the constructor, which refuses a batch's original_channel_dim (one per image)
    result.is_batch = lr.is_batch
    result.affine = affines[0] if lr.affine.ndim == 2 else torch.stack(affines)
    return result


def slice_axis(image: torch.Tensor, plane: str) -> int:
    """Return the spatial axis across the slices of an anatomical plane; the last one for an image without an affine.

    Raises:
        GridError: If the images of the batch have different orientations.
    """
    if not isinstance(image, MetaTensor):
        return image.ndim - 3
    axes = {anatomical_axis(affine, plane) for affine in affines_of(image)}
    if len(axes) > 1:
        raise GridError(f"the {plane} slices of this batch lie along different axes; use batches of one image")
    return axes.pop()


def requested_scale(
    image: torch.Tensor,
    spec: NetworkSpec,
    scale: ScaleLike | None,
    spacing: float | Sequence[float] | None,
    plane: str,
) -> Scale:
    """Return the scale per spatial axis as exact fractions.

    The first of these that is given counts: `scale`; the scale that leads to `spacing` (mm); the scale recorded when
    the LR image was simulated; the scale that a fixed network was built for. For a 2D network on a volume, one number
    means the in-plane scale.

    Raises:
        GridError: If none of them is given, or the scale is impossible.
    """
    size = tuple(image.shape[2:])
    if scale is None and spacing is not None:
        return _scale_to_spacing(image, spacing)
    requested: Any = scale if scale is not None else _recorded_scale(image)
    if requested is None and spec.scales is None:
        raise GridError("no scale: give a scale (2, or one per axis) or a target spacing in mm")
    if requested is not None and not isinstance(requested, str) and hasattr(requested, "__len__"):
        return check_enlarging(as_scale(requested, len(size), size))
    values = [requested] * spec.spatial_dims if requested is not None else list(spec.scales or ())
    if spec.spatial_dims < len(size):
        values.insert(slice_axis(image, plane), 1)
    return check_enlarging(as_scale(values, len(size), size))


def _scale_to_spacing(image: torch.Tensor, spacing: float | Sequence[float]) -> Scale:
    size = tuple(image.shape[2:])
    if not isinstance(image, MetaTensor):
        raise GridError("a target spacing needs an image with an affine; give a scale instead")
    scales = {scale_for_spacing(spacing_of(a, len(size)), spacing, size) for a in affines_of(image)}
    if len(scales) > 1:
        raise GridError("the images of this batch need different scales; use batches of one image")
    return scales.pop()


def _recorded_scale(image: torch.Tensor) -> Scale | None:
    recorded = image.meta.get(LR_SCALE) if isinstance(image, MetaTensor) else None
    texts = set(recorded if isinstance(recorded, list | tuple) else [recorded]) - {None, ""}
    if len(texts) > 1:
        raise GridError(f"this batch was simulated at several scales {sorted(texts)}; use batches of one image")
    return scale_from_text(texts.pop()) if texts else None


def check_image(image: torch.Tensor, spec: NetworkSpec, reference: torch.Tensor | None) -> None:
    """Refuse images that the network cannot take.

    Raises:
        InputError: If the image has the wrong number of axes or channels, no voxels, or values that are not finite.
        GridError: If the affine is unusable.
    """
    size = tuple(image.shape[2:])
    if len(size) not in (spec.spatial_dims, 3) or 0 in image.shape:
        raise InputError(
            f"the network takes {spec.spatial_dims}D images (batch, channel, *spatial), got {tuple(image.shape)}"
        )
    extra = 0 if reference is None else reference.shape[1]
    if image.shape[1] + extra != spec.in_channels:
        with_guidance = f" and {extra} of guidance" if extra else ""
        raise InputError(
            f"the network takes {spec.in_channels} channel(s), but the image has {image.shape[1]}{with_guidance}"
        )
    if not torch.isfinite(image.as_tensor() if isinstance(image, MetaTensor) else image).all():
        raise InputError("the image holds NaN or infinite values; replace them first")
    if isinstance(image, MetaTensor):
        for affine in affines_of(image):
            Grid((*size, 1)[:3], affine)


def check_result(
    image: torch.Tensor, spec: NetworkSpec, scale: Scale, reference: torch.Tensor | None, plane: str, max_voxels: int
) -> None:
    """Refuse scales that do not suit the image, the network or the guidance.

    Raises:
        GridError: If the result has too many voxels, or a 2D network is asked to enlarge across its slices.
        InputError: If an axis to enlarge has a single voxel, or the guidance is on another grid.
    """
    size = tuple(image.shape[2:])
    shape = output_shape(size, scale)
    for axis, (n, s) in enumerate(zip(size, scale, strict=True)):
        if n < 2 and s != 1:
            raise InputError(
                f"axis {axis} has a single voxel and cannot be enlarged, got {format_scale(scale)}; use scale 1 for it"
            )
    if prod(shape) > max_voxels:
        raise GridError(
            f"{size} voxels enlarged by {format_scale(scale)} make {prod(shape):,} voxels, above the limit "
            f"of {max_voxels:,}; choose a smaller scale, or raise max_voxels"
        )
    if reference is not None and (reference.shape[0], *reference.shape[2:]) != (image.shape[0], *shape):
        raise InputError(
            f"the guidance must be {image.shape[0]} image(s) on the SR grid {shape}, got {tuple(reference.shape)}"
        )
    if spec.spatial_dims == 2 and len(size) == 3 and scale[slice_axis(image, plane)] != 1:
        raise GridError(
            f"a 2D network enlarges {plane} slices in-plane only, and axis {slice_axis(image, plane)} is "
            f"through-plane, got {format_scale(scale)}; use scale 1 or the present spacing for that axis"
        )
