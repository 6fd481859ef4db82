"""SwinIR as in Liang et al. 2021 and Liu et al. 2021, one operation after the other.

As in the authors' program, the shift mask is made in every layer, because images differ in size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from medsr.networks.swinir import SwinIR
from tests.networks.oracles.layers import conv, upsample
from tests.networks.oracles.registration import formulation_of


def norm(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """Apply layer normalisation to each token."""
    return F.layer_norm(x, (x.shape[-1],), layer.weight, layer.bias, layer.eps)


def linear(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """Apply a linear layer."""
    return F.linear(x, layer.weight, layer.bias)


def to_windows(x: torch.Tensor, side: int) -> torch.Tensor:
    """Map (B, H, W, C) to (B windows, tokens of a window, C)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, side * side, c)


def from_windows(x: torch.Tensor, side: int, size: tuple[int, int, int]) -> torch.Tensor:
    """Map windows back to (B, H, W, C)."""
    b, h, w = size
    x = x.reshape(b, h // side, w // side, side, side, -1)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, -1)


def shift_mask(h: int, w: int, side: int, shift: int) -> torch.Tensor:
    """Return the mask (windows, tokens, tokens): -100 between different regions of the rolled image, else 0."""
    regions = torch.zeros(1, h, w, 1)
    cuts = (slice(0, -side), slice(-side, -shift), slice(-shift, None)) if shift else (slice(None),)
    for i, rows in enumerate(cuts):
        for j, columns in enumerate(cuts):
            regions[:, rows, columns] = len(cuts) * i + j
    labels = to_windows(regions, side).squeeze(2)
    different = labels[:, None] - labels[:, :, None]
    return torch.zeros_like(different).masked_fill(different != 0, -100.0)


def relative_positions(side: int) -> torch.Tensor:
    """Return the row of the bias table (tokens, tokens) by the differences of rows and of columns."""
    at = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")).flatten(1)
    rows, columns = at[:, :, None] - at[:, None, :] + side - 1
    return rows * (2 * side - 1) + columns


def attention(x: torch.Tensor, layer: Any, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Compute softmax(q k^T / sqrt(d) + bias + mask) v for each head."""
    n, tokens, c = x.shape
    heads = layer.relative_position_bias_table.shape[1]
    q, k, v = linear(x, layer.qkv).reshape(n, tokens, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
    logits = (q * (c // heads) ** -0.5) @ k.transpose(-2, -1)
    bias = layer.relative_position_bias_table[positions.flatten()].reshape(tokens, tokens, heads)
    logits = logits + bias.permute(2, 0, 1).contiguous()
    logits = logits.reshape(n // len(mask), len(mask), heads, tokens, tokens) + mask[:, None]
    weights = torch.softmax(logits.reshape(n, heads, tokens, tokens), dim=-1)
    return linear((weights @ v).transpose(1, 2).reshape(n, tokens, c), layer.proj)


def transformer_layer(x: torch.Tensor, layer: Any, side: int, shift: int, positions: torch.Tensor) -> torch.Tensor:
    """Apply attention in windows, shifted or not, plus the input, then the MLP plus its input, on (B, H, W, C)."""
    mask = shift_mask(x.shape[1], x.shape[2], side, shift)
    y = norm(x, layer.norm1)
    if shift:
        y = torch.roll(y, (-shift, -shift), (1, 2))
    y = from_windows(attention(to_windows(y, side), layer.attn, mask, positions), side, x.shape[:3])
    if shift:
        y = torch.roll(y, (shift, shift), (1, 2))
    x = x + y
    return x + linear(F.gelu(linear(norm(x, layer.norm2), layer.mlp.fc1)), layer.mlp.fc2)


def transformer_layers(x: torch.Tensor, group: Any, side: int, positions: torch.Tensor) -> torch.Tensor:
    """Apply layers without and with a shift in turn, on (B, H, W, C)."""
    shifted = len(set(group.orders)) > 1
    for i, layer in enumerate(group.blocks):
        x = transformer_layer(x, layer, side, side // 2 if shifted and i % 2 else 0, positions)
    return x


def convolutions(x: torch.Tensor, layers: Any) -> torch.Tensor:
    """Apply one convolution, or several with LeakyReLUs between or after them."""
    for layer in layers if isinstance(layers, nn.Sequential) else [layers]:
        x = conv(x, layer) if hasattr(layer, "weight") else torch.where(x > 0, x, layer.negative_slope * x)
    return x


def reflect(image: torch.Tensor, side: int) -> torch.Tensor:
    """Pad by reflection at the right and bottom to multiples of the window, row by row."""
    for dim in (2, 3):
        size = image.shape[dim]
        order = list(range(size))
        back_and_forth = order + order[-2:0:-1]
        wanted = -(-size // side) * side
        image = image[(slice(None),) * dim + ((back_and_forth * wanted)[:wanted],)]
    return image


@formulation_of("SwinIR")
def swinir(network: SwinIR) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""
    side, scale = network.window, network.scale
    positions = relative_positions(side)

    def forward(lr: torch.Tensor) -> torch.Tensor:
        first = conv(reflect(lr, side) - network.mean, network.conv_first)
        x = norm(first.permute(0, 2, 3, 1), network.patch_embed.norm)
        for block in network.layers:
            y = transformer_layers(x, block.residual_group, side, positions)
            x = x + convolutions(y.permute(0, 3, 1, 2), block.conv).permute(0, 2, 3, 1)
        x = first + convolutions(norm(x, network.norm).permute(0, 3, 1, 2), network.conv_after_body)
        sr = reconstruct(x) + network.mean[:, : network.spec.out_channels]
        return sr[:, :, : lr.shape[2] * scale, : lr.shape[3] * scale]

    def reconstruct(x: torch.Tensor) -> torch.Tensor:
        if network.conv_before_upsample is None:
            return upsample(x, network.upsample)
        x = convolutions(x, network.conv_before_upsample)
        if network.conv_hr is None:
            return conv(upsample(x, network.upsample), network.conv_last)
        for layer in (network.conv_up1, network.conv_up2):
            if layer is not None:
                x = F.leaky_relu(conv(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), layer), 0.2)
        return conv(F.leaky_relu(conv(x, network.conv_hr), 0.2), network.conv_last)

    return forward
