"""The ResNet-34 U-Net with a sub-pixel decoder as in fastai's program, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from medsr.networks.resnet_unet import ResNetUNet
from tests.networks.oracles.layers import conv, shuffle
from tests.networks.oracles.registration import formulation_of


def norm(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """Apply batch normalisation with the running statistics."""
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)


def basic_block(x: torch.Tensor, block: Any, stride: int) -> torch.Tensor:
    """Apply two convolutions with a shortcut around them."""
    y = F.relu(norm(conv(x, block.conv1, stride), block.bn1))
    y = norm(conv(y, block.conv2), block.bn2)
    if x.shape != y.shape:
        x = norm(conv(x, block.downsample[0], stride), block.downsample[1])
    return F.relu(y + x)


def resnet_features(image: torch.Tensor, encoder: Any) -> list[torch.Tensor]:
    """Return the features of the stem and of the four stages, finest first."""
    features = [F.relu(norm(conv(image, encoder.conv1, 2), encoder.bn1))]
    x = F.max_pool2d(features[0], 3, stride=2, padding=1)
    for name, stride in (("layer1", 1), ("layer2", 2), ("layer3", 2), ("layer4", 2)):
        for i, block in enumerate(getattr(encoder, name)):
            x = basic_block(x, block, stride if i == 0 else 1)
        features.append(x)
    return features


def weighted(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """Apply a convolution, which is weight-normalised if it has a `weight_g`."""
    kernels = layer.weight
    if hasattr(layer, "weight_g"):
        kernels = layer.weight_g * kernels / kernels.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
    return F.conv2d(x, kernels, layer.bias, padding=kernels.shape[-1] // 2)


def conv_layer(x: torch.Tensor, layers: Any) -> torch.Tensor:
    """Apply the convolution, ReLU, batch normalisation and self-attention that are present."""
    for layer in layers:
        if hasattr(layer, "gamma"):
            x = attention(x, layer)
        elif hasattr(layer, "running_mean"):
            x = norm(x, layer)
        else:
            x = weighted(x, layer) if hasattr(layer, "weight") else F.relu(x)
    return x


def attention(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """Weight h by the softmax, over the positions of f, of all products of f and g (Zhang et al. 2019, eq. 1 and 2)."""
    flat = x.flatten(2)
    f, g, h = (
        torch.einsum("oi,bin->bon", part.weight[:, :, 0] / (part.weight_u @ part.weight[:, :, 0] @ part.weight_v), flat)
        for part in (layer.query, layer.key, layer.value)
    )
    beta = torch.softmax(f.transpose(1, 2) @ g, dim=1)
    return layer.gamma * (h @ beta).reshape(x.shape) + x


def subpixel(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """Apply a 1x1 convolution, a ReLU, a shuffle and an average of 2x2 pixels."""
    x = shuffle(F.relu(conv_layer(x, layer.conv)), 2)
    if layer.blur:
        x = F.avg_pool2d(F.pad(x, (1, 0, 1, 0), mode="replicate"), 2, stride=1)
    return x


def sized(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Interpolate with nearest neighbours if the size differs."""
    size = like.shape[2:]
    return x if x.shape[2:] == size else F.interpolate(x, size=size, mode="nearest")


@formulation_of("ResNetUNet")
def resnet_unet(network: ResNetUNet) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""

    def forward(image: torch.Tensor) -> torch.Tensor:
        image = (image - network.mean) / network.std
        *skips, x = resnet_features(image, network.encoder)
        x = F.relu(norm(x, network.norm))
        for layers in network.middle:
            x = conv_layer(x, layers)
        for block, skip in zip(network.blocks, reversed(skips), strict=True):
            joined = torch.cat([sized(subpixel(x, block.shuf), skip), norm(skip, block.bn)], dim=1)
            x = conv_layer(conv_layer(F.relu(joined), block.conv1), block.conv2)
        x = sized(subpixel(x, network.shuf), image)
        if network.last_cross:
            x = torch.cat([x, image], dim=1)
            x = x + conv_layer(conv_layer(x, network.residual[0]), network.residual[1])
        x = conv_layer(x, network.last)
        return x * network.std[: x.shape[1]] + network.mean[: x.shape[1]]

    return forward
