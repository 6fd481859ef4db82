"""Attention with gradients of its own. Compared with torch's fused attention, its gradients, and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medsr.networks import create
from medsr.networks.blocks import training_attention, window_attention
from medsr.networks.blocks.training_attention import TrainingAttention
from medsr.networks.blocks.window_attention import WindowAttention


def inputs(counts: list[int], each: int, tokens: int = 9, heads: int = 2, dtype: torch.dtype = torch.float64):
    torch.manual_seed(0)
    qkv = torch.randn(sum(counts), tokens, 3, heads, each, dtype=dtype, requires_grad=True)
    bias = torch.randn(len(counts), heads, tokens, tokens, dtype=dtype)
    bias[-1, :, :3, 4:] = -100  # masked, as in windows at the end of a row
    return qkv, bias.requires_grad_()


def of_torch(qkv: torch.Tensor, bias: torch.Tensor, counts: list[int]) -> torch.Tensor:
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    each_bias = bias.repeat_interleave(torch.tensor(counts), 0)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=each_bias).transpose(1, 2)


@pytest.mark.parametrize("each", [1, 5, 8, 10, 16, 17])
@pytest.mark.parametrize("counts", [[1], [7], [3, 2, 0, 1], [0, 0, 0, 1], [4, 4, 2, 2]])
@pytest.mark.parametrize("working_set", [1, 500, 2**19])  # window by window, some at a time, all at once
def test_values_and_gradients_are_those_of_torch(
    each: int, counts: list[int], working_set: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_attention, "WORKING_SET", working_set)
    qkv, bias = inputs(counts, each)
    came, expected = TrainingAttention.apply(qkv, bias, counts), of_torch(qkv, bias, counts)
    torch.testing.assert_close(came, expected)
    weight = torch.randn_like(expected)
    for gradient, true in zip(
        torch.autograd.grad((came * weight).sum(), (qkv, bias)),
        torch.autograd.grad((expected * weight).sum(), (qkv, bias)),
        strict=True,
    ):
        torch.testing.assert_close(gradient, true)


def test_gradients_are_finite_differences() -> None:
    qkv, bias = inputs([2, 1], 3, tokens=4)
    assert torch.autograd.gradcheck(lambda a, b: TrainingAttention.apply(a, b, [2, 1]), (qkv, bias))


@pytest.mark.parametrize("name", ["rdst-e", "swinir-light"])
def test_networks_have_the_same_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    small = {"window": 4, "features": 20, "heads": 2} if name == "rdst-e" else {}
    network, image = create(name, scale=2, **small), torch.rand(2, 1, 20, 12)
    calls: list[int] = []
    attend = window_attention.attend_in_training
    monkeypatch.setattr(window_attention, "attend_in_training", lambda *a: calls.append(1) or attend(*a))

    def gradients() -> torch.Tensor:
        network.zero_grad()
        torch.manual_seed(1)  # of stochastic depth
        network(image).square().mean().backward()
        return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])

    came = gradients()
    assert calls
    monkeypatch.setattr(window_attention, "wants_own_gradients", lambda *a: False)
    before = len(calls)
    expected = gradients()
    assert len(calls) == before
    assert (came - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = WindowAttention(8, 2, 3)
    windows, bias = torch.randn(2, 1, 9, 8), attention.bias(torch.zeros(81, dtype=torch.long), torch.zeros(1, 9, 9))
    calls: list[int] = []
    attend = window_attention.attend_in_training
    monkeypatch.setattr(window_attention, "attend_in_training", lambda *a: calls.append(1) or attend(*a))
    expected = attention(windows, bias, [2])
    assert len(calls) == 1
    for context in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
        with context:
            torch.testing.assert_close(attention(windows, bias, [2]).float(), expected, atol=0.1, rtol=0.1)
    torch.testing.assert_close(attention(windows, bias.detach(), [2]), expected)
    torch.testing.assert_close(attention(windows, bias.expand(2, -1, -1, -1), []), expected)
    assert len(calls) == 1
