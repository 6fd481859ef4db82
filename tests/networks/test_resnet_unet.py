"""The ResNet-34 U-Net of van der Meer's report, as fastai builds it."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.parity import CASES
from medsr.errors import InputError, MedsrError
from medsr.networks import PRESETS, ResNetUNet, create, load_checkpoint
from medsr.networks.blocks.unet_decoder import SubpixelShuffle, crop
from medsr.networks.blocks.weight_normalization import SelfAttention, SpectralNormConv1d, WeightNormConv2d
from medsr.networks.complexity import multiply_adds
from tests.networks.oracles.resnet_unet import resnet_unet

TINY = {"features": 4, "blocks": (1, 1, 1, 1)}
ATTENTIVE = {"features": 8, "blocks": (1, 1, 1, 1), "self_attention": True}


@pytest.mark.parametrize("size", [(33, 47), (1, 6), (64, 32)])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"norm": "batch"},
        {"norm": "none", "blur": False},
        {"in_channels": 3, "last_cross": False},
        {"in_channels": 2, "out_channels": 1, "bottle": True, "mean": (0.4, 0.1), "std": (0.2, 0.3)},
        ATTENTIVE,
    ],
    ids=str,
)
def test_agrees_with_its_plain_formulation(perturbed, arguments, size):
    torch.manual_seed(0)
    network = perturbed(ResNetUNet(**{**TINY, **arguments})).double()
    x = torch.rand(2, network.spec.in_channels, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(x), resnet_unet(network)(x), atol=1e-8, rtol=1e-8)


def test_effective_weights_of_the_published_program(shared_parity):
    case = CASES["dynamic_unet_tiny_blur_weightnorm"]
    published = torch.load(shared_parity / "dynamic_unet_tiny_blur_weightnorm.pt", weights_only=True)
    network = create(case.network, **case.arguments)
    load_checkpoint(network, published["state_dict"])
    effective = published["effective_conv_weights"]
    pairs = {
        "middle.0.0": "layers.3.0.0",
        "blocks.0.shuf.conv.0": "layers.4.shuf.conv.0",
        "blocks.2.conv1.0": "layers.6.conv1.0",
        "residual.1.0": "layers.9.layers.1.0",
        "last.0": "layers.10.0",
    }
    for ours, theirs in pairs.items():
        torch.testing.assert_close(network.get_submodule(ours).kernels(), effective[f"{theirs}.weight_effective"])


def fastai_key(key: str, crossed: bool) -> str:
    """Where fastai's program would have put one of our weights."""
    place, _, rest = key.partition(".")
    if place == "encoder":
        children = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
        child, _, rest = rest.partition(".")
        return f"layers.0.{children[child]}.{rest}"
    if place == "blocks":
        block, _, rest = rest.partition(".")
        key = f"layers.{4 + int(block)}.{rest}"
    else:
        last = 11 if crossed else 9
        here = {"norm": "1", "middle": "3", "shuf": "8", "residual": "10.layers", "last": str(last)}
        key = f"layers.{here[place]}.{rest}"
    names = key.split(".")
    if names[-1] == "weight" and names[-2] in ("query", "key", "value"):
        names[-1] = "weight_orig"
    elif names[-1] == "weight" and names[-2] == "0":
        names[-1] = "weight_v"
    return ".".join(names)


@pytest.mark.parametrize("crossed", [True, False])
def test_takes_the_weights_of_fastai(perturbed, crossed, tmp_path):
    """Of a ResNet, with self-attention, as its learner saves them."""
    arguments = {**ATTENTIVE, "in_channels": 3, "last_cross": crossed}
    network, other = perturbed(ResNetUNet(**arguments)), ResNetUNet(**arguments).eval()
    state = {fastai_key(key, crossed): value for key, value in network.state_dict().items()}
    assert "layers.0.4.0.conv1.weight" in state
    assert "layers.5.conv2.2.query.weight_orig" in state
    torch.save({"model": state, "opt": {}}, tmp_path / "learner.pth")
    load_checkpoint(other, tmp_path / "learner.pth")
    x = torch.rand(1, 3, 40, 33)
    with torch.no_grad():
        assert torch.equal(other(x), network(x))
    with pytest.raises(InputError, match=r"missing blocks.1.conv2.2.gamma"):
        load_checkpoint(other, {k: v for k, v in state.items() if "gamma" not in k})


def decoder_parameters(channels, cross=True, bottle=False, attention=False, norm=2):
    """By hand: `norm` numbers a channel of each convolution, weight norm's g and a bias, or those of batch norm."""

    def conv(before, after, kernel):
        return before * after * kernel**2 + norm * after

    total = 2 * 512 + conv(512, 1024, 3) + conv(1024, 512, 3)
    width = 512
    for skip, after in ((256, 512), (128, 384), (64, 256), (64, 96)):
        joined = width // 2 + skip
        total += conv(width, 2 * width, 1) + 2 * skip + conv(joined, after, 3) + conv(after, after, 3)
        width = after
    total += conv(96, 4 * 96, 1)
    if cross:
        width += channels
        inner = width // 2 if bottle else width
        total += conv(width, inner, 3) + conv(inner, width, 3)
    if attention:
        total += 2 * 384 * (384 // 8) + 384 * 384 + 1
    return total + conv(width, channels, 1)


def test_parameters_by_hand():
    colour = 21_284_672
    assert decoder_parameters(3) == 19_944_541
    preset = PRESETS["resnet34-unet"]
    assert preset.parameters == colour - 2 * 64 * 49 + decoder_parameters(1)
    for arguments, parameters in preset.also:
        assert arguments["in_channels"] == 3
        assert parameters == colour + decoder_parameters(
            3,
            cross=arguments.get("last_cross", True),
            bottle=arguments.get("bottle", False),
            attention=arguments.get("self_attention", False),
        )
    with torch.device("meta"):
        network = ResNetUNet(3, norm="none")
    assert sum(p.numel() for p in network.parameters()) == colour + decoder_parameters(3, norm=1)


def test_multiply_adds_as_published():
    with torch.device("meta"):
        network = ResNetUNet(3)
    for size, expected in (((256, 256), 31.415), ((250, 334), 40.566), ((502, 672), 162.389)):
        assert round(multiply_adds(network, size, "conv") / 1e9, 3) == expected


@pytest.mark.parametrize("norm", ["weight", "batch", "none"])
def test_icnr_lasts(norm):
    """Before and after a forward pass: enlarging starts as repeating pixels, with He-normal kernels."""
    torch.manual_seed(0)
    layer = SubpixelShuffle(64, 48, norm, blur=False)
    x = torch.rand(2, 64, 5, 4)
    for _ in range(2):
        y = layer.train()(x)
        torch.testing.assert_close(y, F.interpolate(y[..., ::2, ::2], scale_factor=2.0), atol=1e-6, rtol=1e-5)
        convolution = layer.conv[0]
        kernels = convolution.kernels() if norm == "weight" else convolution.weight
        groups = kernels.reshape(48, 4, 64)
        assert (groups - groups[:, :1]).abs().max() <= 1e-6
        assert groups[:, 0].std().item() == pytest.approx(sqrt(2 / 64), rel=0.05)


def test_starts_as_fastai():
    torch.manual_seed(0)
    network = ResNetUNet(**TINY)
    for layers in (network.middle[0], network.blocks[0].conv1, network.residual[0], network.last):
        convolution = layers[0]
        assert convolution.kernels().std().item() == pytest.approx(sqrt(2 / convolution.weight[0].numel()), rel=0.2)
        torch.testing.assert_close(convolution.kernels(), convolution.weight)
        assert convolution.bias.abs().max() == 0
    for layer in (network.norm, *(block.bn for block in network.blocks)):
        assert (layer.weight.unique().tolist(), layer.bias.unique().tolist()) == ([1.0], [pytest.approx(1e-3)])
    batch = ResNetUNet(**TINY, norm="batch")
    assert batch.residual[0][2].weight.eq(1).all()
    assert batch.residual[1][2].weight.eq(0).all()  # the last residual starts at nothing


def test_layers():
    with torch.device("meta"):
        network = ResNetUNet(3, self_attention=True)
        batch = ResNetUNet(3, norm="batch")
    assert [block.shuf.blur for block in network.blocks] == [True] * 4
    assert not network.shuf.blur
    assert [[type(layer).__name__ for layer in block.conv2] for block in network.blocks] == [
        ["WeightNormConv2d", "ReLU", *(["SelfAttention"] if i == 1 else [])] for i in range(4)
    ]
    assert [type(layer) for layer in batch.blocks[0].conv1] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    assert [type(layer) for layer in batch.shuf.conv] == [nn.Conv2d, nn.BatchNorm2d]
    assert [c.bias is None for c in batch.modules() if isinstance(c, nn.Conv2d)] == [True] * (36 + 18)


def test_weight_norm_is_torchs():
    torch.manual_seed(0)
    ours, theirs = WeightNormConv2d(3, 5, 3), nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 5, 3, padding=1))
    ours.weight_g.data.uniform_(0.5, 2)
    theirs.parametrizations.weight.original0.data.copy_(ours.weight_g)
    theirs.parametrizations.weight.original1.data.copy_(ours.weight)
    theirs.bias.data.copy_(ours.bias)
    x = torch.rand(2, 3, 6, 5)
    torch.testing.assert_close(ours(x), theirs(x))
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.parametrizations.weight.original1.grad)
    torch.testing.assert_close(ours.weight_g.grad, theirs.parametrizations.weight.original0.grad)


def test_spectral_norm_is_torchs():
    torch.manual_seed(0)
    ours = SpectralNormConv1d(6, 4)
    largest = torch.linalg.svdvals(ours.weight.flatten(1))[0]
    x = torch.rand(2, 6, 7)
    theirs = nn.utils.spectral_norm(nn.Conv1d(6, 4, 1, bias=False))
    for training in (True, True, False):
        theirs.load_state_dict(
            {k.replace("weight", "weight_orig") if k == "weight" else k: v for k, v in ours.state_dict().items()}
        )
        ours.train(training), theirs.train(training)
        came, expected = ours(x), theirs(x)
        torch.testing.assert_close(came, expected)
        torch.testing.assert_close(ours.weight_u, theirs.weight_u)
        (ours.weight.grad, theirs.weight_orig.grad) = (None, None)
        came.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(ours.weight.grad, theirs.weight_orig.grad)
    torch.testing.assert_close(ours(x), F.conv1d(x, ours.weight / largest), atol=1e-2, rtol=1e-2)


def test_attention_starts_as_the_identity_and_looks_everywhere():
    torch.manual_seed(0)
    layer, x = SelfAttention(16).eval(), torch.rand(1, 16, 3, 5)
    assert torch.equal(layer(x), x)
    nn.init.ones_(layer.gamma)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x)[0, :, 0, 0].sum(), x)
    assert gradient[0].abs().sum(0).min() > 0
    assert ResNetUNet(**ATTENTIVE).spec.halo is None


@pytest.mark.parametrize("n", [1, 2, 9, 70])
def test_cropping_is_interpolating_by_nearest_neighbours(n):
    x, like = torch.rand(1, 2, n + 1, n + 1), torch.empty(1, 1, n, n + 1)
    assert torch.equal(crop(x, like), F.interpolate(x, size=(n, n + 1), mode="nearest"))


def test_a_tile_at_the_end_of_an_odd_image(perturbed):
    network = perturbed(ResNetUNet(**TINY))
    step, halo = network.spec.size_multiple, network.spec.halo
    start = -(-halo // step) * step
    x = torch.rand(1, 1, 3, start + 2 * step + 7)
    with torch.no_grad():
        whole = network(x)
        tile = network(x[..., step:])[..., start:]  # the output from start + step on
        torch.testing.assert_close(tile, whole[..., start + step :], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(network(x[..., start + step :]), whole[..., start + step :], rtol=1e-3)


def test_standardises_within(perturbed):
    inner = perturbed(ResNetUNet(**TINY, in_channels=2, mean=(0.5, 0.2), std=(0.1, 0.3)))
    bare = ResNetUNet(**TINY, in_channels=2).eval()
    load_checkpoint(bare, inner.state_dict())  # the statistics are arguments, no weights
    mean, std = torch.tensor([0.5, 0.2]).reshape(2, 1, 1), torch.tensor([0.1, 0.3]).reshape(2, 1, 1)
    x = torch.rand(1, 2, 9, 8)
    torch.testing.assert_close(inner(x), bare((x - mean) / std) * std + mean)


def test_groups_for_learning_rates():
    with torch.device("meta"):
        network = ResNetUNet(3)
    groups = network.parameter_groups()
    assert [id(p) for group in groups for p in group] == [id(p) for p in network.parameters()]
    assert [sum(p.numel() for p in group) for group in groups[:2]] == [1_347_904, 19_936_768]
    assert sum(p.numel() for p in groups[2]) == 19_944_541


def test_scripts_with_attention(perturbed):
    network = perturbed(ResNetUNet(**ATTENTIVE, mean=0.2, std=0.5))
    x = torch.rand(1, 1, 17, 33)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(x), network(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "instance"}, "norm of weight, batch, none; got 1 of 1 channel.* 'instance'"),
        ({"out_channels": 2}, "got 2 of 1 channel"),
        ({"in_channels": 3, "mean": (0.1, 0.2)}, r"needs 3 mean\(s\)"),
        ({"std": 0}, r"needs 1 std\(s\), each std above zero"),
        ({"blocks": (1, 1)}, "four stages"),
    ],
)
def test_arguments_that_describe_no_network(arguments, message):
    with pytest.raises(MedsrError, match=message) as error:
        ResNetUNet(**{**TINY, **arguments})
    assert "\n" not in str(error.value)
