"""MS-SRResNet and the generator of MS-GAN as chapter 3 of Zhu 2022 describes them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import PRESETS, MSGANGenerator, MSSRResNet
from tests.networks.oracles.msgan import msgan, mssrresnet

TINY = {"features": 6, "blocks": 2}
SIZES = [
    ((9, 7), {}),
    ((1, 6), {"scale": 2}),
    ((3, 4), {"in_channels": 3, "out_channels": 2, "scale": 8}),
    ((3, 2, 2), {"spatial_dims": 3}),
]
both = pytest.mark.parametrize("network", [MSSRResNet, MSGANGenerator])


@pytest.mark.parametrize(("size", "arguments"), SIZES)
def test_ms_srresnet_agrees_with_its_plain_formulation(perturbed, size, arguments):
    network = perturbed(MSSRResNet(**TINY, **arguments))
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(network(x), mssrresnet(network)(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("second_head", [False, True])
@pytest.mark.parametrize(("size", "arguments"), SIZES)
def test_ms_gan_agrees_with_its_plain_formulation(perturbed, second_head, size, arguments):
    network = perturbed(MSGANGenerator(**TINY, second_head=second_head, **arguments))
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(network(x), msgan(network)(x), atol=1e-5, rtol=1e-5)


def test_parameters_by_hand(conv_parameters):
    conv, norm = conv_parameters, 2 * 64
    extractor = 16 * 2 * (conv(64, 64) + norm) + conv(64, 64) + norm
    stage, image = conv(64, 4 * 64), conv(64, 1)
    assert PRESETS["ms-srresnet"].parameters == conv(1, 64) + extractor + 2 * (stage + image)
    two = conv(1, 64) + 2 * (extractor + stage + image)
    assert PRESETS["ms-gan"].parameters == two
    assert [n for _, n in PRESETS["ms-gan"].also] == [two + conv(64, 64)]


@both
def test_all_scales_come_out(perturbed, network):
    net, x = perturbed(network(**TINY, in_channels=2, scale=8)), torch.rand(3, 2, 5, 4)
    with torch.no_grad():
        images = net.outputs(x)
        assert [image.shape for image in images] == [(3, 2, 5 * s, 4 * s) for s in (2, 4, 8)]
        assert torch.equal(images[-1], net(x))


@both
def test_first_image_is_one_convolution_of_the_enlarged_features(perturbed, network):
    net, x = perturbed(network(**TINY)), torch.rand(1, 1, 5, 4)
    with torch.no_grad():
        features = net.stages[0](x)
        assert features.shape == (1, 6, 10, 8)
        assert torch.equal(net.outputs(x)[0], net.images[0](features))
        assert torch.equal(net(x), net.images[1](net.stages[1](features)))  # those, and not the image, are passed on


@both
def test_every_loss_reaches_its_parameters(network):
    """The x4 image does not need the convolution of the x2 image, nor that one the second stage."""
    net = network(**TINY)
    x2, x4 = net.outputs(torch.rand(2, 1, 6, 6))
    for image, idle in ((x2, {"stages.1", "images.1"}), (x4, {"images.0"})):
        net.zero_grad(set_to_none=True)
        image.sum().backward(retain_graph=True)
        assert {name[:8] for name, p in net.named_parameters() if p.grad is None} == idle


@both
def test_blocks_end_in_an_activation(perturbed, network):
    """Equation 3.3: what is added to the input is never negative."""
    net, x = perturbed(network(**TINY)), torch.randn(2, 6, 7, 5)
    extractor = next(m for m in net.modules() if type(m).__name__ == "FeatureExtractor")
    with torch.no_grad():
        added = extractor.body[0](x) - x
    assert added.min() > -1e-6
    assert (added.abs() < 1e-6).any()
    assert (added > 0.1).any()


def test_depth():
    with torch.device("meta"):
        nets = [MSSRResNet(), MSGANGenerator(), MSGANGenerator(second_head=True)]
    counts = [len([m for m in net.modules() if isinstance(m, nn.Conv2d)]) for net in nets]
    assert counts == [1 + 33 + 2 + 2, 1 + 2 * (33 + 1 + 1), 2 + 2 * (33 + 1 + 1)]
    assert all({m.kernel_size for m in net.modules() if isinstance(m, nn.Conv2d)} == {(3, 3)} for net in nets)


@both
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 3}, "by a power of two, got 3"),
        ({"scale": 6}, "power of two, got 6"),
        ({"features": 0}, "features of at least 1, got 0"),
        ({"out_channels": 2}, "got out_channels 2"),
        ({"spatial_dims": 1}, "got spatial_dims 1"),
    ],
)
def test_arguments_that_describe_no_network(network, arguments, message):
    with pytest.raises(MedsrError, match=message) as error:
        network(**{**TINY, **arguments})
    assert "\n" not in str(error.value)


def test_choices_are_stated():
    for network in (MSSRResNet(**TINY), MSGANGenerator(**TINY)):
        assert "no program is public" in network.spec.deviations
