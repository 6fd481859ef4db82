"""SRResNet as Ledig et al. 2017 and Zhu 2022 have it, and BasicSR's MSRResNet."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks import PRESETS, MSRResNet, SRResNet, create
from tests.networks.oracles.srresnet import msrresnet, srresnet

TINY = {"features": 6, "blocks": 2}
SIZES = [
    ((9, 7), {}),
    ((1, 6), {"scale": 3}),
    ((5, 8), {"in_channels": 3, "out_channels": 2, "scale": 2}),
    ((3, 4, 2), {"spatial_dims": 3, "scale": 2}),
]


@pytest.mark.parametrize("definition", ["ledig2017", "zhu2022"])
@pytest.mark.parametrize(("size", "arguments"), [*SIZES, ((5, 4), {"mean": 0.3, "std": 0.5})])
def test_agrees_with_its_plain_formulation(perturbed, definition, size, arguments):
    network = perturbed(SRResNet(**TINY, definition=definition, **arguments))
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(network(x), srresnet(network)(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("size", "arguments"), SIZES)
def test_msrresnet_agrees_with_its_plain_formulation(perturbed, size, arguments):
    network = perturbed(MSRResNet(**TINY, **arguments))
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(network(x), msrresnet(network)(x), atol=1e-5, rtol=1e-5)


def test_parameters_by_hand(conv_parameters):
    conv, norm, slope = conv_parameters, 2 * 64, 1
    block = 2 * (conv(64, 64) + norm)
    stages = {2: [4], 3: [9], 4: [4, 4]}

    def ledig(blocks, scale):
        upsampler = sum(conv(64, 64 * n) + slope for n in stages[scale])
        body = blocks * (block + slope) + conv(64, 64) + norm
        return conv(1, 64, 9) + slope + body + upsampler + conv(64, 1, 9)

    def zhu(scale):
        upsampler = sum(conv(64, 64 * n) + norm for n in stages[scale])
        return conv(1, 64) + 16 * block + slope + conv(64, 64) + upsampler + conv(64, 1)

    assert PRESETS["srresnet"].parameters == ledig(16, 4)
    assert PRESETS["srgan-tan2020"].parameters == ledig(5, 2)
    ran = PRESETS["srresnet-zhu2022"]
    assert ran.parameters == zhu(4)
    counts = {4: ran.parameters, **{arguments["scale"]: n for arguments, n in ran.also}}
    assert counts == {scale: zhu(scale) for scale in (2, 3, 4)}
    assert sum(counts.values()) == 4_447_814
    blocks = 16 * 2 * conv(64, 64)
    assert PRESETS["msrresnet"].parameters == (conv(1, 64) + blocks + 2 * conv(64, 4 * 64) + conv(64, 64) + conv(64, 1))


def kinds(layers):
    return [type(layer) for layer in layers]


def test_layers_of_ledig():
    with torch.device("meta"):
        network = create("srresnet")
    assert kinds(network.body[0].body) == [nn.Conv2d, nn.BatchNorm2d, nn.PReLU, nn.Conv2d, nn.BatchNorm2d]
    assert kinds(network.body[-2:]) == [nn.Conv2d, nn.BatchNorm2d]
    assert len(network.body) == 16 + 2
    assert kinds(network.head) == [nn.Conv2d, nn.PReLU]
    assert [layer.kernel_size for layer in (network.head[0], network.tail[1])] == [(9, 9), (9, 9)]
    slopes = [layer.weight for layer in network.modules() if isinstance(layer, nn.PReLU)]
    assert len(slopes) == 1 + 16 + 2
    assert {slope.shape for slope in slopes} == {(1,)}


def test_layers_of_the_dissertation():
    with torch.device("meta"):
        network = create("srresnet-zhu2022")
    assert kinds(network.head) == [nn.Conv2d]
    assert kinds(network.body[-1:]) == [nn.Conv2d]
    assert len(network.body) == 16 + 1
    assert kinds(network.tail[0])[::3] == [nn.Conv2d, nn.Conv2d]
    assert kinds(network.tail[0])[2::3] == [nn.BatchNorm2d, nn.BatchNorm2d]
    assert [layer.kernel_size for layer in (network.head[0], network.tail[1])] == [(3, 3), (3, 3)]


def test_one_prelu_is_shared():
    """Under all its published names, through copies, state dicts and an update."""
    network = create("srresnet-zhu2022", **TINY)
    names = [f"body.{i}.body.2.weight" for i in range(2)]
    assert set(names) < set(network.state_dict())
    for one in (network, deepcopy(network), torch.jit.script(network)):
        weights = one.state_dict()
        weights["body.0.body.2.weight"].fill_(0.5)
        assert weights["body.1.body.2.weight"] == 0.5
    slopes = [p for p in network.parameters() if p.numel() == 1]
    assert len(slopes) == 2  # that one, and the bias of the last convolution
    network(torch.randn(2, 1, 5, 5)).sum().backward()
    torch.optim.SGD(network.parameters(), 0.1).step()
    first, second = (network.state_dict()[name] for name in names)
    assert first == second != 0.5


def test_starts_as_torch_draws():
    torch.manual_seed(0)
    for layer in SRResNet(features=32, blocks=2).modules():
        if isinstance(layer, nn.Conv2d):
            bound = layer.weight[0].numel() ** -0.5
            assert layer.weight.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)
        if isinstance(layer, nn.PReLU):
            assert layer.weight.item() == 0.25


def test_msrresnet_starts_at_a_tenth_of_he():
    torch.manual_seed(0)
    for layer in MSRResNet(features=32, blocks=2).modules():
        if isinstance(layer, nn.Conv2d):
            expected = 0.1 * (2 / layer.weight[0].numel()) ** 0.5
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.15)
            assert layer.bias.abs().max() == 0


def test_training_normalises_by_the_batch():
    network, x = SRResNet(**TINY).train(), torch.randn(2, 1, 6, 6)
    trained = network(x)
    assert network.body[0].body[1].num_batches_tracked == 1
    assert not torch.allclose(network.eval()(x), trained)


@pytest.mark.parametrize("size", [(5, 4), (3, 2, 4)])
def test_msrresnet_adds_to_the_interpolated_image(size):
    network = MSRResNet(**TINY, in_channels=2, out_channels=1, scale=3, spatial_dims=len(size))
    nn.init.zeros_(network.conv_last.weight)
    x = torch.rand(1, 2, *size)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    expected = F.interpolate(x[:, :1], scale_factor=3, mode=mode, align_corners=False)
    torch.testing.assert_close(network(x), expected)


def test_msrresnet_activations():
    """ReLU within the blocks, a slope of 0.1 everywhere else."""
    network = MSRResNet(**TINY)
    assert {type(block.body[1]) for block in network.body} == {nn.ReLU}
    leaky = [layer for layer in network.modules() if isinstance(layer, nn.LeakyReLU)]
    assert {layer.negative_slope for layer in leaky} == {0.1}
    assert len(leaky) == 2 + 1  # after each stage, and the one that the other convolutions share
    assert not [layer for layer in network.modules() if "Norm" in type(layer).__name__]


@pytest.mark.parametrize("network", [SRResNet, MSRResNet])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 6}, "by 3 or by a power of two, got 6"),
        ({"blocks": 0}, "blocks of at least 1, got 0"),
        ({"in_channels": 2, "out_channels": 3}, "1 to 2 .*got out_channels 3"),
        ({"spatial_dims": 4}, "got spatial_dims 4"),
    ],
)
def test_arguments_that_describe_no_network(network, arguments, message):
    with pytest.raises(MedsrError, match=message) as error:
        network(**{**TINY, **arguments})
    assert "\n" not in str(error.value)


def test_definitions():
    with pytest.raises(MedsrError, match="ledig2017 and zhu2022, got 'ledig'"):
        SRResNet(definition="ledig")
