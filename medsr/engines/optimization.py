"""Settings of the optimiser: parameter groups, the schedule of the learning rate, and clipped gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from medsr.errors import InputError


def parameter_groups(network: nn.Module, lr: float, bias_lr_factor: float = 1.0) -> list[dict[str, Any]]:
    """Return optimiser groups in which biases learn at their own rate (Pham et al. section 3.2: factor 0.1).

    Args:
        network: The network whose trainable parameters are grouped.
        lr: The learning rate of the weights.
        bias_lr_factor: The factor on the learning rate for parameters whose name ends in "bias".
    """
    weights: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (biases if name.endswith("bias") else weights).append(parameter)
    groups = [{"params": weights, "lr": lr}, {"params": biases, "lr": lr * bias_lr_factor}]
    return [group for group in groups if group["params"]]


def milestone_schedule(
    optimizer: torch.optim.Optimizer, milestones: Sequence[int] = (), gamma: float = 0.5
) -> LambdaLR:
    """Return a schedule that multiplies the learning rate by `gamma` after each step in `milestones`."""
    return LambdaLR(optimizer, lambda step: gamma ** sum(step >= milestone for milestone in milestones))


class GradientClipping:
    """A handler that clips gradients before the optimiser step.

    Args:
        optimizer: The optimiser whose gradients are clipped.
        threshold: The norm gamma of all gradients together above which they are rescaled; None or 0 for never.
        mode: The rule: "norm" rescales to norm gamma (what equation 9 of Pham et al. must mean); "pham" divides by
            gamma, as the equation is printed, which enlarges gradients if gamma is below 1.

    Raises:
        InputError: If the mode is unknown, or the threshold is negative.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, threshold: float | None, mode: str = "norm") -> None:
        if mode not in ("norm", "pham"):
            raise InputError(f"the mode of gradient clipping must be 'norm' or 'pham', got {mode!r}")
        if threshold is not None and not threshold >= 0:
            raise InputError(
                f"the threshold of gradient clipping must be at least 0, or null for no clipping, got {threshold}"
            )
        self.threshold = threshold
        self.mode = mode
        self.optimizer = optimizer

    def attach(self, engine: Engine) -> None:
        """Register the clipping with the optimiser for the rest of the program."""
        if self.threshold:
            self.optimizer.register_step_pre_hook(self.clip)

    def clip(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Clip the gradients of all parameters of the optimiser."""
        threshold = float(self.threshold or 0)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if self.mode == "norm":
            torch.nn.utils.clip_grad_norm_(parameters, threshold)
            return
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if norm > threshold:
            for p in parameters:
                if p.grad is not None:
                    p.grad.div_(threshold)
