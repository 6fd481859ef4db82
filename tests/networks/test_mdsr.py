"""MDSR as Lim et al. 2017 describe it, and as Zhu 2022 ran it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import MDSR, PRESETS, create
from medsr.networks.complexity import multiply_adds
from tests.networks.oracles.mdsr import mdsr

TINY = {"features": 6, "blocks": 2}


@pytest.mark.parametrize("own_ends", [False, True])
@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        ((9, 7), {}),
        ((1, 6), {"act": "leaky_relu", "res_scale": 0.3, "mean": 0.2}),
        ((5, 8), {"in_channels": 3, "out_channels": 2, "scales": (8, 3), "scale": 3}),
        ((3, 4, 2), {"spatial_dims": 3, "scales": (2, 3), "scale": 2}),
    ],
)
def test_agrees_with_its_plain_formulation_at_every_scale(perturbed, own_ends, size, arguments):
    network = perturbed(MDSR(**TINY, own_ends=own_ends, **arguments))
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(network(x), mdsr(network)(x), atol=1e-5, rtol=1e-5)
        for s in network.scales:
            scale = [float(s)] * len(size)
            torch.testing.assert_close(network(x, scale), mdsr(network)(x, scale), atol=1e-5, rtol=1e-5)


def test_parameters_by_hand(conv_parameters):
    conv, body = conv_parameters, (2 * 80 + 1) * conv_parameters(64, 64)
    upsamplers = conv(64, 4 * 64) + conv(64, 9 * 64) + 2 * conv(64, 4 * 64)
    pre_process = 3 * 2 * 2 * conv(64, 64, 5)
    shared = conv(1, 64) + pre_process + body + upsamplers + conv(64, 1)
    assert PRESETS["mdsr"].parameters == shared
    rgb = conv(3, 64) + pre_process + body + upsamplers + conv(64, 3)
    assert PRESETS["mdsr"].also == (({"in_channels": 3}, rgb),)
    assert rgb + 2 * (3 * 3 + 3) == 7_954_011  # as the authors' program counts, its intensity shifts included
    ran = PRESETS["mdsr-zhu2022"]
    assert ran.left_out == conv(1, 64)
    assert ran.parameters - ran.left_out == 3 * conv(1, 64) + body + upsamplers + 3 * conv(64, 1)


def test_multiply_adds_at_the_other_scale():
    """Zhu 2022: 8.5532 G at x4, 7.7894 G at x2, with all weights in one network."""
    with torch.device("meta"):
        network = create("mdsr-zhu2022")
    assert [round(multiply_adds(network, (40, 32), "all", [s, s]) / 1e9, 4) for s in (2.0, 4.0)] == [7.7894, 8.5532]


def test_scale_chooses_the_branch(perturbed):
    network, x = perturbed(MDSR(**TINY, scale=3)), torch.rand(1, 1, 4, 5)
    assert network.spec.scales == (3, 3)
    assert network.spec.other_scales == ((2, 2), (4, 4))
    with torch.no_grad():
        assert torch.equal(network(x), network(x, [3.0, 3.0]))
        assert [network(x, [s, s]).shape[2:] for s in (2.0, 3.0, 4.0)] == [(8, 10), (12, 15), (16, 20)]


@pytest.mark.parametrize("scale", [[2.0, 3.0], [5.0, 5.0], [2.5, 2.5], [2.0], [2.0, 2.0, 2.0]])
def test_scales_it_was_not_built_for(scale):
    network = MDSR(**TINY)
    for forward in (network, torch.jit.script(network)):
        with pytest.raises(Exception, match=rf"one scale out of \[2, 3, 4\] on all axes, got \[{scale[0]:g}") as error:
            forward(torch.rand(1, 1, 4, 4), scale)
        assert isinstance(error.value, MedsrError) or isinstance(forward, torch.jit.ScriptModule)


@pytest.mark.parametrize("own_ends", [False, True])
def test_torchscript_keeps_all_branches(perturbed, own_ends):
    network = perturbed(MDSR(**TINY, own_ends=own_ends))
    script, x = torch.jit.script(network), torch.rand(1, 1, 4, 5)
    with torch.no_grad():
        for s in (2.0, 3.0, 4.0):
            torch.testing.assert_close(script(x, [s, s]), network(x, [s, s]))


def weights_used(network, scale):
    network.zero_grad(set_to_none=True)
    network(torch.rand(1, 1, 5, 5), [scale, scale]).sum().backward()
    return {name for name, p in network.named_parameters() if p.grad is not None}


def names(*layers):
    return {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}


def test_what_the_scales_share():
    body = [*(f"body.{i}.body.{j}" for i in (0, 1) for j in (0, 2)), "body.2"]
    blocks = [f"pre_process.1.{i}.body.{j}" for i in (0, 1) for j in (0, 2)]
    for own_ends, ends, own in (
        (False, ["head.0", "tail.0"], [*blocks, "upsample.1.0"]),
        (True, [], ["pre_process.1.0", "upsample.1.0.0", "upsample.1.1"]),
    ):
        network = MDSR(**TINY, own_ends=own_ends)
        x2, x3, x4 = (weights_used(network, s) for s in (2.0, 3.0, 4.0))
        assert x2 & x3 == x2 & x4 == names(*body, *ends)
        assert x3 - x2 == names(*own)
        assert x2 | x3 | x4 == {name for name, _ in network.named_parameters()}


def test_layers():
    with torch.device("meta"):
        canonical, ran = create("mdsr"), create("mdsr-zhu2022")
    for network in (canonical, ran):
        assert len(network.body) == 81
        assert {block.res_scale for block in network.body[:-1]} == {1.0}
        assert {type(block.body[1]) for block in network.body[:-1]} == {nn.ReLU}
    sizes = {c.kernel_size for c in canonical.pre_process.modules() if isinstance(c, nn.Conv2d)}
    assert sizes == {(5, 5)}
    assert [type(layer) for layer in ran.pre_process[0]] == [nn.Conv2d]
    assert ran.pre_process[0][0].kernel_size == (3, 3)


def test_halo_holds_for_every_scale(perturbed):
    network = perturbed(MDSR(**TINY)).double()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.abs_()
            layer.bias.data.abs_()
    halo, n = network.spec.halo, 61
    for s in (2, 3, 4):
        x = torch.rand(1, 1, n, 1, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(network(x, [s, s])[:, :, n // 2 * s : (n // 2 + 1) * s].sum(), x)
        assert (gradient.flatten().nonzero().flatten() - n // 2).abs().max() == halo


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 5}, r"one of its scales.*got scale 5 and scales \[2, 3, 4\]"),
        ({"scales": ()}, r"got scale 4 and scales \[\]"),
        ({"scales": (4, 4)}, r"must be distinct; got scale 4 and scales \[4, 4\]"),
        ({"scales": (4, 5)}, "by 3 or by a power of two, got 5"),
        ({"blocks": 0}, "blocks of at least 1"),
        ({"out_channels": 2}, "got out_channels 2"),
        ({"act": "gelu"}, "got 'gelu'"),
    ],
)
def test_arguments_that_describe_no_network(arguments, message):
    with pytest.raises(MedsrError, match=message) as error:
        MDSR(**{**TINY, **arguments})
    assert "\n" not in str(error.value)
