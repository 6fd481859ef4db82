"""The discriminators: SRGAN's as the dissertation ran it, MS-GAN's, Meta-SRGAN's."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import (
    PRESETS,
    MetaSRGANDiscriminator,
    MSGANDiscriminator,
    SRGANDiscriminator,
    create,
    load_checkpoint,
)
from tests.networks.oracles import FORMULATIONS


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def lively(perturbed):
    """Perturbed, with weights large enough that so narrow a network still tells images apart."""

    def enliven(network):
        for parameter in perturbed(network).parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter, a=0.2)
        return network

    return enliven


@pytest.mark.parametrize(
    ("network", "size", "arguments"),
    [
        (SRGANDiscriminator, (32, 17), {"patch_size": 32}),
        (SRGANDiscriminator, (1, 16), {"patch_size": 3, "batch_norm": True, "in_channels": 2}),
        (SRGANDiscriminator, (9, 16, 5), {"patch_size": 16, "spatial_dims": 3}),
        (MSGANDiscriminator, (33, 18), {"image_size": (40, 20), "hidden": 7}),
        (MSGANDiscriminator, (16, 13, 5), {"image_size": 16, "spatial_dims": 3}),
        (MetaSRGANDiscriminator, (19, 33), {"in_channels": 3}),
        (MetaSRGANDiscriminator, (1, 2), {"sigmoid": False}),
        (MetaSRGANDiscriminator, (7, 9, 5), {"spatial_dims": 3}),
    ],
)
def test_agrees_with_its_plain_formulation(lively, network, size, arguments):
    network = lively(network(features=4, **arguments))
    x = torch.randn(3, network.spec.in_channels, *size)
    with torch.no_grad():
        came, expected = network(x), FORMULATIONS[type(network).__name__](network)(x)
    assert came.shape == (3, 1)
    assert came.std() > 5e-5
    torch.testing.assert_close(came, expected, atol=1e-5, rtol=1e-5)


def test_gradient_penalty_is_the_dissertations(shared_parity):
    """The published weights, scores, penalty and both losses: through two derivatives, as a critic trains."""
    case = torch.load(shared_parity / "miassr_discriminator_tiny.pt", weights_only=True)
    network = SRGANDiscriminator(features=8, patch_size=16).eval()
    load_checkpoint(network, case["state_dict"])
    (real,), (fake,), gp = case["input"]["real"], case["input"]["fake"], case["gp"]
    mixed = ((1 - gp["alpha"]) * fake + gp["alpha"] * real).requires_grad_()
    (gradient,) = torch.autograd.grad(network(mixed).sum(), mixed, create_graph=True)
    penalty = 10 * ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
    assert penalty.item() == pytest.approx(gp["value"], rel=1e-6)
    loss = network(fake).mean() - network(real).mean() + penalty
    assert loss.item() == pytest.approx(gp["d_loss"], rel=1e-6)
    assert -network(fake).mean().item() == pytest.approx(gp["g_loss"], rel=1e-5)
    loss.backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters() if p.ndim > 1)


def test_srgan_parameters_by_hand():
    channels = [1, 64, 64, 128, 128, 256, 256, 512, 512]
    convolutions = sum(9 * a * b for a, b in pairwise(channels))
    linear = 6 * 6 * 512 * 1024 + 1024 + 1024 + 1  # 96 pixels, halved four times
    assert PRESETS["srgan-discriminator-zhu2022"].parameters == convolutions + linear
    norms = 2 * sum(channels[1:])
    assert PRESETS["srgan-discriminator-bn-zhu2022"].parameters == convolutions + linear + norms


def test_msgan_parameters_by_hand(conv_parameters):
    """The first convolution of a block keeps the channels, the second doubles them."""
    channels = [1, 64, 128, 128, 256, 256, 512, 512, 1024]
    convolutions = sum(conv_parameters(a, b) for a, b in pairwise(channels))
    linear = 8 * 8 * 1024 * 1024 + 1024 + 1024 + 1  # 120 pixels: 60, 30, 15, 8
    assert PRESETS["msgan-discriminator"].parameters == convolutions + linear


def test_meta_srgan_parameters_by_hand(conv_parameters):
    channels = [1, 64, 64, 128, 128, 256, 256, 512, 512]
    convolutions = sum(conv_parameters(a, b) for a, b in pairwise(channels))
    norms = 2 * sum(channels[2:])  # none after the first convolution
    linear = conv_parameters(512, 1024, 1) + conv_parameters(1024, 1, 1)
    assert PRESETS["meta-srgan-discriminator"].parameters == convolutions + norms + linear


@pytest.mark.parametrize("name", [name for name in PRESETS if "discriminator" in name])
def test_layers(name):
    with torch.device("meta"):
        network = create(name)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [c.stride[0] for c in convolutions] == [1, 2] * 4
    assert {c.padding for c in convolutions} == {(1, 1)}
    doubles = [64, 128, 128, 256, 256, 512, 512, 1024] if "msgan" in name else [64, 64, 128, 128, 256, 256, 512, 512]
    assert [c.out_channels for c in convolutions] == doubles
    assert {c.bias is None for c in convolutions} == {"srgan-discriminator" in name and "meta" not in name}
    slopes = {m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.2}
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == {"srgan-discriminator-bn-zhu2022": 8, "meta-srgan-discriminator": 7}.get(name, 0)


def test_scores_are_not_squeezed_but_for_meta_srgan(lively):
    x = 100 * torch.randn(8, 1, 16, 16)
    with torch.no_grad():
        for network in (SRGANDiscriminator(features=4, patch_size=16), MSGANDiscriminator(features=4, image_size=16)):
            assert lively(network)(x).abs().max() > 1
        network = lively(MetaSRGANDiscriminator(features=4))
        scores = network(x)
        assert 0 <= scores.min() < scores.max() <= 1
        network.sigmoid = False
        torch.testing.assert_close(torch.sigmoid(network(x)), scores)


@pytest.mark.parametrize("side", [81, 88, 96])
def test_sizes_that_scale_free_training_makes(side):
    """HR patches of int(int(96 / s) s) pixels, for any scale s from 1.1 to 4.0 (Zhu 2022, section 4.3.3)."""
    network = SRGANDiscriminator(features=1).eval()
    assert network.spec.input_sizes == (81, 96)
    with torch.no_grad():
        assert network(torch.rand(1, 1, side, 96)).shape == (1, 1)
    sizes = {int(96 * 10 // s * s / 10) for s in range(11, 41)}
    assert min(sizes) >= 81


@pytest.mark.parametrize("side", [80, 97])
def test_other_sizes_are_named(side):
    network = SRGANDiscriminator(features=1)
    with pytest.raises(MedsrError, match=f"81 to 96 voxels along axis 1, got {side}") as error:
        network(torch.rand(1, 1, 96, side))
    assert "\n" not in str(error.value)


def test_each_axis_has_its_sizes():
    network = MSGANDiscriminator(features=1, hidden=2, image_size=(160, 120)).eval()
    assert network.sides == [(145, 160), (113, 128)]
    assert network.spec.input_sizes == (113, 160)
    with torch.no_grad():
        assert network(torch.rand(2, 1, 150, 128)).shape == (2, 1)
    with pytest.raises(MedsrError, match="145 to 160 voxels along axis 0, got 128"):
        network(torch.rand(2, 1, 128, 128))


def test_start_as_torch_draws():
    """Uniform after Kaiming, as the dissertation says (section 4.3.3)."""
    torch.manual_seed(0)
    for network in (SRGANDiscriminator(1, 8, 16), MSGANDiscriminator(1, 8, 64, 16), MetaSRGANDiscriminator(1, 8)):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.numel() > 500:
                bound = layer.weight[0].numel() ** -0.5
                assert layer.weight.abs().max() <= bound
                assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (SRGANDiscriminator, {"features": 0}, "features of at least 1, got 0"),
        (SRGANDiscriminator, {"patch_size": 0}, r"at least 1, got \[0, 0\]"),
        (SRGANDiscriminator, {"spatial_dims": 1}, "got spatial_dims 1"),
        (MSGANDiscriminator, {"in_channels": 0}, "in_channels of at least 1, got 0"),
        (MSGANDiscriminator, {"image_size": (80, 80, 80)}, "needs 2 sides"),
        (MSGANDiscriminator, {"hidden": 0}, "hidden features of at least 1"),
        (MetaSRGANDiscriminator, {"spatial_dims": 4}, "got spatial_dims 4"),
    ],
)
def test_arguments_that_describe_no_network(network, arguments, message):
    with torch.device("meta"), pytest.raises(MedsrError, match=message) as error:
        network(**arguments)
    assert "\n" not in str(error.value)
