"""ConvNetSR as Zhu 2022 ran it, with the blocks of Liu et al. 2022."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks import PRESETS, ConvNetSR, create
from medsr.networks.convnet import ConvNeXtBlock
from tests.networks.oracles.convnet import convnet

TINY = {"features": 6, "blocks": 2}


@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        ((9, 7), {}),
        ((1, 3), {"scale": 3}),
        ((5, 8), {"scale": 2, "features": 1}),
        ((6, 5), {"in_channels": 3, "out_channels": 2}),
        ((4, 3, 5), {"spatial_dims": 3, "scale": 2}),
    ],
)
def test_agrees_with_its_plain_formulation(perturbed, size, arguments):
    network = perturbed(ConvNetSR(**{**TINY, **arguments}))
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(network(x), convnet(network)(x), atol=1e-5, rtol=1e-5)


def test_block_moves_its_channels_without_copies(monkeypatch):
    """With channels last in memory, what the norm is given is contiguous as it is, and so is what the block returns."""
    given, norm = [], F.layer_norm
    monkeypatch.setattr(F, "layer_norm", lambda x, *rest: given.append(x.is_contiguous()) or norm(x, *rest))
    block, x = ConvNeXtBlock(2, 6), torch.rand(2, 6, 5, 4).contiguous(memory_format=torch.channels_last)
    assert block(x).is_contiguous(memory_format=torch.channels_last)
    ConvNetSR(**TINY)(torch.rand(2, 1, 5, 4))
    ConvNetSR(**TINY, spatial_dims=3)(torch.rand(2, 1, 5, 4, 3))
    assert given == [True] * 5


def test_parameters_by_hand(conv_parameters):
    def count(features: int, blocks: int, bare: bool = True) -> int:
        depthwise, norm, gamma = features * (49 + 1), 2 * features, features
        linear = features * 4 * features + 4 * features + 4 * features * features + features
        block = depthwise + linear + (norm + gamma if bare else 0)
        ends = conv_parameters(1, features) + conv_parameters(features, 1)
        return ends + blocks * block + 2 * conv_parameters(features, 4 * features)

    for name, sizes in (("convnet-lite-zhu2022", (64, 16)), ("convnet-large-zhu2022", (192, 32))):
        assert PRESETS[name].parameters == count(*sizes)
        assert PRESETS[name].leaf_parameters == count(*sizes, bare=False)


def test_starts_as_published():
    torch.manual_seed(0)
    network = create("convnet-large-zhu2022", blocks=1)
    block = network.body[0]
    assert torch.equal(block.gamma, torch.full((192,), 1e-6))
    assert torch.equal(block.norm.weight, torch.ones(192))
    assert not block.norm.bias.any()
    for layer in (block.dwconv, block.pwconv1, block.pwconv2, network.tail[0][0]):
        bound = layer.weight[0].numel() ** -0.5  # kaiming-uniform with a = sqrt(5)
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_intensity_shifts_of_the_program_are_dropped():
    """It builds and saves them, and never applies them: a network that did would not reproduce its outputs."""
    network = ConvNetSR(**TINY)
    assert not any("mean" in key for key in network.state_dict())
    patterns = dict(network.PUBLISHED_KEYS)
    assert list(patterns.values()) == [None]


@pytest.mark.parametrize(
    "arguments", [{"blocks": 0}, {"features": 0}, {"out_channels": 2}, {"spatial_dims": 1}, {"scale": 6}]
)
def test_arguments_that_describe_no_network(arguments):
    with pytest.raises(MedsrError) as error:
        ConvNetSR(**{**TINY, **arguments})
    assert "\n" not in str(error.value)
