"""SRCNN3D as published: valid convolutions, here with the edge padding inside."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medsr.networks import create

LAYERS = ("conv1", "conv2", "conv3")


def test_padding_is_that_of_the_edge_values():
    network = create("SRCNN3D", features=(3, 2))
    image = torch.rand(1, 1, 7, 6, 5)
    with torch.no_grad():
        for layer in (network.conv1, network.conv2, network.conv3):
            layer.weight.mul_(100)
        padded = F.pad(image, [6] * 6, mode="replicate")
        valid = network.conv3(network.conv2(network.conv1(padded).relu()).relu())
        torch.testing.assert_close(network(image), valid)


def test_initial_weights_are_the_published_ones():
    torch.manual_seed(0)
    network = create("srcnn3d")
    for name in LAYERS:
        layer = getattr(network, name)
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.05)
        assert layer.bias.abs().max() == 0


def test_sizes_of_the_published_patches():
    network = create("srcnn3d")
    sizes = [(layer.kernel_size[0], layer.out_channels) for layer in (getattr(network, name) for name in LAYERS)]
    assert sizes == [(9, 64), (1, 32), (5, 1)]
    assert 33 - sum(kernel - 1 for kernel, _ in sizes) == 21
