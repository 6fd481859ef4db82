"""Building blocks against torch's own layers and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import MeanShift, ResidualBlock, activation, convolution, mean_shifts
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


def test_residual_block_by_hand():
    torch.manual_seed(0)
    block, x = ResidualBlock(2, 3, res_scale=0.1), torch.randn(2, 3, 5, 4)
    first, _, second = block.body
    torch.testing.assert_close(block(x), 0.1 * second(torch.relu(first(x))) + x)


def test_activations():
    x = torch.tensor([-1.0, 2.0])
    assert activation("relu")(x.clone()).tolist() == [0, 2]
    assert activation("leaky_relu")(x.clone()).tolist() == pytest.approx([-0.2, 2])
    assert activation("prelu")(x).tolist() == [-0.25, 2]
    with pytest.raises(MedsrError, match="got 'swish'"):
        activation("swish")


@pytest.mark.parametrize("dims", [2, 3])
def test_mean_shift_is_undone_by_its_inverse(dims):
    before, after = mean_shifts(dims, 3, [0.1, 0.2, 0.3], 0.5)
    x = torch.rand(2, 3, *[4] * dims)
    shape = (1, 3, *[1] * dims)
    torch.testing.assert_close(before(x), (x - torch.tensor([0.1, 0.2, 0.3]).reshape(shape)) / 0.5)
    torch.testing.assert_close(after(before(x)), x)
    assert before.weight.shape == (3, 3, *[1] * dims)  # as a 1x1 convolution is published
    assert not list(before.parameters())


def test_mean_shift_of_another_number_of_channels():
    with pytest.raises(MedsrError, match=r"3 channel\(s\) need as many"):
        mean_shifts(2, 3, [0.1, 0.2], 1.0)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_are_refused(channels: int) -> None:
    """Surplus channels would be dropped without a word."""
    with pytest.raises(MedsrError, match=rf"expected images of 2 channel\(s\).* got {channels}"):
        MeanShift(2, 2, [0.1] * 2, [1.0] * 2)(torch.zeros(1, channels, 3, 3))
