"""EDSR as Lim et al. 2017 describe it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import EDSR, PRESETS, create
from tests.networks.oracles.edsr import edsr

TINY = {"features": 6, "blocks": 2}


@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        ((9, 7), {}),
        ((1, 3), {"scale": 3}),
        ((5, 8), {"scale": 2, "act": "leaky_relu", "res_scale": 1.0}),
        ((6, 5), {"in_channels": 3, "out_channels": 2, "mean": (0.1, 0.2, 0.3), "std": (1.0, 0.5, 2.0)}),
        ((4, 3, 5), {"spatial_dims": 3, "scale": 2, "mean": 0.3}),
    ],
)
def test_agrees_with_its_plain_formulation(perturbed, size, arguments):
    network = perturbed(EDSR(**TINY, **arguments))
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(network(x), edsr(network)(x), atol=1e-5, rtol=1e-5)


def by_hand(conv, blocks, features, scale, channels=1):
    """Head, two convolutions a block and one behind them, stages, tail."""
    stages = {2: conv(features, 4 * features), 3: conv(features, 9 * features), 4: 2 * conv(features, 4 * features)}
    body = (2 * blocks + 1) * conv(features, features)
    return conv(channels, features) + body + stages[scale] + conv(features, channels)


def test_parameters_by_hand(conv_parameters):
    sizes = {"edsr": (32, 256), "edsr-baseline": (16, 64), "edsr-lite-zhu2022": (16, 64)}
    for name, (blocks, features) in sizes.items():
        preset = PRESETS[name]
        assert preset.parameters == by_hand(conv_parameters, blocks, features, 4)
        for arguments, parameters in preset.also:
            assert parameters == by_hand(conv_parameters, blocks, features, arguments["scale"])
    # 40x32 pixels pass the head and the body, the stages work at 1 and 2 times the size, the tail at 4 times.
    macs = 9 * 1280 * (256 + 65 * 256**2 + 1024 * 256 + 4 * 1024 * 256 + 16 * 256)
    assert PRESETS["edsr"].multiply_adds["conv"] == round(macs / 1e9, 4)


def test_layers():
    with torch.device("meta"):
        network = create("edsr")
    block = network.body[0].body
    assert [type(layer) for layer in block] == [nn.Conv2d, nn.ReLU, nn.Conv2d]
    assert len(network.body) == 33  # the last one is the convolution behind the blocks
    assert {block.res_scale for block in network.body[:-1]} == {0.1}
    activations = [layer for layer in network.modules() if isinstance(layer, nn.ReLU | nn.LeakyReLU | nn.PReLU)]
    assert len(activations) == 32  # none outside the blocks
    assert not [layer for layer in network.modules() if "Norm" in type(layer).__name__]
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert {c.kernel_size for c in convolutions} == {(3, 3)}
    assert {c.padding for c in convolutions} == {(1, 1)}


def test_what_the_dissertation_ran():
    network = create("edsr-lite-zhu2022", **TINY)
    assert network.body[0].body[1].negative_slope == 0.2
    assert network.body[0].res_scale == 1.0
    baseline = create("edsr-baseline", **TINY)
    assert isinstance(baseline.body[0].body[1], nn.ReLU)
    assert baseline.body[0].res_scale == 1.0


def test_starts_as_torch_draws():
    torch.manual_seed(0)
    for layer in EDSR(features=32, blocks=2).modules():
        if isinstance(layer, nn.Conv2d):
            bound = layer.weight[0].numel() ** -0.5
            assert layer.weight.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)
            assert 0 < layer.bias.abs().max() <= bound


def test_published_names_of_weights():
    """As the authors' program saves them; an RGB checkpoint brings its own intensity shifts."""
    keys = set(create("edsr-baseline", in_channels=3, features=4).state_dict())
    names = ["sub_mean", "add_mean", "head.0", "body.16", "tail.0.0", "tail.0.2", "tail.1"]
    names += [f"body.{i}.body.{j}" for i in range(16) for j in (0, 2)]
    assert keys == {f"{name}.{part}" for name in names for part in ("weight", "bias")}


def test_intensity_shifts(perturbed):
    plain = perturbed(EDSR(**TINY, in_channels=2, out_channels=1))
    shifted = EDSR(**TINY, in_channels=2, out_channels=1, mean=(0.4, 0.1), std=(0.2, 3.0)).eval()
    shifted.load_state_dict({k: v for k, v in plain.state_dict().items() if "mean" not in k}, strict=False)
    x = torch.rand(1, 2, 5, 6)
    scaled = (x - torch.tensor([0.4, 0.1])[:, None, None]) / torch.tensor([0.2, 3.0])[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(shifted(x), plain(scaled) * 0.2 + 0.4, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 5}, "by 3 or by a power of two, got 5"),
        ({"scale": 1}, "got 1"),
        ({"blocks": 0}, "blocks of at least 1, got 0"),
        ({"features": 0}, "features of at least 1, got 0"),
        ({"in_channels": 0}, "in_channels of at least 1, got 0"),
        ({"out_channels": 2}, "1 to 1 .*got out_channels 2"),
        ({"spatial_dims": 1}, "2 or 3 dimensions, got spatial_dims 1"),
        ({"act": "gelu"}, "relu, leaky_relu, prelu; got 'gelu'"),
        ({"mean": (0.1, 0.2)}, "as many means"),
        ({"std": 0.0}, "positive, got"),
    ],
)
def test_arguments_that_describe_no_network(arguments, message):
    with pytest.raises(MedsrError, match=message) as error:
        EDSR(**{**TINY, **arguments})
    assert "\n" not in str(error.value)
