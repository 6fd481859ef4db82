"""Parameter groups."""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(network: nn.Module, lr: float, bias_lr_factor: float = 1.0) -> list[dict[str, Any]]:
    """Optimiser groups in which biases learn at their own rate (Pham et al. section 3.2: factor 0.1).

    Args:
        network: its trainable parameters are grouped.
        lr: learning rate of the weights.
        bias_lr_factor: multiplier for parameters whose name ends in "bias".
    """
    weights: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (biases if name.endswith("bias") else weights).append(parameter)
    groups = [{"params": weights, "lr": lr}, {"params": biases, "lr": lr * bias_lr_factor}]
    return [group for group in groups if group["params"]]
