"""An exponential moving average of a network's weights, which validates better than the last weights do."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import AveragedModel

from medsr.engines.distributed import unwrapped
from medsr.errors import InputError


class AveragedWeights:
    """Keep the moving average w <- d w + (1 - d) w_n of a network's weights over the steps n of a training.

    d is min(decay, (1 + n) / (10 + n)), so that the first, random weights are forgotten in a short run too. Buffers
    (batch norm) are those of the network. The average is a `torch.optim.swa_utils.AveragedModel`, which checkpoints
    save whole; it starts with the weights after the first step.

    Args:
        network: The network that is trained.
        decay: d after many steps, between 0 and 1, such as 0.999.

    Attributes:
        model: The state for checkpoints.

    Raises:
        InputError: If the decay is not between 0 and 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise InputError(f"ema is a decay between 0 and 1 such as 0.999, or null for no average; got {decay}")
        self.decay = float(decay)
        self.source = unwrapped(network)
        self.model = AveragedModel(self.source, multi_avg_fn=self._average)
        self.model.requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """Return the network with the averaged weights."""
        return self.model.module

    def attach(self, engine: Engine) -> None:
        """Register on the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Take a step's weights into the average."""
        self.model.update_parameters(self.source)

    @torch.no_grad()
    def _average(self, averaged: Any, current: Any, count: Any) -> None:
        weight = 1 - ((1.0 + count) / (10.0 + count)).clamp(max=self.decay)  # a tensor: no waiting for the device
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value, weight.to(mean.dtype))
