"""Fix the statistics of batch normalisation for the last part of a training."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def frozen_batch_norm(network: nn.Module, frozen: bool = True) -> nn.Module:
    """Have a network's batch norms use their running statistics in training too; their factors are trained on.

    With the statistics of small batches of patches the intensity of an image depends on what it is batched with, which
    costs fidelity (Lim et al. 2017, section 3.1, drop the layers for it); batches of one scale each differ all the
    more. Training with what inference will use lets the network get used to it.

    Args:
        network: Changed in place.
        frozen: False leaves it as it is.

    Returns:
        The network. What it is called on decides: trainers that call `train()` on it may.
    """
    if frozen:
        network.register_forward_pre_hook(_fix_statistics)
    return network


def _fix_statistics(network: nn.Module, _inputs: Any) -> None:
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
