"""The metrics as a MONAI metric, for `IgniteMetricHandler` (validation, key metrics of checkpoints)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from medsr.errors import InputError
from medsr.geometry import ScaleLike
from medsr.metrics.case import CaseMetrics
from medsr.metrics.image_pair import mean_of_finite
from medsr.metrics.protocol import Protocol, get_protocol

__all__ = ["FidelityMetric"]


class FidelityMetric(CumulativeIterationMetric):
    """The mean over cases of one metric of a protocol.

    In a bundle's config::

        {"_target_": "IgniteMetricHandler",
         "metric_fn": {"_target_": "medsr.metrics.FidelityMetric", "metric": "psnr"},
         "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"}

    Args:
        metric: The name of the metric, one of `medsr.metrics.METRICS`.
        protocol: The protocol: a name, an object, or its fields as a dict.
        scale: The scale of every case, needed if the protocol's border depends on it.
    """

    def __init__(
        self,
        metric: str = "psnr",
        protocol: str | Mapping[str, Any] | Protocol = "volume",
        scale: ScaleLike | None = None,
    ) -> None:
        super().__init__()
        self.metric = metric
        self.measure = CaseMetrics(replace(get_protocol(protocol), metrics=(metric,)))
        self.scale = scale

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        """Return the values (B, 1) of a batch (B, C, *spatial)."""
        return self._compute_list(y_pred, y)

    def _compute_list(
        self, y_pred: Tensor | Sequence[Tensor], y: Tensor | Sequence[Tensor] | None = None, **_: Any
    ) -> Tensor:
        """Return the values (B, 1) of cases (C, *spatial), in a list or a batch."""
        if y is None or len(y_pred) != len(y):
            raise InputError(
                f"expected one target per prediction, got {len(y_pred)} predictions and "
                f"{'no' if y is None else len(y)} targets"
            )
        values = [self.measure(p, t, scale=self.scale)[self.metric] for p, t in zip(y_pred, y, strict=True)]
        return torch.tensor(values, device=y_pred[0].device)[:, None]

    def aggregate(self, reduction: str = "mean") -> Tensor:
        """Return the mean of the cases with a finite value (infinite if all are), or with "none" the (cases, 1) values.

        Raises:
            InputError: If no case was measured, or the reduction is unknown.
        """
        values = self.get_buffer()
        if not isinstance(values, Tensor):
            raise InputError(f"no case was measured, so there is no mean {self.metric}: call the metric first")
        if reduction == "none":
            return values
        if reduction != "mean":
            raise InputError(f'the reduction of cases must be "mean" or "none", got {reduction!r}')
        return mean_of_finite(values.flatten())
