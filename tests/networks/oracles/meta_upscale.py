"""The meta-upscale module as Hu et al. 2019 describe it: one weight prediction for every output voxel.

The features around every input voxel are unfolded, gathered for every output voxel and multiplied, all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any

import torch
from torch.nn import functional as F

from medsr.geometry import as_scale
from medsr.networks import MIASSR, MetaRDN, MetaSRGANGenerator, MetaUpscale
from tests.networks.oracles.edsr import residual_blocks
from tests.networks.oracles.layers import batch_norm, conv, shift
from tests.networks.oracles.rdn import rdn_features
from tests.networks.oracles.registration import formulation_of
from tests.networks.oracles.srresnet import prelu

Forward = Callable[..., torch.Tensor]


def lies(index: int, scale: Fraction, positions: str) -> tuple[int, Fraction]:
    """Return the input voxel of an output voxel, and the offset within it."""
    at = Fraction(index) / scale if positions == "hu2019" else (index + Fraction(1, 2)) / scale
    voxel = floor(at) if positions == "hu2019" else ceil(at) - 1
    return voxel, at - voxel


def meta_upscale(module: MetaUpscale, features: torch.Tensor, scale: Sequence[Fraction]) -> torch.Tensor:
    """Return all output voxels of an image, in 2D or 3D."""
    size, dims = features.shape[2:], module.spatial_dims
    places = [[lies(i, s, module.positions) for i in range(round(n * s))] for n, s in zip(size, scale, strict=True)]
    inverse = [float(1 / s) for s in scale]
    inverse = inverse if module.anisotropic else [sum(inverse) / dims]
    offsets = torch.meshgrid([torch.tensor([float(o) for _, o in axis]) for axis in places], indexing="ij")
    shape = offsets[0].shape
    seen = torch.stack([*(torch.full(shape, v) for v in inverse), *offsets], -1).to(features)
    weights = F.linear(F.relu(F.linear(seen, *module.P2W[0].parameters())), *module.P2W[2].parameters())
    padded = F.pad(features, [1, 1] * dims)
    for axis in range(dims):
        padded = padded.unfold(2 + axis, 3, 1)  # (B, F, *size, 3, 3, ...)
    for axis, voxels in enumerate(places):
        padded = padded.index_select(2 + axis, torch.tensor([v for v, _ in voxels]))
    around = padded.movedim(1, 1 + dims).flatten(1 + dims)  # (B, *output, F * 9)
    return torch.einsum("b...k,...kc->b...c", around, weights.unflatten(-1, (around.shape[-1], -1))).movedim(-1, 1)


def _whole(network: Any, extract: Callable[[torch.Tensor], torch.Tensor]) -> Forward:
    def forward(lr: torch.Tensor, scale: Any = None) -> torch.Tensor:
        features = extract(shift(lr, network.sub_mean))
        exact = network.scale if scale is None else as_scale(scale, lr.ndim - 2)
        sr = meta_upscale(network.meta_upsampler, features, exact)
        return shift(sr, network.add_mean)

    return forward


@formulation_of("MIASSR")
def miassr(network: MIASSR) -> Forward:
    """Return the plain forward pass at any scale of a network with residual blocks, with the same parameters."""

    def extract(image: torch.Tensor) -> torch.Tensor:
        first = conv(image, network.head[0])
        return first + conv(residual_blocks(first, network.body[:-1]), network.body[-1])

    return _whole(network, extract)


@formulation_of("MetaRDN")
def metardn(network: MetaRDN) -> Forward:
    """Return the plain forward pass of the network at any scale, with the same parameters."""
    return _whole(network, lambda image: rdn_features(image, network.extractor))


@formulation_of("MetaSRGANGenerator")
def meta_srgan(network: MetaSRGANGenerator) -> Forward:
    """Return the plain forward pass of the network at any scale, with the same parameters."""

    def extract(image: torch.Tensor) -> torch.Tensor:
        first = prelu(conv(image, network.head[0]), network.head[1])
        x = first
        for block in network.body[:-2]:
            conv1, norm1, act, conv2, norm2 = block.body
            x = x + batch_norm(conv(prelu(batch_norm(conv(x, conv1), norm1), act), conv2), norm2)
        return first + batch_norm(conv(x, network.body[-2]), network.body[-1])

    return _whole(network, extract)
