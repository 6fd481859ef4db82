"""Upsamplers against torch's own layers and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import convolution
from medsr.networks.blocks.upsamplers import (
    PixelShuffle,
    SubpixelUpsampler,
    halo_of,
    subpixel_stages,
    subpixel_tail_radii,
)


@pytest.mark.parametrize("scale", [2, 3])
def test_pixel_shuffle_in_2d_is_torchs(scale):
    x = torch.rand(2, 2 * scale**2, 3, 4)
    assert torch.equal(PixelShuffle(2, scale)(x), torch.nn.PixelShuffle(scale)(x))


def test_pixel_shuffle_in_3d_puts_channels_in_the_same_order():
    r, x = 2, torch.arange(2 * 8 * 2 * 3 * 2.0).reshape(1, 16, 2, 3, 2)
    came = PixelShuffle(3, r)(x)
    assert came.shape == (1, 2, 4, 6, 4)
    for c, z, y, k in np.ndindex(2, 4, 6, 4):
        channel = c * r**3 + (z % r) * r**2 + (y % r) * r + k % r
        assert came[0, c, z, y, k] == x[0, channel, z // r, y // r, k // r]


@pytest.mark.parametrize(("scale", "stages"), [(2, [2]), (3, [3]), (4, [2, 2]), (8, [2, 2, 2])])
def test_stages_of_a_subpixel_upsampler(scale, stages):
    assert subpixel_stages(scale) == stages
    for dims in (2, 3):
        layer = SubpixelUpsampler(dims, 4, scale)
        assert layer(torch.rand(1, 4, *[2] * dims)).shape == (1, 4, *[2 * scale] * dims)
        assert sum(p.numel() for p in layer.parameters()) == sum((4 * 3**dims + 1) * 4 * f**dims for f in stages)


@pytest.mark.parametrize("scale", [0, 1, 5, 6, 9, -2])
def test_scales_without_stages(scale):
    with pytest.raises(MedsrError, match=f"by 3 or by a power of two, got {scale}"):
        subpixel_stages(scale)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("radius", [1, 4])
def test_halo_of_a_subpixel_tail(scale, radius):
    """Against the gradient of the layers themselves."""
    layers = [convolution(2, 1, 1), SubpixelUpsampler(2, 1, scale), convolution(2, 1, 1, 2 * radius + 1)]
    network = torch.nn.Sequential(*layers)
    for parameter in network.parameters():
        parameter.data.abs_()
    x = torch.rand(1, 1, 1, 41, requires_grad=True)
    network(x)[..., 20 * scale : 21 * scale].sum().backward()
    seen = x.grad[0, 0, 0].nonzero().flatten() - 20
    halo = halo_of([(1, 1), *subpixel_tail_radii(scale, radius)])
    assert (seen.min(), seen.max()) == (-halo, halo)
