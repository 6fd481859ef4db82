"""SRDenseNet as Tong et al. 2017 describe it, and as Zhu 2022 ran it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import PRESETS, SRDenseNet, create, load_checkpoint
from medsr.networks.complexity import multiply_adds
from medsr.networks.srdensenet import CumulativeBlock
from tests.networks.oracles.srdensenet import cumulative_block, srdensenet

TINY = {"features": 5, "blocks": 3, "layers": 3, "growth": 4, "width": 7}


@pytest.mark.parametrize("definition", ["tong2017", "zhu2022"])
@pytest.mark.parametrize("connections", ["h", "hl", "all"])
@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        ((9, 7), {}),
        ((1, 3), {"scale": 2, "in_channels": 3, "out_channels": 2, "mean": (0.1, 0.2, 0.3), "std": (1.0, 0.5, 2.0)}),
        ((4, 3, 5), {"spatial_dims": 3, "scale": 2, "mean": 0.3, "layers": 1}),
    ],
)
def test_agrees_with_its_plain_formulation(perturbed, size, arguments, connections, definition):
    network = perturbed(SRDenseNet(**{**TINY, "connections": connections, "definition": definition, **arguments}))
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(network(x), srdensenet(network)(x), atol=1e-5, rtol=1e-5)


def test_enlarges_by_three(perturbed):
    network, x = perturbed(SRDenseNet(**TINY, definition="zhu2022", scale=3)), torch.randn(1, 1, 5, 4)
    with torch.no_grad():
        torch.testing.assert_close(network(x), srdensenet(network)(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_cumulative_block_has_the_gradients_of_the_plain_one(dims):
    torch.manual_seed(0)
    block = CumulativeBlock(dims, 5, 3, 4)
    x = torch.randn(2, 5, *(6, 5, 4)[:dims])
    gradients = []
    for compute in (block, lambda given: cumulative_block(given, block)):
        given = x.clone().requires_grad_()
        output = compute(given)
        wanted = torch.sin(torch.arange(output.numel(), dtype=torch.float32)).reshape(output.shape)
        gradients.append([output, *torch.autograd.grad((output * wanted).sum(), [given, *block.parameters()])])
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)


def test_parameters_by_hand(conv_parameters):
    conv = conv_parameters

    def block(channels: int) -> int:
        return conv(channels, 16) + sum(conv(i * 16, 16) for i in range(1, 8))

    blocks = sum(block(128 + i * 128) for i in range(8))
    tail = conv(128 + 8 * 128, 256, 1) + 2 * conv(256, 256) + conv(256, 1)
    assert PRESETS["srdensenet"].parameters == conv(1, 128) + blocks + tail
    blocks = sum(conv(16 + 128 * i + 16 * j, 16) for i in range(8) for j in range(8))
    gathered = 16 + sum(16 + 128 * i for i in range(1, 9))
    assert gathered == 4752
    tails = {2: conv(256, 1024), 3: conv(256, 2304), 4: 2 * conv(256, 1024)}
    ran = PRESETS["srdensenet-zhu2022"]
    counts = {4: ran.parameters, **{arguments["scale"]: n for arguments, n in ran.also}}
    assert counts == {
        scale: conv(1, 16) + blocks + conv(gathered, 256, 1) + tail + conv(256, 1) for scale, tail in tails.items()
    }
    assert sum(counts.values()) == 30_429_411  # Zhu 2022, table 4.1: 30.4 M


@pytest.mark.parametrize("convention", ["conv", "thop", "all"])
def test_every_convention_counts_the_same_products(convention):
    """Also those of convolutions that are computed together."""
    with torch.device("meta"):
        network = create("srdensenet-zhu2022")
    assert round(multiply_adds(network, (40, 32), convention) / 1e9, 4) == 22.8382


def test_69_weight_layers_and_68_activations():
    """Tong et al. 2017, section 4: all but the last are followed by one."""
    called = []
    network = create("srdensenet", features=4, growth=2, width=4).eval()
    for module in network.modules():
        if isinstance(module, nn.ReLU | nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda module, *_: called.append(type(module)))
    network(torch.rand(1, 1, 4, 4))
    assert called.count(nn.ReLU) == 68
    assert len(called) == 68 + 69
    assert called[-3:] == [nn.ConvTranspose2d, nn.ReLU, nn.Conv2d]


def test_starts_as_published():
    torch.manual_seed(0)
    own, ran = create("srdensenet", blocks=2), create("srdensenet-zhu2022", blocks=2)
    for layer in (own.head[0], own.body[1][0][0], own.body[1][7].conv[0], own.bottleneck[0], own.tail[0][2]):
        few = layer.weight.numel() < 10_000
        expected = (2 / layer.weight[0].numel()) ** 0.5
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.06 if few else 0.02)
        assert not layer.bias.any()
    for layer in (ran.body[1].layers[7], ran.bottleneck[0]):
        assert layer.weight.std().item() == pytest.approx((3 * layer.weight[0].numel()) ** -0.5, rel=0.02)


def test_what_the_dissertation_changed():
    own, ran = create("SRDenseNet", **TINY), create("srdensenet-zhu2022", **TINY)
    assert [len(net.head) for net in (own, ran)] == [2, 1]
    assert [len(net.bottleneck) for net in (own, ran)] == [2, 1]
    assert [net.bottleneck[0].in_channels for net in (own, ran)] == [5 + 3 * 12, 5 + 17 + 29 + 41]
    assert not own.spec.deviations
    assert ran.spec.deviations


def test_weights_of_a_public_program(perturbed):
    """Named as "yjn870" does, whose network is the default."""
    network = perturbed(SRDenseNet(**TINY))
    theirs = {}
    for key, value in network.state_dict().items():
        kind, leaf = key.split(".")[0], key.rsplit(".", 1)[1]
        parts = key.split(".")
        if kind == "body":
            theirs[f"dense_blocks.{parts[1]}.block.{parts[2]}.conv.{leaf}"] = value
        elif kind == "tail":
            theirs[f"deconv.{parts[2]}.{leaf}" if parts[1] == "0" else f"reconstruction.{leaf}"] = value
        else:
            theirs[f"conv.conv.{leaf}" if kind == "head" else key] = value
    other = SRDenseNet(**TINY)
    load_checkpoint(other, theirs)
    x = torch.rand(1, 1, 4, 5)
    with torch.no_grad():
        assert torch.equal(other(x), network(x))


@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": 3},
        {"scale": 6, "definition": "zhu2022"},
        {"definition": "tong"},
        {"connections": "l"},
        {"blocks": 0},
        {"layers": 0},
        {"growth": 0},
        {"width": 0},
        {"out_channels": 2},
        {"spatial_dims": 1},
        {"mean": (0.1, 0.2)},
    ],
)
def test_arguments_that_describe_no_network(arguments):
    with pytest.raises(MedsrError) as error:
        SRDenseNet(**{**TINY, **arguments})
    assert "\n" not in str(error.value)
