"""Batch normalisation with fixed statistics, for the last part of a training."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def frozen_batch_norm(network: nn.Module, frozen: bool = True) -> nn.Module:
    """Make a network's batch norms use their running statistics in training too; their factors are still trained.

    With the statistics of small batches of patches, the intensity of an image depends on the other images of its
    batch, which costs fidelity (Lim et al. 2017, section 3.1, remove the layers for this reason). Batches of one scale
    each differ even more. The network adapts if it is trained with the statistics that inference uses.

    Args:
        network: The network, which is changed in place.
        frozen: Whether to fix the statistics; False leaves the network as it is.

    Returns:
        The network. Its statistics stay fixed even if a trainer calls `train()` on it.
    """
    if frozen:
        network.register_forward_pre_hook(_fix_statistics)
    return network


def _fix_statistics(network: nn.Module, _inputs: Any) -> None:
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
