"""Weights with which every layer matters, and the arithmetic of layer lists."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture
def perturbed() -> Callable[[nn.Module], nn.Module]:
    """Move all weights and statistics of a network off the values at which a forgotten layer would not show."""

    def perturb(network: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            fan_in = max(parameter[0].numel(), 9) if parameter.ndim > 1 else 25
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.add_(noise, alpha=0.5 / fan_in**0.5)
        for key, buffer in network.named_buffers():
            if key.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.2)
            elif key.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        return network.eval()

    return perturb


@pytest.fixture
def conv_parameters() -> Callable[..., int]:
    """Of a convolution with bias, from its channels and kernel size."""

    def count(in_channels: int, out_channels: int, kernel_size: int = 3, spatial_dims: int = 2) -> int:
        return out_channels * (in_channels * kernel_size**spatial_dims + 1)

    return count
