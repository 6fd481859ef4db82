"""Precision and compilation."""

from __future__ import annotations

import functools
from fractions import Fraction

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from medsr.errors import InputError
from medsr.inferers import ForwardInferer, SuperResolutionInferer
from medsr.inferers.forward import autocast_dtype
from medsr.interpolation import resize


class Recording(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 1)
        self.seen: list[torch.dtype] = []

    def forward(self, x, scale=None):
        y = self.conv(x)
        self.seen += [x.dtype, y.dtype]
        assert type(x) is torch.Tensor
        return y


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_forward_runs_in_the_precision_and_returns_float32(noise, precision):
    network, image = Recording(), MetaTensor(noise(1, 1, 2, 2, 2))
    output = ForwardInferer(precision)(image, network)
    assert output.dtype == torch.float32
    assert network.seen == [torch.float32, autocast_dtype(precision) or torch.float32]
    torch.testing.assert_close(output, network.conv(image.as_tensor()), atol=2e-2, rtol=0)


def test_forward_passes_arguments_and_other_results(noise):
    def network(x, a, b=0):
        return {"sum": x + a + b}

    assert ForwardInferer()(torch.zeros(1), network, 1, b=2)["sum"] == 3


def test_forward_undoes_an_outer_autocast(noise):
    network = Recording()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ForwardInferer("float32")(noise(1, 1, 2, 2, 2), network)
    assert network.seen[1] == torch.float32


def test_unknown_precision():
    with pytest.raises(InputError, match="one of float32, bfloat16, float16, got 'fp8'"):
        ForwardInferer("fp8")


def test_low_precision_stays_close_and_the_residual_exact(made, noise):
    lr = noise(1, 1, 4, 4, 3)
    network = made.recnn(3)
    exact = SuperResolutionInferer(2)(lr, network)
    rounded = SuperResolutionInferer(2, precision="bfloat16")(lr, network)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05
    for parameter in network.parameters():  # a network that adds nothing returns the interpolated image as it is
        parameter.data.zero_()
    unchanged = SuperResolutionInferer(2, precision="bfloat16")(lr, network)
    torch.testing.assert_close(unchanged, resize(lr, (Fraction(2),) * 3), atol=1e-6, rtol=0)


def test_device_moves_the_network(made, noise):
    network = made.recnn(3)
    sr = SuperResolutionInferer(2, device="cpu", output_device="cpu")(noise(1, 1, 3, 3, 3), network)
    assert sr.device.type == "cpu"


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(made, noise):
    lr = noise(1, 1, 8, 9, 7)
    expected = SuperResolutionInferer(2)(lr, made.recnn(3))
    inferer = SuperResolutionInferer(2, device="cuda", tile_size=8, ensemble=True)
    assert inferer(lr, made.recnn(3)).device.type == "cpu"
    on_gpu = SuperResolutionInferer(2, device="cuda", output_device="cuda", tile_size=8)(lr, made.recnn(3))
    torch.testing.assert_close(on_gpu.cpu(), expected, atol=1e-3, rtol=0)


def test_compiled_gives_the_same(made, noise, monkeypatch):
    # Traced but not translated to C++, which takes a minute and a compiler.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    network, lr = made.fixed((2, 2)), noise(1, 1, 8, 8)
    expected = SuperResolutionInferer()(lr, network)
    inferer = SuperResolutionInferer(compile=True)
    torch.testing.assert_close(inferer(lr, network), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(inferer(lr, network), expected, atol=1e-5, rtol=0)
    given = torch.compile(network)
    torch.testing.assert_close(SuperResolutionInferer()(lr, given), expected, atol=1e-5, rtol=0)
