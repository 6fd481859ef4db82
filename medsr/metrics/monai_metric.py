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
    """Measure one metric of a protocol for each case, and average it over cases.

    In a bundle's config::

        {"_target_": "IgniteMetricHandler",
         "metric_fn": {"_target_": "medsr.metrics.FidelityMetric", "metric": "psnr"},
         "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"}

    Args:
        metric: A name in `medsr.metrics.METRICS`.
        protocol: A name, a protocol, or its fields as a dict.
        scale: The scale of every case, where the protocol's border depends on it.
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
        """(B, 1) values of a batch (B, C, *spatial)."""
        return self._compute_list(y_pred, y)

    def _compute_list(
        self, y_pred: Tensor | Sequence[Tensor], y: Tensor | Sequence[Tensor] | None = None, **_: Any
    ) -> Tensor:
        """(B, 1) values of cases (C, *spatial), in a list or a batch."""
        if y is None or len(y_pred) != len(y):
            raise InputError(
                f"expected one target a prediction, got {len(y_pred)} predictions and "
                f"{'no' if y is None else len(y)} targets"
            )
        values = [self.measure(p, t, scale=self.scale)[self.metric] for p, t in zip(y_pred, y, strict=True)]
        return torch.tensor(values, device=y_pred[0].device)[:, None]

    def aggregate(self, reduction: str = "mean") -> Tensor:
        """Mean of the cases with a finite value (infinite if all are), or with "none" the (cases, 1) values.

        Raises:
            InputError: If no case was measured, or another reduction.
        """
        values = self.get_buffer()
        if not isinstance(values, Tensor):
            raise InputError(f"no case was measured, so there is no mean {self.metric}: call the metric first")
        if reduction == "none":
            return values
        if reduction != "mean":
            raise InputError(f'the reduction of cases is "mean" or "none", got {reduction!r}')
        return mean_of_finite(values.flatten())
