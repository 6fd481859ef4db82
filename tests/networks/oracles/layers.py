"""Layers as functions of their weights, for 2D and 3D."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import functional as F


def conv(x: torch.Tensor, layer: Any, stride: int = 1) -> torch.Tensor:
    """Apply a zero-padded convolution that keeps the size at stride 1."""
    function = F.conv2d if layer.weight.ndim == 4 else F.conv3d
    return function(x, layer.weight, layer.bias, stride=stride, padding=layer.weight.shape[-1] // 2)


def batch_norm(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """Apply batch normalisation with the running statistics."""
    shape = (-1, *[1] * (x.ndim - 2))
    normal = (x - layer.running_mean.reshape(shape)) / torch.sqrt(layer.running_var + layer.eps).reshape(shape)
    return normal * layer.weight.reshape(shape) + layer.bias.reshape(shape)


def shift(image: torch.Tensor, layer: Any) -> torch.Tensor:
    """Apply the intensity shift before or after a network: a matrix over the channels and an offset."""
    weight = layer.weight.flatten(1)
    return torch.einsum("oi,bi...->bo...", weight, image) + layer.bias.reshape(-1, *[1] * (image.ndim - 2))


def shuffle(x: torch.Tensor, scale: int) -> torch.Tensor:
    """Rearrange channels into voxels: in r^d consecutive channels the last axis varies fastest (Shi et al. 2016)."""
    b, c, *size = x.shape
    dims = len(size)
    x = x.reshape(b, c // scale**dims, *[scale] * dims, *size)
    pairs = [axis for i in range(dims) for axis in (2 + dims + i, 2 + i)]
    return x.permute(0, 1, *pairs).reshape(b, c // scale**dims, *[n * scale for n in size])


def upsample(x: torch.Tensor, layers: Iterable[Any]) -> torch.Tensor:
    """Apply stages of a convolution and a shuffle each."""
    for layer in layers:
        x = conv(x, layer) if hasattr(layer, "weight") else shuffle(x, layer.scale)
    return x
