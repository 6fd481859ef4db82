"""The measurement of one case by all metrics of a protocol."""

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
    """The measurement of one case by all metrics of a protocol.

    Args:
        protocol: A name in `medsr.metrics.PROTOCOLS`, a protocol, or the fields of a protocol as a dict.

    Examples:
        >>> import torch
        >>> from medsr.metrics import CaseMetrics
        >>> target = torch.linspace(0, 1, 16**3).reshape(1, 16, 16, 16)
        >>> values = CaseMetrics("volume")(target + 0.01, target)
        >>> sorted(values)
        ['data_range', 'mae', 'mse', 'nmse', 'psnr', 'ssim']
        >>> round(values["psnr"], 2), round(values["mae"], 4), values["data_range"]
        (40.0, 0.01, 1.0)
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

        Several channels are contrasts, whose errors cannot be pooled: each channel is measured separately, and the
        value of the case is the mean over the channels with a finite value (the published tables have a column for
        each contrast).

        Args:
            pred: The image to measure, (C, X, Y) or (C, X, Y, Z), of any real dtype.
            target: The true image, of the same shape.
            mask: A bool tensor, true where voxels count: (*spatial), (1, *spatial) or the shape of `pred`.
            scale: The scale of the case, one number or one per axis; needed if the protocol's border depends on it.
            affine: The affine of the case (4, 4); needed if slices are anatomical and `target` is not a MetaTensor.
            contrasts: The names of the channels; "channel_0" and so on by default.

        Returns:
            The protocol's metrics by name, and "data_range". A protocol of slices adds "slices" (the number of slices
            in the mask) and, with a PSNR, "infinite_slices" (the number of equal slices, left out of its mean). An
            image of several channels adds each metric by contrast, such as "psnr_T1ce", the infinite slices by
            contrast, and the data ranges by contrast if they differ.

        Raises:
            InputError: If the images cannot be compared, or a scale or affine is needed and missing.
        """
        dims = pred.ndim - 1 if isinstance(pred, Tensor) else 0
        if dims not in (2, 3):
            what = tuple(pred.shape) if isinstance(pred, Tensor) else type(pred).__name__
            raise InputError(f"expected one case as a tensor (C, X, Y) or (C, X, Y, Z), got {what}")
        axis = self._slice_axis(target, affine) if dims == 3 else None
        count = pred.shape[0]
        if count < 2 or pred.shape != target.shape:
            return self._measure(pred, target, mask, scale, axis)
        names = [f"channel_{k}" for k in range(count)] if contrasts is None else list(contrasts)
        if len(names) != count:
            raise InputError(
                f"expected one name per channel, got {count} channels and {len(names)} names: {', '.join(names)}"
            )
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
        """Measure one channel, by slices along `axis` if it is given."""
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
                f'protocol "{self.protocol.name}" states a data range of {stated:.6g}, but the target spans '
                f"{span:.6g}: bring the images to that range, or state their data range",
                stacklevel=3,
            )


def _of_channel(mask: Tensor | None, k: int, image: Tensor) -> Tensor | None:
    """Return the mask of one channel: its own, or the mask of all channels."""
    own = mask is not None and mask.ndim == image.ndim and mask.shape[0] == image.shape[0]
    return mask[k : k + 1] if mask is not None and own else mask


def _joined(channels: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, float]:
    """Return the values of a case from the values of its channels."""
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
