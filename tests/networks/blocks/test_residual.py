"""Building blocks against torch's own layers and arithmetic by hand."""

from __future__ import annotations

import pytest
import torch

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import MeanShift, ResidualBlock, activation, mean_shifts


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
