"""RDN as Zhang et al. 2018 describe it, and as Zhu 2022 ran it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import PRESETS, RDN, create
from medsr.networks.complexity import multiply_adds
from tests.networks.oracles.rdn import rdn

TINY = {"features": 6, "blocks": 2, "layers": 3, "growth": 4}
ZHU = {"act": "leaky_relu", "upsampling": "zhu2022"}


@pytest.mark.parametrize("definition", [{}, ZHU], ids=["zhang2018", "zhu2022"])
@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        ((9, 7), {}),
        ((1, 3), {"scale": 3}),
        ((5, 8), {"scale": 2, "mean": 0.3, "std": 0.5}),
        ((6, 5), {"in_channels": 3, "out_channels": 2, "mean": (0.1, 0.2, 0.3), "std": (1.0, 0.5, 2.0)}),
        ((4, 3, 5), {"spatial_dims": 3, "scale": 2}),
    ],
)
def test_agrees_with_its_plain_formulation(perturbed, size, arguments, definition):
    network = perturbed(RDN(**TINY, **arguments, **definition))
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(network(x), rdn(network)(x), atol=1e-5, rtol=1e-5)


def count(conv, channels: int, blocks: int, layers: int, growth: int, narrow: bool = True) -> int:
    """All convolutions of an x4 network with G0 = 64, one after the other."""
    block = sum(conv(64 + i * growth, growth) for i in range(layers)) + conv(64 + layers * growth, 64, 1)
    inner = growth if narrow else 64
    upnet = conv(64, 4 * inner) + conv(inner, 4 * inner) + conv(inner, channels)
    return conv(channels, 64) + conv(64, 64) + blocks * block + conv(blocks * 64, 64, 1) + conv(64, 64) + upnet


@pytest.mark.parametrize(
    ("name", "published", "sizes"), [("rdn-b", 22_271_131, (16, 8, 64)), ("rdn-a", 5_578_811, (20, 6, 32))]
)
def test_parameters_by_hand(conv_parameters, name, published, sizes):
    assert PRESETS[name].parameters == count(conv_parameters, 1, *sizes)
    rgb = count(conv_parameters, 3, *sizes)
    assert PRESETS[name].also == (({"in_channels": 3}, rgb),)
    assert rgb + 2 * (3 * 3 + 3) == published  # as the authors' program counts, its intensity shifts included


def test_parameters_of_the_dissertation_by_hand(conv_parameters):
    assert PRESETS["rdn-zhu2022"].parameters == count(conv_parameters, 1, 20, 6, 32, narrow=False)


@pytest.mark.parametrize(("name", "published"), [("rdn-b", 29.0938), ("rdn-a", 7.2920)])
def test_multiply_adds_with_three_channels(name, published):
    with torch.device("meta"):
        network = create(name, in_channels=3)
    assert round(multiply_adds(network, (40, 32), "all") / 1e9, 4) == published


def test_what_the_dissertation_changed():
    ran, own = create("rdn-zhu2022", blocks=1, layers=2), create("rdn-a", blocks=1, layers=2)
    assert [type(layer.conv[1]) for layer in own.RDBs[0].convs] == [nn.ReLU] * 2
    assert [layer.conv[1].negative_slope for layer in ran.RDBs[0].convs] == [0.2] * 2
    assert [m.out_channels for m in own.UPNet if isinstance(m, nn.Conv2d)] == [4 * 32, 4 * 32, 1]
    assert [m.out_channels for m in ran.UPNet.modules() if isinstance(m, nn.Conv2d)] == [4 * 64, 4 * 64, 1]
    assert not own.spec.deviations
    assert ran.spec.deviations


def test_features_are_all_but_the_upsampler(perturbed):
    network, x = perturbed(RDN(**TINY, mean=0.2)), torch.rand(1, 1, 5, 4)
    with torch.no_grad():
        features = network.features(network.sub_mean(x))
        assert features.shape == (1, 6, 5, 4)
        torch.testing.assert_close(network.add_mean(network.UPNet(features)), network(x))


def test_global_skip_comes_from_the_first_convolution(perturbed):
    network, x = perturbed(RDN(**TINY)), torch.rand(1, 1, 5, 4)
    network.GFF[1].weight.data.zero_()
    network.GFF[1].bias.data.zero_()
    with torch.no_grad():
        assert torch.equal(network.features(x), network.SFENet1(x))


def test_starts_as_torch_does():
    torch.manual_seed(0)
    for parameter in (create("rdn-a", blocks=1).RDBs[0].convs[5].conv[0].weight, create("rdn-a").GFF[0].weight):
        bound = parameter[0].numel() ** -0.5  # kaiming-uniform with a = sqrt(5)
        assert parameter.abs().max() <= bound
        assert parameter.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


@pytest.mark.parametrize(
    "arguments",
    [
        {"blocks": 0},
        {"layers": 0},
        {"growth": 0},
        {"features": 0},
        {"out_channels": 2},
        {"spatial_dims": 4},
        {"scale": 6},
        {"act": "tanh"},
        {"upsampling": "bicubic"},
        {"mean": (0.1, 0.2)},
    ],
)
def test_arguments_that_describe_no_network(arguments):
    with pytest.raises(MedsrError) as error:
        RDN(**{**TINY, **arguments})
    assert "\n" not in str(error.value)
