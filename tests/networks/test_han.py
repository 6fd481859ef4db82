"""HAN as Niu et al. 2020 describe it and as its program and the dissertation's compute it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import HAN, PRESETS, create
from medsr.networks.han import ChannelSpatialAttention, LayerAttention, gram
from tests.networks.oracles.han import han, layer_attention

TINY = {"features": 8, "groups": 2, "blocks": 1, "reduction": 2}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        ((9, 7), {}),
        ((1, 1), {"scale": 3}),
        ((5, 8), {"scale": 2, "groups": 4}),
        ((6, 5), {"in_channels": 3, "out_channels": 2, "mean": (0.1, 0.2, 0.3), "std": (1.0, 0.5, 2.0)}),
        ((4, 3), {"groups": 1, "mean": 0.3}),
    ],
)
def test_agrees_with_its_plain_formulation(perturbed, size, arguments):
    network = perturbed(HAN(**{**TINY, **arguments}))
    network.la.gamma.data.fill_(0.7)
    network.csa.gamma.data.fill_(-0.4)
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(network(x), han(network)(x), atol=1e-5, rtol=1e-5)


def by_hand(conv, channels, features=64, groups=10, blocks=20, reduction=16):
    hidden = features // reduction
    block = 2 * conv(features, features) + conv(features, hidden, 1) + conv(hidden, features, 1)
    body = groups * (blocks * block + conv(features, features)) + conv(features, features)
    layers, positions = conv((groups + 1) * features, features) + 1, conv(1, 1, spatial_dims=3) + 1  # and two gammas
    tail = 2 * conv(features, 4 * features) + conv(features, channels)
    return conv(channels, features) + body + layers + positions + conv(2 * features, features) + tail


def test_parameters_by_hand(conv_parameters):
    assert PRESETS["han"].parameters == by_hand(conv_parameters, 1)
    assert PRESETS["han-rgb"].parameters == by_hand(conv_parameters, 3)
    assert PRESETS["han-zhu2022"].parameters == by_hand(conv_parameters, 1, features=128)
    assert PRESETS["han-zhu2022"].leaf_parameters == PRESETS["han-zhu2022"].parameters - 2  # without the gammas


def test_multiply_adds_by_hand():
    n, pixels = 128, 40 * 32
    attentions = 200 * 2 * n * n // 16
    body = pixels * 9 * (n + 411 * n**2 + 11 * n**2 + 2 * n**2) + pixels * 27 * n + attentions
    tail = pixels * 9 * (4 * n**2 + 16 * n**2 + 16 * n)
    shifts = pixels * (1 + 16)
    products = 2 * 11**2 * n * pixels
    pooling, softmax = 200 * n * (pixels + 1), 11 * (3 * 11 - 1)
    published = PRESETS["han-zhu2022"].multiply_adds
    assert published["conv"] == round((body + tail + shifts) / 1e9, 4)
    assert published["thop"] == round((body + tail + shifts + pooling + softmax) / 1e9, 4)
    assert published["all"] == round((body + tail + shifts + products) / 1e9, 4)


def test_attentions_start_with_no_weight(perturbed):
    network = HAN(**TINY)
    assert network.la.gamma.item() == network.csa.gamma.item() == 0
    x = torch.randn(2, 3, 40)
    assert torch.equal(network.la(x), x)
    x = torch.randn(2, 8, 4, 5)
    assert torch.equal(network.csa(x), x)


def test_layer_attention_prefers_what_is_unlike():
    """Orthogonal layers of length 1: each takes the others in equal parts and of itself only e^-1 of a part."""
    attention = LayerAttention()
    attention.gamma.data.fill_(2.0)
    x = torch.eye(3).unsqueeze(0)
    e = torch.tensor(-1.0).exp()
    expected = torch.eye(3) + 2 * (torch.ones(3, 3) + (e - 1) * torch.eye(3)) / (2 + e)
    with torch.no_grad():
        torch.testing.assert_close(attention(x)[0], expected)


@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0])
def test_softmax_is_the_published_one(spread):
    """Of the largest product minus the products, whatever their size."""
    attention = LayerAttention()
    attention.gamma.data.fill_(0.5)
    layers = torch.randn(2, 5, 3, 4, 6, generator=torch.Generator().manual_seed(0)) * spread
    with torch.no_grad():
        came = attention(layers.flatten(2))
        torch.testing.assert_close(came.reshape(2, 15, 4, 6), layer_attention(layers, attention.gamma))


def test_products_of_layers_keep_their_digits_under_autocast():
    rows = torch.randn(1, 3, 5000, generator=torch.Generator().manual_seed(0)) + 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gram(rows), gram(rows.clone()))
        assert gram(rows).dtype == torch.float32
        torch.testing.assert_close(
            gram(rows).double(), rows.double() @ rows.double().transpose(1, 2), rtol=1e-5, atol=0
        )
        halved = rows.bfloat16()
        torch.testing.assert_close(gram(halved), gram(halved.float()))


def test_channel_spatial_attention_looks_along_channels(perturbed):
    attention = perturbed(ChannelSpatialAttention())
    x = torch.randn(1, 6, 5, 5)
    changed = x.clone()
    changed[0, 2, 2, 2] += 1
    with torch.no_grad():
        moved = (attention(changed) - attention(x))[0].abs() > 1e-7
    assert moved.nonzero().min(0).values.tolist() == [1, 1, 1]
    assert moved.nonzero().max(0).values.tolist() == [3, 3, 3]


def test_newest_layer_first(perturbed):
    """The first `features` inputs of the layers' convolution are the output of the body's last convolution."""
    network = perturbed(HAN(**TINY))
    network.la.gamma.data.zero_()
    seen = {}
    network.body[-1].register_forward_hook(lambda module, given, output: seen.update(newest=output))
    network.body[0].register_forward_hook(lambda module, given, output: seen.update(oldest=output))
    network.last_conv.register_forward_hook(lambda module, given, output: seen.update(layers=given[0]))
    with torch.no_grad():
        network(torch.randn(1, 1, 4, 5))
    assert seen["layers"].shape == (1, 24, 4, 5)
    torch.testing.assert_close(seen["layers"][:, :8], seen["newest"])
    torch.testing.assert_close(seen["layers"][:, 16:], seen["oldest"])


def test_moves_and_converts_as_a_whole(perturbed):
    """Although the 3D convolution has weights that a 2D layout does not fit."""
    network = perturbed(HAN(**TINY))
    x = torch.randn(1, 1, 5, 6)
    with torch.no_grad():
        expected = network(x)
        laid = network.to(memory_format=torch.channels_last)
        assert laid.last.weight.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(laid(x), expected)
        double = network.double()
        assert double.csa.conv.weight.dtype == torch.float64
        assert double.csa.conv.weight.shape == (1, 1, 3, 3, 3)
        torch.testing.assert_close(double(x.double()).float(), expected)


def test_starts_as_torch_draws():
    torch.manual_seed(0)
    for layer in HAN(features=32, groups=2, blocks=1, reduction=2).modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            bound = layer.weight[0].numel() ** -0.5
            assert layer.weight.abs().max() <= bound
            if layer.weight.numel() > 1000:
                assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)
            assert 0 < layer.bias.abs().max() <= bound


def test_what_the_dissertation_ran():
    with torch.device("meta"):
        network, canonical = create("han-zhu2022", groups=2), create("han", groups=2)
    assert network.head[0].out_channels == 128
    assert network.last_conv.in_channels == 3 * 128
    assert network.body[0].body[0].body[3].conv_du[0].out_channels == 8
    assert canonical.head[0].out_channels == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reduction": 9}, "reduction of 1 to its 8 features, got 9"),
        ({"groups": 0}, "groups of at least 1, got 0"),
        ({"blocks": 0}, "blocks of at least 1, got 0"),
        ({"out_channels": 2}, "got out_channels 2"),
        ({"scale": 6}, "by 3 or by a power of two, got 6"),
    ],
)
def test_arguments_that_describe_no_network(arguments, message):
    with torch.device("meta"), pytest.raises(MedsrError, match=message) as error:
        HAN(**{**TINY, **arguments})
    assert "\n" not in str(error.value)
