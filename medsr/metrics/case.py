"""All metrics of one case by a protocol."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from medsr.errors import InputError
from medsr.geometry import ScaleLike, anatomical_axis
from medsr.metrics import fidelity
from medsr.metrics.image_pair import Pair, make_pair, mean_of_finite
from medsr.metrics.protocol import Protocol, get_protocol
from medsr.metrics.ssim import ssim_values

__all__ = ["CaseMetrics"]

_SUSPICIOUS_SPAN = 2.0  # a target spanning more than this many data ranges was probably not normalised


class CaseMetrics:
    """Measure one case.

    Args:
        protocol: a name in `medsr.metrics.PROTOCOLS`, a protocol, or its fields as a dict.
    """

    def __init__(self, protocol: str | Mapping[str, Any] | Protocol = "volume") -> None:
        self.protocol = get_protocol(protocol)

    def __call__(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        scale: ScaleLike | None = None,
        affine: ArrayLike | None = None,
        contrasts: Sequence[str] | None = None,
    ) -> dict[str, float]:
        """Measure `pred` against `target`.

        Several channels are contrasts, whose errors cannot be pooled: each is measured by itself, and the case's value
        is the mean over them (of the finite ones; the published tables have a column for each contrast).

        Args:
            pred: (C, X, Y) or (C, X, Y, Z), any real dtype.
            target: the truth, as `pred`.
            mask: bool, true where voxels count: (*spatial), (1, *spatial) or the shape of `pred`.
            scale: of the case, one number or one an axis; needed where the protocol's border depends on it.
            affine: of the case (4, 4); needed where slices are anatomical and `target` is no MetaTensor.
            contrasts: names of the channels; "channel_0" and so on by default.

        Returns:
            The protocol's metrics by name, and "data_range"; slice-wise also "slices" (those in the mask)
            and, with a PSNR, "infinite_slices" (equal ones, left out of its mean). Of several channels each metric
            also by contrast, as "psnr_T1ce", and so the data ranges, where they differ, and the infinite slices.

        Raises:
            InputError: images that cannot be compared, or a scale or affine that is needed and missing.
        """
        dims = pred.ndim - 1 if isinstance(pred, Tensor) else 0
        if dims not in (2, 3):
            what = tuple(pred.shape) if isinstance(pred, Tensor) else type(pred).__name__
            raise InputError(f"one case is a tensor (C, X, Y) or (C, X, Y, Z), got {what}")
        axis = self._slice_axis(target, affine) if dims == 3 else None
        count = pred.shape[0]
        if count < 2 or pred.shape != target.shape:
            return self._measure(pred, target, mask, scale, axis)
        names = [f"channel_{k}" for k in range(count)] if contrasts is None else list(contrasts)
        if len(names) != count:
            raise InputError(f"the image has {count} channels, got the names of {len(names)}: {', '.join(names)}")
        return _joined(
            [
                self._measure(pred[k : k + 1], target[k : k + 1], _of_channel(mask, k, pred), scale, axis)
                for k in range(count)
            ],
            names,
        )

    def _measure(
        self, pred: Tensor, target: Tensor, mask: Tensor | None, scale: ScaleLike | None, axis: int | None
    ) -> dict[str, float]:
        """One channel, by slices along `axis` if there is one."""
        dims = pred.ndim - 1
        border = list(self.protocol.border_voxels(dims, scale))
        if axis is not None and len(border) == 3:
            del border[axis]
        pair = make_pair(
            pred,
            target,
            data_range=self.protocol.data_range,
            border=border,
            mask=mask,
            spatial_dims=dims,
            slice_axis=axis,
        )
        assert pair.data_range is not None
        self._warn_of_units(pair)
        result: dict[str, float] = {}
        for metric in self.protocol.metrics:
            values = self._values(metric, pair)
            result[metric] = pair.per_case(values, metric.upper()).item()
            if metric == "psnr" and pair.slices is not None:
                result["infinite_slices"] = float(values.isinf().sum())
        if pair.slices is not None:
            counted = pair.slices if pair.mask is None else pair.mask.flatten(1).any(1).sum().item()
            result["slices"] = float(counted)
        result["data_range"] = pair.data_range[0].item()
        return result

    def _values(self, metric: str, pair: Pair) -> Tensor:
        if metric == "ssim":
            return ssim_values(pair, self.protocol.ssim)
        function = {
            "psnr": fidelity.psnr_values,
            "mse": fidelity.mse_values,
            "mae": fidelity.mae_values,
            "nmse": fidelity.nmse_values,
        }[metric]
        return function(pair)

    def _slice_axis(self, target: Tensor, affine: ArrayLike | None) -> int | None:
        axis = self.protocol.slice_axis
        if not isinstance(axis, str):
            return axis
        if affine is None:
            affine = getattr(target, "affine", None)
        if affine is None:
            raise InputError(
                f'protocol "{self.protocol.name}" takes {axis} slices: give the affine of the case, '
                "or a protocol whose slice_axis is an array axis"
            )
        return anatomical_axis(np.asarray(affine), axis)

    def _warn_of_units(self, pair: Pair) -> None:
        assert pair.data_range is not None
        span = (pair.target.max() - pair.target.min()).item()
        stated = pair.data_range[0].item()
        if span > _SUSPICIOUS_SPAN * stated:
            warnings.warn(
                f'protocol "{self.protocol.name}" states a data range of {stated:.6g}, the target spans '
                f"{span:.6g}: bring the images to that range, or state theirs",
                stacklevel=3,
            )


def _of_channel(mask: Tensor | None, k: int, image: Tensor) -> Tensor | None:
    """The mask of one channel: its own, or that of all."""
    own = mask is not None and mask.ndim == image.ndim and mask.shape[0] == image.shape[0]
    return mask[k : k + 1] if mask is not None and own else mask


def _joined(channels: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, float]:
    """The values of a case from those of its channels."""
    result: dict[str, float] = {}
    for key in channels[0]:
        values = [channel[key] for channel in channels]
        if key == "slices":
            result[key] = max(values)
            continue
        mean = mean_of_finite(torch.tensor(values, dtype=torch.float64)).item()
        result[key] = sum(values) if key == "infinite_slices" else mean
        if key != "data_range" or len(set(values)) > 1:
            result |= {f"{key}_{name}": value for name, value in zip(names, values, strict=True)}
    return result
