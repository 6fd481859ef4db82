"""The preparation of two images for every fidelity metric: checks, border, slices and data range.

One case is ``(C, *spatial)``, a batch ``(B, C, *spatial)``; there is one value per case. Channels belong to
the case: a metric is taken over all of them. Everything is computed in float64, whatever the input, so integer
images cannot wrap and float16 images do not lose the error that is being measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from medsr.errors import InputError

DataRange = float | Literal["target"]


@dataclass(frozen=True)
class Pair:
    """Two checked images of equal size, ready to be compared item by item.

    Attributes:
        pred: The image to measure, (N, C, *spatial), float64; N is the number of cases, or of cases times slices.
        target: The true image, of the same form.
        mask: The voxels that count, (N, C, *spatial), bool; None for all voxels.
        data_range: The data range, (N,), float64; None if the metric needs none.
        slices: The number of slices per case; None if whole images are compared.
        single: Whether the caller gave one case, not a batch.
    """

    pred: Tensor
    target: Tensor
    mask: Tensor | None
    data_range: Tensor | None
    slices: int | None
    single: bool

    @property
    def spatial_dims(self) -> int:
        """The number of spatial axes, 2 or 3."""
        return self.pred.ndim - 2

    def mean(self, voxels: Tensor) -> Tensor:
        """Return the means (N,) of `voxels` (N, C, *spatial) over the mask; NaN for a slice outside the mask."""
        if self.mask is None:
            return voxels.flatten(1).mean(1)
        return voxels.masked_fill(~self.mask, 0).flatten(1).sum(1) / self.mask.flatten(1).sum(1)

    def per_case(self, values: Tensor, metric: str) -> Tensor:
        """Return one value per case (0-d for a single case) from values (N,), the mean over slices if there are any.

        A slice without a value (NaN: outside the mask, or a ratio to an empty slice) is left out, and so is
        one with an infinite value (PSNR of two equal slices), unless all values are infinite.

        Raises:
            InputError: If a case has no value at all.
        """
        cases = values if self.slices is None else mean_of_finite(values.view(-1, self.slices))
        if cases.isnan().any():
            raise InputError(
                f"{metric} has no value: the target is zero, or no window of the image lies in the mask; "
                "leave this case out or give another mask"
            )
        return cases[0] if self.single else cases


def mean_of_finite(values: Tensor) -> Tensor:
    """Return the mean of the finite values along the last axis; without any, infinity if there is one, else NaN."""
    finite = values.isfinite()
    mean = values.masked_fill(~finite, 0).sum(-1) / finite.sum(-1)
    infinite = values.masked_fill(values.isnan(), 0).amax(-1)
    return torch.where(mean.isnan() & infinite.isinf(), infinite, mean)


@torch.no_grad()
def make_pair(
    pred: Tensor,
    target: Tensor,
    *,
    data_range: DataRange | None = None,
    border: int | Sequence[int] = 0,
    mask: Tensor | None = None,
    spatial_dims: int | None = None,
    slice_axis: int | None = None,
) -> Pair:
    """Check two images and bring them into the form in which they are compared.

    Args:
        pred: The image to measure, (C, *spatial) or (B, C, *spatial), of any real dtype.
        target: The true image, of the same shape.
        data_range: The data range, as a number, or "target" for max - min of each whole target, before border, mask
            and slicing.
        border: The number of voxels removed on every side, one number or one per compared axis (the two in-plane axes
            if `slice_axis` is given).
        mask: The mask, bool or of 0 and 1, true where voxels count: (*spatial) for a case, the images' shape, or that
            with one channel for all.
        spatial_dims: The number of spatial axes, 2 or 3; needed only for a 4D tensor, which is a volume or a batch of
            2D images.
        slice_axis: The spatial axis (0, 1 or 2) along which a volume is compared slice by slice; None for whole
            images.

    Raises:
        InputError: If the shapes, values, data range, border or mask allow no comparison.
    """
    pred, target = _as_double(pred, "prediction"), _as_double(target, "target").to(pred.device)
    if pred.shape != target.shape:
        raise InputError(
            f"prediction and target must have one shape, got {tuple(pred.shape)} and {tuple(target.shape)}"
        )
    dims = _spatial_dims(pred, spatial_dims)
    single = pred.ndim == dims + 1
    if single:
        pred, target = pred[None], target[None]
    ranges = _data_ranges(data_range, target)
    inside = None if mask is None else _as_mask(mask, pred, single)
    slices = None
    if slice_axis is not None:
        if dims != 3 or slice_axis not in (0, 1, 2):
            raise InputError(f"slices need a 3D volume and axis 0, 1 or 2, got {dims}D and axis {slice_axis!r}")
        slices = pred.shape[2 + slice_axis]
        pred, target = _to_slices(pred, slice_axis), _to_slices(target, slice_axis)
        inside = None if inside is None else _to_slices(inside, slice_axis)
        ranges = None if ranges is None else ranges.repeat_interleave(slices)
    crop = _border_crop(border, pred.shape[2:])
    pred, target = pred[crop], target[crop]
    if inside is not None:
        inside = inside[crop]
        if not inside.reshape(len(inside) // (slices or 1), -1).any(1).all():
            raise InputError("the mask has no voxel inside the border: give a mask that covers part of the image")
    return Pair(pred, target, inside, ranges, slices, single)


def _as_double(image: Tensor, name: str) -> Tensor:
    if not isinstance(image, Tensor) or image.is_complex():
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise InputError(f"the {name} must be a real torch tensor, got {kind}")
    image = image.detach()
    image = image.as_tensor() if hasattr(image, "as_tensor") else image  # a MetaTensor only costs time here
    if image.device.type == "mps":  # it has no float64
        image = image.cpu()
    image = image.double()
    if image.numel() == 0:
        raise InputError(f"the {name} is empty: its shape is {tuple(image.shape)}")
    if not image.isfinite().all():
        bad = int((~image.isfinite()).sum())
        raise InputError(f"the {name} must hold finite numbers, {bad} of {image.numel()} voxels are NaN or infinite")
    return image


def _spatial_dims(image: Tensor, spatial_dims: int | None) -> int:
    if spatial_dims is None:
        if image.ndim == 4:
            raise InputError(
                f"a 4D tensor {tuple(image.shape)} is a (C, X, Y, Z) volume or a batch (B, C, X, Y): "
                "say which by spatial_dims=3 or spatial_dims=2"
            )
        spatial_dims = {3: 2, 5: 3}.get(image.ndim, 0)
    if spatial_dims not in (2, 3) or image.ndim not in (spatial_dims + 1, spatial_dims + 2):
        raise InputError(
            f"expected 2D or 3D images as (C, *spatial) or (B, C, *spatial), got shape {tuple(image.shape)}"
        )
    return spatial_dims


def _data_ranges(data_range: DataRange | None, target: Tensor) -> Tensor | None:
    """Return the data range of each case, (B,)."""
    if data_range is None:
        return None
    if isinstance(data_range, str):
        if data_range != "target":
            raise InputError(f'the data range must be a number or "target", got {data_range!r}')
        ranges = target.flatten(1).amax(1) - target.flatten(1).amin(1)
        if not (ranges > 0).all():
            raise InputError("the target is constant, so it has no data range: give data_range as a number")
        return ranges
    if isinstance(data_range, bool) or not (isfinite(data_range) and data_range > 0):
        raise InputError(f"the data range must be a positive number (max - min of the scale), got {data_range!r}")
    return target.new_full((len(target),), float(data_range))


def _as_mask(mask: Tensor, image: Tensor, single: bool) -> Tensor:
    """Return the mask as bool of the batch's shape (B, C, *spatial)."""
    if not isinstance(mask, Tensor):
        raise InputError(f"the mask must be a torch tensor, got {type(mask).__name__}")
    given = tuple(mask.shape)
    mask = mask.detach()
    mask = (mask.as_tensor() if hasattr(mask, "as_tensor") else mask).to(image.device)
    if mask.dtype != torch.bool:
        if not ((mask == 0) | (mask == 1)).all():
            raise InputError("the mask must be bool or hold only 0 and 1: compare it with a threshold first")
        mask = mask == 1
    if single:
        mask = mask[None, None] if mask.ndim == image.ndim - 2 else mask[None]
    wanted = tuple(image.shape)
    if mask.ndim != image.ndim or tuple(mask.shape) not in (wanted, (wanted[0], 1, *wanted[2:])):
        raise InputError(
            f"the mask must have the image's shape {wanted[1:] if single else wanted}, or that with one "
            f"channel, got {given}"
        )
    return mask.expand(wanted)


def _to_slices(volume: Tensor, axis: int) -> Tensor:
    """Return the slices (B * slices, C, a, b) of volumes (B, C, X, Y, Z), with the in-plane axes in their order."""
    return volume.movedim(2 + axis, 1).flatten(0, 1)


def _border_crop(border: int | Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    widths = list(border) if isinstance(border, Sequence) else [border] * len(shape)
    if len(widths) != len(shape) or any(isinstance(w, bool) or not isinstance(w, int) or w < 0 for w in widths):
        raise InputError(f"the border must be a voxel count >= 0 or {len(shape)} of them, one per axis, got {border}")
    if any(2 * w >= n for w, n in zip(widths, shape, strict=True)):
        raise InputError(f"a border of {widths} voxels on every side leaves nothing of an image of {tuple(shape)}")
    return (slice(None), slice(None), *(slice(w, n - w) for w, n in zip(widths, shape, strict=True)))
