"""RRDBNet as Wang et al. 2018 describe it, and as Zhu 2022 ran it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import PRESETS, RRDBNet, create, load_checkpoint
from medsr.networks.blocks.residual import MeanShift
from medsr.networks.blocks.upsamplers import PixelShuffle, PixelUnshuffle, quickest_layout
from tests.networks.oracles.rrdbnet import rrdbnet

TINY = {"features": 6, "blocks": 2, "growth": 4}


@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        ((9, 7), {}),
        ((7, 5), {"scale": 2}),
        ((1, 1), {"scale": 2}),
        ((3, 6), {"scale": 1, "in_channels": 2}),
        ((4, 5), {"in_channels": 3, "out_channels": 2, "mean": (0.1, 0.2, 0.3), "std": (1.0, 0.5, 2.0)}),
        ((2, 3, 5), {"spatial_dims": 3}),
        ((3, 4, 5), {"spatial_dims": 3, "scale": 2}),
        ((9, 7), {"definition": "zhu2022"}),
        ((1, 4), {"definition": "zhu2022", "scale": 3, "mean": 0.3, "std": 0.5}),
        ((4, 3, 2), {"definition": "zhu2022", "scale": 2, "spatial_dims": 3}),
    ],
)
def test_agrees_with_its_plain_formulation(perturbed, size, arguments):
    network = perturbed(RRDBNet(**TINY, **arguments))
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        came = network(x)
        torch.testing.assert_close(came, rrdbnet(network)(x), atol=1e-5, rtol=1e-5)
    assert came.shape == (2, network.spec.out_channels, *(n * network.scale for n in size))


def test_parameters_by_hand(conv_parameters):
    conv = conv_parameters

    def dense(last: int) -> int:
        return sum(conv(64 + i * 32, 32) for i in range(4)) + conv(64 + 4 * 32, 64, last)

    def wang(channels: int, step: int = 1) -> int:
        first = conv(channels * step**2, 64)
        return first + 23 * 3 * dense(3) + conv(64, 64) + 3 * conv(64, 64) + conv(64, channels)

    preset = PRESETS["rrdbnet"]
    assert preset.parameters == wang(1)
    assert preset.also == (({"in_channels": 3}, wang(3)), ({"scale": 2}, wang(1, 2)))
    zhu = conv(1, 64) + 23 * 3 * dense(1) + conv(64, 64)
    tails = {2: conv(64, 256), 3: conv(64, 576), 4: 2 * conv(64, 256)}
    ran = PRESETS["esrgan-zhu2022"]
    counts = {4: ran.parameters, **{arguments["scale"]: n for arguments, n in ran.also}}
    assert counts == {scale: zhu + tail + conv(64, 1) for scale, tail in tails.items()}
    assert sum(counts.values()) == 30_181_251  # Zhu 2022, table 4.1: 30.2 M


@pytest.mark.parametrize(("scale", "step"), [(2, 2), (1, 4)])
def test_halo_on_the_coarser_grid(perturbed, scale, step):
    network = perturbed(RRDBNet(**{**TINY, "blocks": 1}, scale=scale)).double()
    assert network.spec.size_multiple == step
    for parameter in network.parameters():  # positive, so that no path is hidden
        parameter.data.abs_().add_(1e-3)
    halo = network.spec.halo
    start = halo + step
    x = torch.rand(1, 1, start + 2 * step + halo, 1, dtype=torch.float64, requires_grad=True)
    wanted = network(x)[:, :, start * scale : (start + step) * scale]
    (gradient,) = torch.autograd.grad((wanted * torch.rand_like(wanted)).sum(), x)
    seen = gradient.flatten().nonzero().flatten()
    reach = max(start - seen.min().item(), seen.max().item() - (start + step - 1))
    assert halo - step < reach <= halo


def test_tiles_at_multiples_are_exact(perturbed):
    network = perturbed(RRDBNet(**{**TINY, "blocks": 1}, scale=2))
    halo = network.spec.halo
    x = torch.rand(1, 1, 2 * halo + 7, 6)
    with torch.no_grad():
        whole = network(x)[:, :, : 2 * 4]
        tile = network(x[:, :, : 4 + halo])[:, :, : 2 * 4]
        end = network(x[:, :, 6:])[:, :, 2 * halo :]  # with the odd row
    torch.testing.assert_close(tile, whole, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(end, network(x)[:, :, 2 * (6 + halo) :], atol=1e-5, rtol=1e-5)


def test_odd_sizes_are_continued_by_their_last_voxels(perturbed):
    network, x = perturbed(RRDBNet(**TINY, scale=2)), torch.rand(1, 1, 5, 4)
    continued = torch.cat([x, x[:, :, -1:]], 2)
    with torch.no_grad():
        torch.testing.assert_close(network(x), network(continued)[:, :, :10])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_unshuffle_is_the_inverse_of_shuffle(dims, scale):
    x = torch.rand(2, 3, *(scale * n for n in (2, 3, 4)[:dims]))
    apart = PixelUnshuffle(dims, scale)(x)
    assert apart.shape == (2, 3 * scale**dims, *(2, 3, 4)[:dims])
    assert torch.equal(PixelShuffle(dims, scale)(apart), x)


def test_layout_of_features_that_are_enlarged():
    """Channels last where no gradients are wanted; the values stay."""
    x, volume = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5, 6)
    assert quickest_layout(x) is x
    assert quickest_layout(volume) is volume
    with torch.no_grad():
        laid = quickest_layout(x)
        assert laid.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(laid, x)
        assert quickest_layout(volume) is volume
    assert quickest_layout(laid).is_contiguous()


def test_starts_as_published():
    torch.manual_seed(0)
    network = create("rrdbnet", blocks=1)
    dense = network.body[0].body[0]
    for layer in (*(layer.conv[0] for layer in dense.convs), dense.LFF):
        assert layer.weight.std().item() == pytest.approx(0.1 * (2 / layer.weight[0].numel()) ** 0.5, rel=0.02)
        assert not layer.bias.any()
    for layer in (network.conv_body, network.tail[1]):
        assert layer.weight.std().item() == pytest.approx((3 * layer.weight[0].numel()) ** -0.5, rel=0.02)
        assert layer.bias.any()
    ran = create("esrgan-zhu2022", blocks=1).body[0].body[0].LFF
    assert ran.weight.std().item() == pytest.approx((3 * ran.weight[0].numel()) ** -0.5, rel=0.05)


def test_what_the_dissertation_changed():
    own, ran = create("RRDBNet", **TINY), create("esrgan-zhu2022", **TINY)
    assert [net.body[0].body[0].LFF.kernel_size for net in (own, ran)] == [(3, 3), (1, 1)]
    assert any(isinstance(m, nn.Upsample) for m in own.tail)
    assert any(isinstance(m, PixelShuffle) for m in ran.tail.modules())
    assert isinstance(ran.sub_mean, MeanShift)
    assert not any("mean" in key for key in own.state_dict())
    assert not own.spec.deviations
    assert ran.spec.deviations


def test_weights_of_the_published_program_for_x2(perturbed):
    """Named as its authors do; the parity files have x4."""
    network = perturbed(RRDBNet(**TINY, scale=2))
    theirs = {}
    for key, value in network.state_dict().items():
        parts = key.split(".")
        if parts[0] == "body":
            layer = "conv5" if parts[4] == "LFF" else f"conv{int(parts[5]) + 1}"
            theirs[f"body.{parts[1]}.rdb{int(parts[3]) + 1}.{layer}.{parts[-1]}"] = value
        elif parts[0] == "tail":
            name = {"1": "conv_up1", "4": "conv_up2", "6": "conv_hr", "8": "conv_last"}[parts[1]]
            theirs[f"{name}.{parts[2]}"] = value
        else:
            theirs[key] = value
    other = RRDBNet(**TINY, scale=2)
    load_checkpoint(other, {"params_ema": theirs})
    x = torch.rand(1, 1, 4, 4)
    with torch.no_grad():
        assert torch.equal(other(x), network(x))


@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": 3},
        {"scale": 8},
        {"scale": 1, "definition": "zhu2022"},
        {"definition": "esrgan"},
        {"blocks": 0},
        {"growth": 0},
        {"features": 0},
        {"out_channels": 2},
        {"spatial_dims": 1},
        {"mean": (0.1, 0.2)},
    ],
)
def test_arguments_that_describe_no_network(arguments):
    with pytest.raises(MedsrError) as error:
        RRDBNet(**{**TINY, **arguments})
    assert "\n" not in str(error.value)
