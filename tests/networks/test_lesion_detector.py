"""The lesion detector of MS-GAN (Zhu 2022, chapter 3), and the box around what it finds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import PRESETS, LesionDetector, create, lesion_box
from tests.networks.oracles.lesion_detector import lesion_detector

TINY = {"input_size": 17, "features": (4, 6, 6), "hidden": (9, 5)}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        ((9, 7), {}),
        ((40, 32), {"projection": True}),
        ((1, 1), {"in_channels": 3}),
        ((17, 17), {"in_channels": 4, "hidden": (8,)}),
        ((5, 9, 6), {"spatial_dims": 3}),
    ],
)
def test_agrees_with_its_plain_formulation(perturbed, size, arguments):
    network = perturbed(LesionDetector(**{**TINY, **arguments}))
    x = torch.randn(3, network.spec.in_channels, *size)
    with torch.no_grad():
        came = network(x)
        assert came.shape == (3, len(size))
        torch.testing.assert_close(came, lesion_detector(network)(x), atol=1e-5, rtol=1e-5)


def test_parameters_by_hand(conv_parameters):
    body, channels = 0, 1
    for width in (32, 64, 128, 128, 128):  # four convolutions, each with batch norm
        body += conv_parameters(channels, width) + 3 * conv_parameters(width, width) + 4 * 2 * width
        channels = width
    assert body == 1_858_464
    projections = conv_parameters(1, 32, 1) + conv_parameters(32, 64, 1) + conv_parameters(64, 128, 1)

    def total(side):  # halved five times
        flat = 128 * (side // 32) ** 2
        return body + flat * 1024 + 1024 + 1024 * 128 + 128 + 128 * 2 + 2

    preset = PRESETS["lesion-detector"]
    assert preset.parameters == total(128)
    for arguments, parameters in preset.also:
        assert parameters == (total(arguments["input_size"]) if "input_size" in arguments else total(128) + projections)


def test_layers():
    with torch.device("meta"):
        network = create("lesion-detector")
    assert [type(layer).__name__ for layer in network.body] == ["ResidualBlock", "ResidualBlock", "MaxPool2d"] * 5
    kinds = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2
    assert all([type(layer) for layer in block.body] == kinds for block in network.body if hasattr(block, "body"))
    assert [layer.out_features for layer in network.tail[::2]] == [1024, 128, 2]
    assert [type(layer) for layer in network.tail[1::2]] == [nn.ReLU, nn.ReLU]  # none on the coordinates


def test_scale_of_the_input_is_free(perturbed):
    """The same picture on a grid twice as fine, its voxels repeated, lies at the same fractions of the image."""
    network = perturbed(LesionDetector(**{**TINY, "input_size": 16}))
    lr = torch.nn.functional.interpolate(torch.rand(1, 1, 4, 4), size=(16, 16), mode="bilinear")
    hr = lr.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.no_grad():
        torch.testing.assert_close(network(hr), network(lr), atol=1e-5, rtol=1e-5)


def test_coordinates_are_free_of_bounds(perturbed):
    network = perturbed(LesionDetector(**TINY))
    network.tail[-1].bias.data = torch.tensor([-2.0, 3.0])
    network.tail[-1].weight.data.zero_()
    with torch.no_grad():
        assert network(torch.rand(1, 1, 8, 8)).tolist() == [[-2.0, 3.0]]


@given(
    n=st.integers(1, 40),
    roi=st.integers(1, 40),
    centre=st.floats(-0.5, 1.5),
)
def test_box_is_of_its_size_within_the_image_and_about_its_centre(n, roi, centre):
    if roi > n:
        with pytest.raises(MedsrError, match="not within an image"):
            lesion_box([centre], [n], [roi])
        return
    (box,) = lesion_box([centre], [n], [roi])
    assert 0 <= box.start < box.stop <= n
    assert box.stop - box.start == roi
    off = abs((box.start + box.stop) / 2 - centre * n)
    allowed = [(start + roi / 2) for start in range(n - roi + 1)]
    assert off == pytest.approx(min(abs(centre * n - middle) for middle in allowed), abs=1e-9)


def test_box_of_a_detected_lesion():
    """Centre of voxel (4, 10) of 16x20: a box of odd sides has it in its middle; LR and HR boxes agree."""
    centre = torch.tensor([[4.5 / 16, 10.5 / 20]])
    box = lesion_box(centre[0], (16, 20), (5, 3))
    assert box == (slice(2, 7), slice(9, 12))
    lr = torch.arange(320).reshape(16, 20)
    assert lr[box][2, 1] == lr[4, 10]
    hr = lr.repeat_interleave(4, 0).repeat_interleave(4, 1)
    pair = tuple(slice(4 * side.start, 4 * side.stop) for side in box)
    assert torch.equal(hr[pair][::4, ::4], lr[box])
    assert lesion_box([0.0, 2.0], (16, 20), (5, 3)) == (slice(0, 5), slice(17, 20))


@pytest.mark.parametrize(
    ("centre", "image", "roi"),
    [([0.5], (8, 8), (4, 4)), ([0.5, float("nan")], (8, 8), (4, 4)), ([0.5, 0.5], (8, 8), (4, 9)), ([0.5], (8,), (0,))],
)
def test_no_box(centre, image, roi):
    with pytest.raises(MedsrError) as error:
        lesion_box(centre, image, roi)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 31}, "halves its input 5 times, so input_size is at least 32, got 31"),
        ({"features": ()}, "at least 1 channel"),
        ({"features": (8, 0)}, "at least 1 channel"),
        ({"in_channels": 0}, "in_channels 0"),
        ({"spatial_dims": 1}, "spatial_dims 1"),
        ({"features": (8, 4)}, r"must not fall .*got \[1, 8, 4\]; or use projection=True"),
    ],
)
def test_arguments_that_describe_no_network(arguments, message):
    with torch.device("meta"), pytest.raises(MedsrError, match=message) as error:
        LesionDetector(**arguments)
    assert "\n" not in str(error.value)
