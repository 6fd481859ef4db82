"""MIASSR, MetaRDN and Meta-SRGAN as their papers and programs define them."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import MIASSR, PRESETS, Family, MetaRDN, Query, create, load_checkpoint
from medsr.networks.complexity import count_parameters
from medsr.networks.miassr import unused_tail
from medsr.networks.registry import small
from tests.networks.oracles import FORMULATIONS

NAMES = ["miassr", "metardn", "meta-srgan"]
META = 256 * 3 + 256 + 256 * 576 + 576  # for 64 features and one channel


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("size", "scale", "arguments"),
    [
        ((9, 7), "2.3", {}),
        ((6, 5), ("1.5", 3), {"in_channels": 4, "mean": (0.1, 0.2, 0.3, 0.4), "std": 0.5, "anisotropic": True}),
        ((5, 6), 2.5, {"in_channels": 2, "out_channels": 1, "positions": "hu2019"}),
        ((4, 3, 5), "3/2", {"spatial_dims": 3}),
    ],
)
def test_agrees_with_its_plain_formulation(perturbed, name, size, scale, arguments):
    network = perturbed(small(name, **arguments))
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        plain = FORMULATIONS[type(network).__name__](network)(x, scale)
        torch.testing.assert_close(network(x, scale), plain, atol=1e-5, rtol=1e-5)


def test_parameters_by_hand(conv_parameters):
    conv = conv_parameters
    for (blocks, width), name in {
        (16, 64): "miassr",
        (16, 4): "miassr-w4",
        (16, 8): "miassr-w8",
        (16, 16): "miassr-w16",
        (16, 32): "miassr-w32",
        (16, 128): "miassr-w128",
        (16, 256): "miassr-w256",
        (2, 64): "miassr-b2",
        (4, 64): "miassr-b4",
        (8, 64): "miassr-b8",
        (32, 64): "miassr-b32",
        (64, 64): "miassr-b64",
    }.items():
        used = conv(1, width) + (2 * blocks + 1) * conv(width, width) + 1024 + 257 * 9 * width
        tail = conv(width, 4 * width) + conv(width, 1)  # x2, one channel, never used
        assert unused_tail(width) == tail
        assert (PRESETS[name].parameters, PRESETS[name].left_out) == (used + tail, tail)
    assert PRESETS["miassr"].parameters - PRESETS["miassr"].left_out == 1_368_320
    edsr = conv(1, 256) + 65 * conv(256, 256) + 1024 + 257 * 9 * 256
    assert PRESETS["meta-edsr"].parameters == edsr

    def rdn(channels, blocks, layers, growth):
        dense = sum(conv(64 + i * growth, growth) for i in range(layers)) + conv(64 + layers * growth, 64, 1)
        ends = conv(channels, 64) + conv(64, 64) + conv(blocks * 64, 64, 1) + conv(64, 64)
        return ends + blocks * dense + 1024 + 257 * 576 * channels

    assert PRESETS["metardn"].parameters == rdn(1, 16, 8, 64)
    assert PRESETS["metardn"].also[0][1] == rdn(3, 16, 8, 64) == 22_419_096 - 24
    assert PRESETS["metardn-zhu2022"].parameters - 148_289 == rdn(1, 20, 6, 32) == 5_614_976
    block = 2 * (conv(64, 64) + 128) + 1
    assert conv(1, 64, 9) + 1 + 5 * block + conv(64, 64) + 128 + META == PRESETS["meta-srgan"].parameters


def test_multi_modal_and_other_blocks():
    """Four modalities in and out (Zhu 2022, section 4.3.1, BraTS); the blocks of figure 4.8."""
    with torch.device("meta"):
        four = create("miassr", in_channels=4)
        assert count_parameters(four) == 1_368_320 + 3 * 576 + 3 * 257 * 576
        norms = [m for m in create("miassr", block="normalised").modules() if isinstance(m, nn.BatchNorm2d)]
        dense = create("miassr", block="rrdb", blocks=23)
    assert len(norms) == 32
    assert dense.spec.halo == 23 * 15 + 3
    x = torch.rand(1, 1, 5, 6)
    for block in ("residual", "normalised", "rrdb"):
        assert small("miassr", block=block)(x, 1.5).shape == (1, 1, 8, 9)  # 7.5 is rounded to even


def test_rrdb_halo_is_the_receptive_field():
    network = small("miassr", block="rrdb", blocks=1, features=2).double()
    for parameter in network.parameters():
        parameter.data.abs_().add_(1e-3)
    x = torch.rand(1, 1, 61, 1, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[0, 0, 60:62].sum(), x)
    seen = gradient[0, 0, :, 0].nonzero().flatten()
    assert (30 - seen.min(), seen.max() - 30) == (network.spec.halo, network.spec.halo)


def test_what_the_dissertation_ran():
    network = create("miassr")
    assert [type(layer) for layer in network.body[0].body] == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d]
    assert network.body[0].body[1].negative_slope == 0.2
    assert network.body[0].res_scale == 1.0
    layers = network.meta_upsampler.P2W
    assert [(m.in_features, m.out_features) for m in (layers[0], layers[2])] == [(3, 256), (256, 576)]
    with torch.device("meta"):
        compared = create("metardn-zhu2022")
        assert isinstance(compared.extractor.RDBs[0].convs[0].conv[1], nn.LeakyReLU)
        assert isinstance(create("metardn").extractor.RDBs[0].convs[0].conv[1], nn.ReLU)
        edsr = create("meta-edsr")
    assert (len(edsr.body), edsr.body[0].res_scale, type(edsr.body[0].body[1])) == (33, 0.1, nn.ReLU)
    srgan = create("meta-srgan")
    assert (srgan.head[0].kernel_size, type(srgan.head[1])) == ((9, 9), nn.PReLU)
    assert isinstance(srgan.body[-1], nn.BatchNorm2d)


def test_one_network_many_scales():
    network = small("miassr", scale="2.5").eval()
    assert network.spec.family is Family.ARBITRARY
    x = torch.rand(1, 1, 20, 30)
    with torch.no_grad():
        for scale, shape in (
            (None, (50, 75)),
            (2, (40, 60)),
            ([2.3, 1.1], (46, 33)),
            ("7/3", (47, 70)),
            (4.0, (80, 120)),
        ):
            assert network(x, scale).shape[2:] == shape
        # A float stands for the fraction that users mean, not for its binary digits.
        assert torch.equal(network(x, 2.3), network(x, Fraction(23, 10)))


def test_features_once_for_several_queries():
    network = small("metardn").eval()
    x = torch.rand(2, 1, 9, 8)
    with torch.no_grad():
        features = network.features(x)
        assert features.shape == (2, 8, 9, 8)
        for scale in (Fraction(2), Fraction("2.7")):
            whole = network(x, scale)
            query = Query((scale, scale), (3, 0), (7, 5), (0, 0), (False, False))
            assert query.shape == (4, 5)
            torch.testing.assert_close(network.upsample(features, query), whole[..., 3:7, :5], atol=1e-6, rtol=0)
            torch.testing.assert_close(network(x, query=query), whole[..., 3:7, :5], atol=1e-6, rtol=0)


def test_intensity_shifts(perturbed):
    plain = perturbed(small("miassr"))
    shifted = small("miassr", mean=0.4, std=0.2).eval()
    shifted.load_state_dict({k: v for k, v in plain.state_dict().items() if "mean" not in k}, strict=False)
    x = torch.rand(1, 1, 5, 6)
    with torch.no_grad():
        torch.testing.assert_close(shifted(x, 1.5), plain((x - 0.4) / 0.2, 1.5) * 0.2 + 0.4, atol=1e-5, rtol=1e-5)


def test_published_names_of_weights(perturbed):
    """Of the authors' programs: the dissertation's with its unused tail, and the canonical Meta-RDN."""
    network = perturbed(small("miassr"))
    theirs = {("" if "mean" in k else "feature_extractor.") + k: v for k, v in network.state_dict().items()}
    theirs = {
        k.replace("feature_extractor.meta_upsampler.P2W.", "meta_upsampler.P2W.meta_block."): v
        for k, v in theirs.items()
    }
    theirs["feature_extractor.tail.0.0.weight"] = torch.zeros(32, 8, 3, 3)
    loaded = small("miassr").eval()
    load_checkpoint(loaded, theirs)
    x = torch.rand(1, 1, 4, 5)
    with torch.no_grad():
        assert torch.equal(loaded(x, 2.5), network(x, 2.5))
    rdn, other = perturbed(small("metardn")), small("metardn").eval()
    names = {k.replace("extractor.", "").replace("meta_upsampler.P2W.", "P2W.meta_block."): k for k in rdn.state_dict()}
    load_checkpoint(other, {theirs: rdn.state_dict()[ours] for theirs, ours in names.items()})
    with torch.no_grad():
        assert torch.equal(other(x, 2.5), rdn(x, 2.5))


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (MIASSR, {"blocks": 0}, "blocks of at least 1, got 0"),
        (MIASSR, {"block": "dense"}, "residual, normalised, rrdb; got 'dense'"),
        (MIASSR, {"scale": 5}, "scales from 1 to 4 per axis, got 5, 5"),
        (MIASSR, {"scale": (2, 2, 2)}, r"one per axis \(2\), got 3"),
        (MIASSR, {"positions": "corner"}, "centre, hu2019, got 'corner'"),
        (MIASSR, {"mean": (0.1, 0.2)}, "as many means"),
        (MetaRDN, {"growth": 0}, "growth of at least 1, got 0"),
        (MetaRDN, {"out_channels": 2}, "got out_channels 2"),
    ],
)
def test_arguments_that_describe_no_network(build, arguments, message):
    with pytest.raises(MedsrError, match=message) as error:
        build(**{**build.SMALL, **arguments})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scale", [4.1, 0.5, (2, 5)])
def test_scales_out_of_range(scale):
    with pytest.raises(MedsrError, match="scales from 1 to 4 per axis, got"):
        small("miassr")(torch.rand(1, 1, 4, 4), scale)
    assert small("miassr", largest_scale=5)(torch.rand(1, 1, 4, 4), 4.5).shape[2:] == (18, 18)


@pytest.mark.parametrize("scale", [1.1, 2, 2.3])
def test_trains_at_one_scale_per_batch(scale):
    """Gradients reach the weight prediction, and the loss falls."""
    torch.manual_seed(0)
    network = small("miassr")
    n = int(24 / scale)
    x = torch.rand(2, 1, n, n)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        sr = network(x, scale)
        loss = (sr - 0.5).abs().mean()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.meta_upsampler.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
