"""SwinIR as Liang et al. 2021 describe it, and as Zhu 2022 ran it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks import PRESETS, SwinIR, create, load_checkpoint
from medsr.networks.blocks.window_attention import WindowAttention
from medsr.networks.blocks.windows import WINDOWS
from medsr.networks.complexity import multiply_adds
from tests.networks.oracles.swinir import swinir

TINY = {"features": 8, "depths": (2,), "heads": 2, "window": 4}


@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        ((9, 14), {}),
        ((1, 2), {"scale": 2, "depths": (3, 1)}),
        ((8, 4), {"scale": 3, "upsampler": "pixelshuffledirect", "window": 3, "heads": (4,)}),
        ((13, 6), {"scale": 2, "upsampler": "nearest+conv", "resi_connection": "3conv", "mlp_ratio": 1.5}),
        ((7, 12), {"upsampler": "nearest+conv", "in_channels": 2, "out_channels": 1, "mean": (0.3, 0.1)}),
        ((5, 5), {"in_channels": 3, "shifted": False, "features": 36, "heads": 4}),
    ],
)
def test_agrees_with_its_plain_formulation(perturbed, size, arguments):
    network = perturbed(SwinIR(**{**TINY, **arguments}))
    x = torch.randn(2, network.spec.in_channels, *size)
    expected = swinir(network)(x)
    torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-5)


def layer(d: int, heads: int = 6, window: int = 8) -> int:
    """Norms, bias table, q, k and v, projection, MLP with twice the features."""
    return 4 * d + (2 * window - 1) ** 2 * heads + 3 * d * (d + 1) + d * (d + 1) + 2 * d * (d + 1) + d * (2 * d + 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_parameters_by_hand(conv_parameters, channels):
    conv = conv_parameters

    def body(d, blocks):  # first convolution and norm; six layers and a convolution a block; norm and convolution
        return conv(channels, d) + 2 * d + blocks * (6 * layer(d) + conv(d, d)) + 2 * d + conv(d, d)

    classical = conv(180, 64) + 2 * conv(64, 256) + conv(64, channels)
    counts = {"swinir": body(180, 6) + classical, "swinir-light": body(60, 4) + conv(60, 16 * channels)}
    if channels == 3:
        assert counts == {name: {a["in_channels"]: n for a, n in PRESETS[name].also}[3] for name in counts}
        return
    counts |= {"swinir-zhu2022": body(180, 6) + conv(180, 16), "swinir-lite-zhu2022": counts["swinir-light"]}
    assert counts == {name: PRESETS[name].parameters for name in counts}
    for name, layers in (("swinir-zhu2022", 36), ("swinir-lite-zhu2022", 24)):  # the tool misses bias tables
        assert PRESETS[name].parameters - PRESETS[name].leaf_parameters == layers * 15 * 15 * 6


def test_three_convolutions_save_parameters(conv_parameters):
    """10,516,201 with the direct head (the dissertation's program, not its table)."""
    conv = conv_parameters
    with torch.device("meta"):
        network = create("swinir-zhu2022", resi_connection="3conv")
    saved = 7 * (conv(180, 180) - conv(180, 45) - conv(45, 45, 1) - conv(45, 180))
    assert sum(p.numel() for p in network.parameters()) == PRESETS["swinir-zhu2022"].parameters - saved == 10_516_201


def test_fast_attention_is_counted_as_published():
    """Zeros that make attention faster on a CPU are none of the network's products."""
    network = SwinIR(**{**TINY, "features": 20, "mean": 0.5})
    with torch.device("meta"):
        expected = multiply_adds(SwinIR(**{**TINY, "features": 20}), (8, 8))
    assert multiply_adds(network, (8, 8)) == expected


def test_layers():
    with torch.device("meta"):
        network = create("swinir")
    assert [len(block.residual_group.blocks) for block in network.layers] == [6] * 6
    assert {m.heads for m in network.modules() if isinstance(m, WindowAttention)} == {6}
    assert {tuple(block.residual_group.orders) for block in network.layers} == {(1, 2, 1, 2, 1, 2)}
    assert {m.eps for m in network.modules() if isinstance(m, nn.LayerNorm)} == {1e-5}
    drops = [layer.drop_path for block in network.layers for layer in block.residual_group.blocks]
    assert drops == pytest.approx([0.1 * i / 35 for i in range(36)])
    assert network.conv_before_upsample[1].negative_slope == 0.01
    assert network.spec.size_multiple == 8
    # Each of 18 pairs of layers sees one window further; the last one starts at the tail's and two convolutions' reach.
    assert network.spec.halo == 153


def test_what_the_dissertation_ran():
    """A direct head, and no shifts."""
    network = create("swinir-zhu2022", **TINY)
    assert network.conv_before_upsample is None
    assert {order for block in network.layers for order in block.residual_group.orders} == {WINDOWS}
    assert create("swinir-lite-zhu2022", **TINY).layers[0].residual_group.orders == [WINDOWS] * 2
    assert create("swinir-light", **TINY).layers[0].residual_group.orders != [WINDOWS] * 2
    with torch.device("meta"):
        assert create("swinir-zhu2022").spec.halo == 6 * 8 + 1


def test_starts_as_published():
    torch.manual_seed(0)
    network = SwinIR(**{**TINY, "features": 64, "window": 8})
    for key, parameter in network.named_parameters():
        module = network.get_submodule(key.rpartition(".")[0])
        if isinstance(module, nn.LayerNorm):
            assert torch.all(parameter == float(key.endswith("weight")))
        elif isinstance(module, nn.Conv2d):
            assert 0 < parameter.abs().max() <= module.weight[0].numel() ** -0.5
        elif key.endswith("bias"):
            assert torch.all(parameter == 0)
        else:  # linear layers and bias tables
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1)
            assert parameter.abs().max() < 2


def test_mean_of_three_channels_is_that_of_the_authors():
    torch.manual_seed(0)
    network = SwinIR(**TINY, in_channels=3).eval()
    other = SwinIR(**TINY, in_channels=3, mean=0.0).eval()
    other.load_state_dict(network.state_dict())
    x, mean = torch.rand(1, 3, 5, 6), torch.tensor([0.4488, 0.4371, 0.4040]).reshape(1, 3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(network(x), other(x - mean) + mean)
    assert SwinIR(**TINY).mean == 0
    assert SwinIR(**TINY, in_channels=4).mean.abs().max() == 0


def test_published_names_of_weights():
    network = create("swinir", **{**TINY, "depths": (1, 1)})
    layers = [f"layers.{i}.residual_group.blocks.0" for i in range(2)]
    names = [f"{name}.{part}" for name in layers for part in ("norm1", "attn.qkv", "attn.proj", "norm2")]
    names += [f"{name}.mlp.{part}" for name in layers for part in ("fc1", "fc2")]
    names += ["conv_first", "patch_embed.norm", "layers.0.conv", "layers.1.conv", "norm", "conv_after_body"]
    names += ["conv_before_upsample.0", "upsample.0", "upsample.2", "conv_last"]
    keys = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    keys |= {f"{name}.attn.relative_position_bias_table" for name in layers}
    assert set(network.state_dict()) == keys
    constants = {"layers.0.residual_group.blocks.1.attn_mask": torch.zeros(4, 16, 16)}
    constants |= {f"{name}.attn.relative_position_index": torch.zeros(16, 16) for name in layers}
    load_checkpoint(network, {"params": {**network.state_dict(), **constants}})


def test_tiles_near_the_padded_end():
    """A tile that ends with the image sees the reflection that the whole image has."""
    torch.manual_seed(0)
    network = SwinIR(**{**TINY, "upsampler": "pixelshuffledirect", "scale": 2}).double().eval()
    halo, window = network.spec.halo, network.spec.size_multiple
    x = torch.rand(1, 1, 61, 7, dtype=torch.double)
    start = 48
    first = (start - halo) // window * window
    assert first > 0
    with torch.no_grad():
        whole, tile = network(x), network(x[:, :, first:])
    torch.testing.assert_close(tile[:, :, 2 * (start - first) :], whole[:, :, 2 * start :])
    assert not torch.allclose(tile[:, :, : 2 * window], whole[:, :, 2 * first : 2 * (first + window)])


def test_compiles_in_one_graph():
    network = SwinIR(**TINY).eval()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    x = torch.rand(2, 1, 9, 8)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), network(x))


def test_padding_may_be_done_before():
    network, x = SwinIR(**TINY).eval(), torch.rand(1, 1, 6, 7)
    with torch.no_grad():
        padded = network(F.pad(x, (0, 1, 0, 2), mode="reflect"))
        torch.testing.assert_close(network(x), padded[:, :, :24, :28])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": 9}, "multiple of the heads, got 9 and 2"),
        ({"heads": 0}, "multiple of the heads, got 8 and 0"),
        ({"depths": ()}, "blocks of at least 1, got 0"),
        ({"depths": (2, 0)}, r"depths of at least 1 and heads for each, got \[2, 0\]"),
        ({"heads": (2, 2)}, r"heads for each, got \[2\] and \[2, 2\]"),
        ({"window": 0}, "window of at least 1, got 0"),
        ({"mlp_ratio": 0.01}, "mlp_ratio that leaves hidden features, got 0.01"),
        ({"drop_path": 1.0}, r"drop_path in \[0, 1\), got 1.0"),
        ({"scale": 5}, "by 3 or by a power of two, got 5"),
        ({"scale": 0, "upsampler": "pixelshuffledirect"}, "scale of at least 1, got 0"),
        ({"scale": 3, "upsampler": "nearest+conv"}, "by 2 or 4, got scale 3"),
        ({"upsampler": "bicubic"}, "or nearest.conv, got 'bicubic'"),
        ({"resi_connection": "2conv"}, "1conv or 3conv, got '2conv'"),
        ({"features": 2, "resi_connection": "3conv"}, "at least 4 features, got 2"),
        ({"mean": (0.1, 0.2)}, "as many means, got 2"),
        ({"in_channels": 0}, "in_channels of at least 1, got 0"),
        ({"out_channels": 2}, "1 to 1 .*got out_channels 2"),
    ],
)
def test_arguments_that_describe_no_network(arguments, message):
    with pytest.raises(MedsrError, match=message) as error:
        SwinIR(**{**TINY, **arguments})
    assert "\n" not in str(error.value)
