"""RCAN as Zhang et al. 2018 describe it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import PRESETS, RCAN, create
from tests.networks.oracles.rcan import rcan

TINY = {"features": 8, "groups": 2, "blocks": 2, "reduction": 2}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        ((9, 7), {}),
        ((1, 1), {"scale": 3}),
        ((5, 8), {"scale": 2, "reduction": 8}),
        ((6, 5), {"in_channels": 3, "out_channels": 2, "mean": (0.1, 0.2, 0.3), "std": (1.0, 0.5, 2.0)}),
        ((4, 3, 5), {"spatial_dims": 3, "scale": 2, "mean": 0.3}),
    ],
)
def test_agrees_with_its_plain_formulation(perturbed, size, arguments):
    network = perturbed(RCAN(**{**TINY, **arguments}))
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(network(x), rcan(network)(x), atol=1e-5, rtol=1e-5)


def by_hand(conv, channels, groups=10, blocks=20, features=64, hidden=4):
    block = 2 * conv(features, features) + conv(features, hidden, 1) + conv(hidden, features, 1)
    body = groups * (blocks * block + conv(features, features)) + conv(features, features)
    return conv(channels, features) + body + 2 * conv(features, 4 * features) + conv(features, channels)


def test_parameters_by_hand(conv_parameters):
    assert PRESETS["rcan"].parameters == by_hand(conv_parameters, 1)
    shifts = 2 * (3 * 3 + 3)  # that the authors' program trains
    assert PRESETS["rcan-rgb"].left_out == shifts
    assert PRESETS["rcan-rgb"].parameters == by_hand(conv_parameters, 3) + shifts


def test_multiply_adds_by_hand():
    # 411 convolutions of 64 channels at 40x32, 200 attentions on one pixel, stages at 1 and 2 times the size
    body = 1280 * 9 * (3 * 64 + 411 * 64**2) + 200 * 2 * 64 * 4
    tail = 1280 * 9 * (64 * 256 + 4 * 64 * 256 + 16 * 64 * 3)
    shifts = 1280 * (9 + 16 * 9)
    assert PRESETS["rcan-rgb"].multiply_adds["all"] == round((body + tail + shifts) / 1e9, 4)


def test_layers():
    with torch.device("meta"):
        network = create("rcan", groups=2)
    assert len(network.body) == 3  # and a convolution
    assert {len(group.body) for group in network.body[:-1]} == {21}
    first, relu, second, attention = network.body[0].body[0].body
    assert (type(first), type(relu), type(second)) == (nn.Conv2d, nn.ReLU, nn.Conv2d)
    kinds = [type(layer) for layer in attention.conv_du]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.Sigmoid]
    assert attention.conv_du[0].weight.shape == (4, 64, 1, 1)
    assert network.spec.halo is None


def test_attention_is_the_mean_of_the_whole_image(perturbed):
    """Two images with the same channel means, in another order of pixels, are weighed alike."""
    attention = perturbed(RCAN(**TINY)).body[0].body[0].body[3]
    x = torch.randn(1, 8, 6, 5)
    scrambled = x.flatten(2)[:, :, torch.randperm(30)].reshape(x.shape)
    with torch.no_grad():
        factors = attention(x)
        assert factors.shape == (1, 8, 1, 1)
        assert 0 < factors.min() < factors.max() < 1
        torch.testing.assert_close(attention(scrambled), factors)
        torch.testing.assert_close(attention(x + 1), attention((x + 1).mean((2, 3), keepdim=True)))


def test_skip_connections(perturbed):
    """Without the last convolution of each residual branch, the branch is its input."""
    network = perturbed(RCAN(**TINY))
    x = torch.randn(1, 8, 4, 5)
    group = network.body[0]
    with torch.no_grad():
        for layer in (group.body[-1], group.body[0].body[2]):
            layer.weight.zero_()
            layer.bias.zero_()
        assert torch.equal(group.body[0](x), x)
        assert torch.equal(group(x), x)
        network.body[-1].weight.zero_()
        network.body[-1].bias.zero_()
        image = torch.randn(1, 1, 4, 5)
        torch.testing.assert_close(network(image), network.tail(network.head(image)))


def test_starts_as_torch_draws():
    torch.manual_seed(0)
    for layer in RCAN(features=32, groups=1, blocks=2, reduction=2).modules():
        if isinstance(layer, nn.Conv2d):
            bound = layer.weight[0].numel() ** -0.5
            assert layer.weight.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)
            assert 0 < layer.bias.abs().max() <= bound


def test_the_dissertations_variant_is_refused_with_a_reason():
    """No preset of it: two convolutions and a random mask in place of one (Zhu 2022, table 5.1)."""
    assert not [name for name in PRESETS if name.startswith("rcan") and "zhu" in name]
    assert "32.03 M, 41.34 G" in PRESETS["rcan"].published
    assert "not reproduced" in PRESETS["rcan"].remark


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reduction": 9}, "reduction of 1 to its 8 features, got 9"),
        ({"reduction": 0}, "got 0"),
        ({"groups": 0}, "groups of at least 1, got 0"),
        ({"blocks": 0}, "blocks of at least 1, got 0"),
        ({"features": 0}, "features of at least 1, got 0"),
        ({"in_channels": 0}, "in_channels of at least 1, got 0"),
        ({"out_channels": 2}, "got out_channels 2"),
        ({"spatial_dims": 4}, "got spatial_dims 4"),
        ({"scale": 6}, "by 3 or by a power of two, got 6"),
    ],
)
def test_arguments_that_describe_no_network(arguments, message):
    with torch.device("meta"), pytest.raises(MedsrError, match=message) as error:
        RCAN(**{**TINY, **arguments})
    assert "\n" not in str(error.value)
