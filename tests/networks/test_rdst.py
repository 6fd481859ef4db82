"""RDST as Zhu 2022 describes it, chapter 5."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import PRESETS, RDST, create, load_checkpoint
from medsr.networks.blocks.window_attention import WindowAttention
from medsr.networks.complexity import count_leaf_parameters, count_parameters, multiply_adds
from tests.networks.oracles.rdst import rdst

TINY = {"features": 8, "growth": 4, "blocks": 1, "heads": 2, "window": 4}


def on_meta(name: str, **arguments) -> nn.Module:
    with torch.device("meta"):
        return create(name, **arguments)


@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        ((9, 14), {"blocks": 2}),
        ((1, 2), {"scale": 2, "pre_norm": False}),
        ((8, 4), {"scale": 3, "fusion": "mlp", "blocks": 3, "window": 3}),
        ((5, 7), {"fusion": "conv", "blocks": 2, "dense_blocks": 1, "layers": 3, "mlp_ratio": 1.5}),
        ((6, 11), {"in_channels": 2, "out_channels": 1, "mean": (0.3, 0.1), "std": (0.5, 2.0), "layers": 1}),
        ((8, 8), {"features": 20, "growth": 10, "window": 8}),
    ],
)
def test_agrees_with_its_plain_formulation(perturbed, size, arguments):
    network = perturbed(RDST(**{**TINY, **arguments}))
    x = torch.randn(2, network.spec.in_channels, *size)
    expected = rdst(network)(x)
    torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-5)


def by_hand(conv, blocks: int, pre_norm: bool = True, fusion: str = "") -> int:
    """Head, token norm, blocks, what closes the body, tail; six heads in windows of 8x8."""

    def layer(d):  # norms, bias table, q, k and v, projection, MLP with twice the features
        return 4 * d + 225 * 6 + 3 * d * (d + 1) + d * (d + 1) + 2 * d * (d + 1) + d * (2 * d + 1)

    def dense_block(d):  # two layers, norm and bottleneck to 30
        return 2 * layer(d) + 2 * (d if pre_norm else 30) + 30 * (d + 1)

    assert layer(60) == 30_810
    block = dense_block(60) + dense_block(90) + dense_block(120) + conv(150, 60)
    assert not pre_norm or block == 63_570 + 137_190 + 239_610 + 81_060 == 521_430
    closing = {
        "": 120 + conv(60, 60),
        "mlp": 60 * (blocks * 60 + 1) + 60 * 61,
        "conv": conv(blocks * 60, 60, 1) + conv(60, 60),
    }
    return conv(1, 60) + 120 + blocks * block + closing[fusion] + 2 * conv(60, 240) + conv(60, 1)


def test_parameters_by_hand(conv_parameters):
    assert PRESETS["rdst"].parameters == by_hand(conv_parameters, 8)
    assert PRESETS["rdst-e"].parameters == by_hand(conv_parameters, 4)
    unused = 120 + conv_parameters(60, 60)  # the final norm and the convolution behind it
    assert PRESETS["rdst-gff"].parameters == by_hand(conv_parameters, 8, fusion="mlp") + unused
    assert PRESETS["rdst-gff"].left_out == unused
    for name, layers in (("rdst", 48), ("rdst-e", 24)):  # the tool misses bias tables
        assert PRESETS[name].parameters - PRESETS[name].leaf_parameters == layers * 225 * 6


def test_variants_that_are_not_in_the_table(conv_parameters):
    """Figures of the author's program, which differ from the printed ones as they should."""
    post = on_meta("rdst", pre_norm=False)
    assert count_parameters(post) == by_hand(conv_parameters, 8, pre_norm=False) == 4_462_081
    assert round(multiply_adds(post, (40, 32), "thop") / 1e9, 4) == 6.1659
    few = on_meta("rdst-e", pre_norm=False)
    assert count_parameters(few) == by_hand(conv_parameters, 4, pre_norm=False) == 2_377_801
    assert round(multiply_adds(few, (40, 32), "thop") / 1e9, 4) == 3.5245
    fused = on_meta("rdst", fusion="conv")
    unused = PRESETS["rdst-gff"].left_out
    assert count_parameters(fused) == by_hand(conv_parameters, 8, fusion="conv") == 4_526_281 - unused
    assert round(count_leaf_parameters(fused) / 1e6, 4) == 4.4289
    assert round(multiply_adds(fused, (40, 32), "thop") / 1e9, 4) == 6.2063


def test_layers():
    network = on_meta("rdst")
    assert len(network.body) == 8
    for block in network.body:
        assert [dense.tail[0].normalized_shape[0] for dense in block.body] == [60, 90, 120]
        assert [dense.tail[1].out_features for dense in block.body] == [30] * 3
        assert [dense.body.orders for dense in block.body] == [[1, 2]] * 3
        assert (block.conv.in_channels, block.conv.out_channels) == (150, 60)
    assert {m.heads for m in network.modules() if isinstance(m, WindowAttention)} == {6}
    assert {m.eps for m in network.modules() if isinstance(m, nn.LayerNorm)} == {1e-5}
    assert {layer.drop_path for d in network.body[0].body for layer in d.body.blocks} == {0.0}
    # Each of 24 pairs of layers sees one window further, and the head one pixel.
    assert (network.spec.halo, on_meta("rdst-e").spec.halo) == (193, 97)
    assert len(on_meta("rdst-e").body) == 4
    fused = on_meta("rdst-gff")
    assert (fused.norm, fused.conv_after_body) == (None, None)
    assert [type(layer) for layer in fused.fusion.layers] == [nn.Linear] * 2


def test_dense_blocks_join_their_input_not_what_their_layers_made_of_it(perturbed):
    network = perturbed(RDST(**TINY))
    block = network.body[0].body[1]
    nn.init.zeros_(block.tail[1].weight)
    nn.init.zeros_(block.tail[1].bias)
    plan, x = network.windows(1, 8, 8), torch.rand(4, 1, 16, 12)
    joined = block(x, plan)
    assert torch.equal(joined[..., :12], x)
    assert joined[..., 12:].abs().max() == 0
    assert joined.shape[-1] == 16


def test_starts_as_published():
    torch.manual_seed(0)
    network = RDST(**{**TINY, "features": 64, "growth": 32, "window": 8})
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


def test_published_names_of_weights():
    network = RDST(**{**TINY, "blocks": 2, "dense_blocks": 1, "layers": 1})
    parts = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]
    names = [f"body.{i}.body.0.body.blocks.0.{part}" for i in range(2) for part in parts]
    names += [f"body.{i}.{part}" for i in range(2) for part in ("conv", "body.0.tail.0", "body.0.tail.1")]
    names += ["head", "patch_embed.norm", "norm", "conv_after_body", "tail.0.0", "tail.0.2", "tail.1"]
    keys = {f"{name}.{part}" for name in [*names, "sub_mean", "add_mean"] for part in ("weight", "bias")}
    keys |= {f"body.{i}.body.0.body.blocks.0.attn.relative_position_bias_table" for i in range(2)}
    assert set(network.state_dict()) == keys
    constants = {"body.0.body.0.body.blocks.0.attn_mask": torch.zeros(4, 16, 16)}
    constants |= {"body.0.body.0.body.blocks.0.attn.relative_position_index": torch.zeros(16, 16)}
    load_checkpoint(network, {**network.state_dict(), **constants})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": 9}, "multiple of the heads, got 9 and 2"),
        ({"growth": 3}, "multiple of the heads, got 11 and 2"),
        ({"heads": 0}, "heads of at least 1, got 0"),
        ({"blocks": 0}, "blocks of at least 1, got 0"),
        ({"dense_blocks": 0}, "dense_blocks of at least 1, got 0"),
        ({"layers": 0}, "layers of at least 1, got 0"),
        ({"window": 0}, "window of at least 1, got 0"),
        ({"mlp_ratio": 0.0}, "mlp_ratio that leaves hidden features, got 0.0"),
        ({"fusion": "gff"}, "fusion None, mlp or conv, got 'gff'"),
        ({"scale": 5}, "by 3 or by a power of two, got 5"),
        ({"std": 0.0}, "positive, got"),
        ({"in_channels": 0}, "in_channels of at least 1, got 0"),
        ({"out_channels": 2}, "1 to 1 .*got out_channels 2"),
    ],
)
def test_arguments_that_describe_no_network(arguments, message):
    with pytest.raises(MedsrError, match=message) as error:
        RDST(**{**TINY, **arguments})
    assert "\n" not in str(error.value)
