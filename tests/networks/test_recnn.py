"""ReCNN as Pham et al. describe it, and as their published programs compute it."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import ReCNN


def convolutions(network):
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)]


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("in_channels", "kernel_size"), [(1, 3), (3, 5)])
def test_starts_as_he_et_al(spatial_dims, in_channels, kernel_size):
    torch.manual_seed(0)
    network = ReCNN(spatial_dims, in_channels, depth=4, features=64, kernel_size=kernel_size)
    for layer in convolutions(network):
        fan_in = layer.weight[0].numel()
        assert fan_in == layer.in_channels * kernel_size**spatial_dims
        few = layer.weight.numel() < 1000  # the standard deviation of so few is not known to 5 %
        assert layer.weight.std().item() == pytest.approx(sqrt(2 / fan_in), rel=0.1 if few else 0.05)
        assert abs(layer.weight.mean().item()) < 5 * sqrt(2 / fan_in / layer.weight.numel())
        assert layer.bias.abs().max() == 0


def test_layers():
    network = ReCNN(depth=4, features=6)
    kinds = [type(layer) for layer in network.layers]
    assert kinds == [nn.Conv3d, nn.ReLU] * 3 + [nn.Conv3d]  # the last one is linear
    assert [(c.in_channels, c.out_channels) for c in convolutions(network)] == [(1, 6), (6, 6), (6, 6), (6, 1)]
    assert all(c.padding == (1, 1, 1) and c.padding_mode == "zeros" for c in convolutions(network))


def silent(network):
    """The last convolution returns nothing: what remains is the skip connection."""
    last = convolutions(network)[-1]
    last.weight.data.zero_()
    return network


def test_skip_adds_only_the_lr_channel():
    x = torch.rand(2, 3, 5, 4, 6)
    assert torch.equal(silent(ReCNN(in_channels=3, depth=3, features=4))(x), x[:, :1])
    assert torch.equal(silent(ReCNN(in_channels=3, out_channels=2, depth=3, features=4))(x), x[:, :2])


def test_without_residual():
    torch.manual_seed(0)
    plain = ReCNN(depth=3, features=4, residual=False)
    with_skip = ReCNN(depth=3, features=4)
    with_skip.load_state_dict(plain.state_dict())
    x = torch.rand(1, 1, 5, 5, 5)
    torch.testing.assert_close(with_skip(x), plain(x) + x)
    assert silent(plain)(x).abs().max() == 0


def test_guidance_matters():
    network = ReCNN(in_channels=2, depth=3, features=4)
    x = torch.rand(1, 2, 5, 5, 5)
    changed = x.clone()
    changed[:, 1] += 1
    assert not torch.allclose(network(x), network(changed))


def test_input_survives_the_inplace_relu():
    network, x = ReCNN(depth=3, features=4), torch.randn(1, 1, 5, 5, 5)
    before = x.clone()
    network(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "arguments",
    [{"depth": 1}, {"kernel_size": 4}, {"out_channels": 2}, {"in_channels": 0}, {"out_channels": 0}],
)
def test_arguments_that_describe_no_network(arguments):
    with pytest.raises(MedsrError, match="ReCNN") as error:
        ReCNN(**arguments)
    assert "\n" not in str(error.value)
