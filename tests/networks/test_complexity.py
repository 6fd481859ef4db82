"""The counter against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks import Family, NetworkSpec
from medsr.networks.blocks.residual import MeanShift
from medsr.networks.complexity import count_leaf_parameters, count_parameters, multiply_adds


class Attentive(nn.Module):
    """Shift, convolution, norm, attention over the pixels of each row, linear layer, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = MeanShift(2, 3, [0.1] * 3, [1.0] * 3)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.LayerNorm(4)
        self.attention = RowAttention()
        self.linear = nn.Linear(4, 5, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.bare = nn.Parameter(torch.zeros(7))
        self.frozen = nn.Parameter(torch.zeros(70), requires_grad=False)
        self.spec = NetworkSpec(Family.FIXED, 2, 3, 3, "made for this test")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.attention(self.norm(self.conv(self.shift(x)).movedim(1, -1)))
        return self.pool(self.linear(tokens).movedim(-1, 1))


class RowAttention(nn.Module):
    def softmax_shape(self, x: torch.Tensor) -> tuple[int, int]:
        return x.shape[0] * x.shape[1] * x.shape[2], x.shape[2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, x, x)


def test_by_hand():
    network, (h, w) = Attentive(), (6, 5)
    weighted = h * w * (3 * 4 * 9 + 4 * 5 + 3 * 3)  # convolution, linear layer, the shift as a 1x1 convolution
    products = 2 * h * w * w * 4  # every pixel of a row with every other, twice
    assert multiply_adds(network, (h, w), "conv") == weighted
    assert multiply_adds(network, (h, w), "all") == weighted + products
    norm, softmax, pooling = 2 * h * w * 4, h * w * (3 * w - 1), 5 * (h * w + 1)
    shift = h * w * 3 * 3  # which the tool does not know
    assert multiply_adds(network, (h, w), "thop") == weighted - shift + norm + softmax + pooling


def test_parameters_by_hand():
    layers = (3 * 4 * 9 + 4) + 8 + 20
    assert count_parameters(Attentive()) == layers + 7
    assert count_leaf_parameters(Attentive()) == layers


def test_counting_leaves_the_network_as_it_was():
    network = Attentive().train()
    multiply_adds(network, (3, 3))
    assert network.training
    assert not any(m._forward_hooks for m in network.modules())


def test_nothing_is_computed_on_meta():
    with torch.device("meta"):
        network = Attentive()
    assert multiply_adds(network, (60, 50)) == multiply_adds(Attentive(), (60, 50))


def test_unknown_convention():
    with pytest.raises(MedsrError, match="one of conv, thop, all; got 'flops'"):
        multiply_adds(Attentive(), (3, 3), "flops")
