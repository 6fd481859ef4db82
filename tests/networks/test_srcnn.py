"""SRCNN as Dong et al. 2016 describe it; test_srcnn3d has what is special in 3D."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks import PRESETS, SRCNN, SRCNN3D, create
from tests.networks.oracles.srcnn import srcnn

LAYERS = ("conv1", "conv2", "conv3")


@pytest.mark.parametrize(
    ("size", "network"),
    [
        ((9, 7), SRCNN(features=(5, 4))),
        ((1, 1), SRCNN(features=(5, 4), kernel_sizes=(9, 5, 5))),
        ((3, 20), SRCNN(in_channels=3, out_channels=2, features=(5, 4), kernel_sizes=(7, 3, 1))),
        ((4, 3, 5), SRCNN(features=(5, 4), spatial_dims=3)),
        ((4, 3, 5), SRCNN3D(features=(5, 4))),
        ((2, 1, 3), SRCNN3D(in_channels=2, out_channels=1, features=(5, 4))),
    ],
)
def test_agrees_with_its_plain_formulation(perturbed, size, network):
    x = torch.randn(2, network.spec.in_channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(perturbed(network)(x), srcnn(network)(x), atol=1e-5, rtol=1e-5)


def test_edges_are_repeated_before_each_layer(perturbed):
    network, image = perturbed(SRCNN(features=(5, 4))), torch.rand(1, 1, 8, 7)
    with torch.no_grad():
        x = network.conv1(F.pad(image, [4] * 4, mode="replicate")).relu()
        x = network.conv3(F.pad(network.conv2(x).relu(), [2] * 4, mode="replicate"))
        torch.testing.assert_close(network(image), x)
        once = F.pad(image, [6] * 4, mode="replicate")  # as SRCNN3D does; the difference is at the border alone
        once = network.conv3(network.conv2(network.conv1(once).relu()).relu())
    assert not torch.allclose(network(image), once, atol=1e-3)


def test_inside_no_padding_is_seen(perturbed):
    """The paper's network: 33x33 patches give 21x21."""
    network, image = perturbed(SRCNN(features=(5, 4))), torch.rand(1, 1, 33, 33)
    with torch.no_grad():
        valid = network.conv3(network.conv2(network.conv1(image).relu()).relu())
        assert valid.shape[2:] == (21, 21)
        torch.testing.assert_close(network(image)[..., 6:-6, 6:-6], valid)


def test_parameters_by_hand(conv_parameters):
    conv, preset = conv_parameters, PRESETS["srcnn"]

    def count(middle: int) -> int:
        return conv(1, 64, 9) + conv(64, 32, middle) + conv(32, 1, 5)

    assert preset.parameters == count(1) == 5_184 + 64 + 2_048 + 32 + 800 + 1
    assert preset.also == (({"kernel_sizes": (9, 3, 5)}, count(3)), ({"kernel_sizes": (9, 5, 5)}, count(5)))
    biases = 64 + 32 + 1
    assert [count(f) - biases for f in (1, 3, 5)] == [8_032, 24_416, 57_184]  # as the paper counts


def test_starts_as_published():
    torch.manual_seed(0)
    network = create("srcnn")
    for name in LAYERS:
        layer = getattr(network, name)
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.08)
        assert not layer.bias.any()


def test_interpolation_is_that_of_the_paper():
    assert create("srcnn").spec.interpolation == "cubic"
    assert create("srcnn3d").spec.interpolation == "spline3"


def test_halo_follows_the_filters():
    assert create("srcnn").spec.halo == create("srcnn3d").spec.halo == 6
    assert create("srcnn", kernel_sizes=(9, 5, 5)).spec.halo == 8


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_sizes": (9, 2, 5)},
        {"kernel_sizes": (9, 5)},
        {"features": (64,)},
        {"features": (64, 0)},
        {"in_channels": 0},
        {"out_channels": 2},
        {"spatial_dims": 1},
    ],
)
def test_arguments_that_describe_no_network(arguments):
    with pytest.raises(MedsrError, match="SRCNN") as error:
        SRCNN(**arguments)
    assert "\n" not in str(error.value)
