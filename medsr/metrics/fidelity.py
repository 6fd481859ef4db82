"""Voxelwise fidelity of an image p to the target t: MSE, MAE, NMSE, PSNR.

All functions take ``(C, *spatial)`` and return a 0-d tensor, or take ``(B, C, *spatial)`` and return ``(B,)``, float64.
The keywords are those of `medsr.metrics.image_pair.make_pair`: `border`, `mask`, `spatial_dims` (needed for a 4D
tensor), `slice_axis` (mean over the slices of a volume), and for PSNR `data_range`, which has no default because a
PSNR without it means nothing. All functions raise `InputError` if the images cannot be compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medsr.metrics.image_pair import DataRange, Pair, make_pair

__all__ = ["mae", "mse", "nmse", "psnr"]


def mse(
    pred: Tensor,
    target: Tensor,
    *,
    border: int | Sequence[int] = 0,
    mask: Tensor | None = None,
    spatial_dims: int | None = None,
    slice_axis: int | None = None,
) -> Tensor:
    """Return the mean squared error, mean((p - t)^2), in squared intensity units."""
    pair = make_pair(pred, target, border=border, mask=mask, spatial_dims=spatial_dims, slice_axis=slice_axis)
    return pair.per_case(mse_values(pair), "MSE")


def mae(
    pred: Tensor,
    target: Tensor,
    *,
    border: int | Sequence[int] = 0,
    mask: Tensor | None = None,
    spatial_dims: int | None = None,
    slice_axis: int | None = None,
) -> Tensor:
    """Return the mean absolute error, mean(|p - t|), in intensity units."""
    pair = make_pair(pred, target, border=border, mask=mask, spatial_dims=spatial_dims, slice_axis=slice_axis)
    return pair.per_case(mae_values(pair), "MAE")


def nmse(
    pred: Tensor,
    target: Tensor,
    *,
    border: int | Sequence[int] = 0,
    mask: Tensor | None = None,
    spatial_dims: int | None = None,
    slice_axis: int | None = None,
) -> Tensor:
    """Return the normalised mean squared error, ||p - t||^2 / ||t||^2 (no unit; depends on where zero intensity lies).

    Raises:
        InputError: If the target is zero wherever it is compared.
    """
    pair = make_pair(pred, target, border=border, mask=mask, spatial_dims=spatial_dims, slice_axis=slice_axis)
    return pair.per_case(nmse_values(pair), "NMSE")


def psnr(
    pred: Tensor,
    target: Tensor,
    *,
    data_range: DataRange,
    border: int | Sequence[int] = 0,
    mask: Tensor | None = None,
    spatial_dims: int | None = None,
    slice_axis: int | None = None,
) -> Tensor:
    """Return the peak signal-to-noise ratio in dB, 10 log10(R^2 / MSE), where R is the data range.

    Equal images have an infinite PSNR; reports leave it out of the mean and count it. With `data_range` "target",
    R is max - min of each target, taken before border and mask.

    Examples:
        >>> import torch
        >>> from medsr.metrics import psnr
        >>> target = torch.zeros(1, 8, 8)
        >>> psnr(target + 0.1, target, data_range=1.0).round(decimals=4)
        tensor(20., dtype=torch.float64)

        A batch has one value per case:

        >>> psnr(torch.stack([target + 0.1, target]), torch.zeros(2, 1, 8, 8), data_range=1.0, spatial_dims=2)
        tensor([20.0000,     inf], dtype=torch.float64)
    """
    pair = make_pair(
        pred,
        target,
        data_range=data_range,
        border=border,
        mask=mask,
        spatial_dims=spatial_dims,
        slice_axis=slice_axis,
    )
    return pair.per_case(psnr_values(pair), "PSNR")


def mse_values(pair: Pair) -> Tensor:
    """Return the mean squared errors of checked images, (N,)."""
    return pair.mean((pair.pred - pair.target).square())


def mae_values(pair: Pair) -> Tensor:
    """Return the mean absolute errors of checked images, (N,)."""
    return pair.mean((pair.pred - pair.target).abs())


def nmse_values(pair: Pair) -> Tensor:
    """Return the normalised mean squared errors of checked images, (N,); NaN where the target is zero."""
    energy = pair.mean(pair.target.square())
    return torch.where(energy > 0, mse_values(pair) / energy, torch.nan)


def psnr_values(pair: Pair) -> Tensor:
    """Return the PSNR of checked images in dB, (N,); infinite where they are equal."""
    assert pair.data_range is not None
    return 10 * torch.log10(pair.data_range.square() / mse_values(pair))
