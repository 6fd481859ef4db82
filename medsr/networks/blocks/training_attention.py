"""Attention within windows for training on a CPU, where torch has no fused kernel with a gradient for the bias.

`F.scaled_dot_product_attention` then computes by single operations on all windows, which do not fit the caches, and
looks for rows that are masked as a whole, which windows do not have.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

WORKING_SET = 2**19  # the number of attention weights that are processed at a time, which fit the caches


def padded(features: int) -> int:
    """Return the number of features of a head that small matrix products on CPUs are fast for."""
    return -(-features // 8) * 8


class TrainingAttention(torch.autograd.Function):
    """The function softmax(q k^T / sqrt(d) + bias) v, a few windows at a time, and its gradients.

    With P the softmax, O the output and a dot for gradients: V. = P^T O., S. = P * (O. V^T - rowsum(O. * O)),
    Q. = S. K / sqrt(d), K. = S.^T Q / sqrt(d), and bias. is the sum of S. over windows (Dao et al. 2022, appendix B.2).
    P is kept from the forward pass. Second derivatives are not computed.
    """

    @staticmethod
    def forward(ctx: Any, qkv: torch.Tensor, bias: torch.Tensor, counts: list[int]) -> torch.Tensor:
        """Return the attention (n, N, h, d).

        Args:
            ctx: The context of the function.
            qkv: The queries, keys and values, (n, N, 3, h, d).
            bias: The bias of each kind of windows, (K, h, N, N).
            counts: The number of windows of each kind.
        """
        n, tokens, _, heads, each = qkv.shape
        weights = qkv.new_empty(n, heads, tokens, tokens)
        attended = qkv.new_empty(n, tokens, heads, each)
        at_once = _at_once(counts, heads, tokens)
        copies = qkv.new_zeros(3, at_once, heads, tokens, padded(each))
        for kind, start, stop in _pieces(counts, at_once):
            q, k, v = _copied(copies, qkv, start, stop)
            softmax = weights[start:stop].copy_(bias[kind].expand(stop - start, -1, -1, -1)).flatten(0, 1)
            torch.baddbmm(softmax, q, k.transpose(1, 2), alpha=each**-0.5, out=softmax)
            torch.softmax(softmax, -1, out=softmax)
            part = torch.bmm(softmax, v).view(stop - start, heads, tokens, -1)
            attended[start:stop] = part[..., :each].transpose(1, 2)
        ctx.save_for_backward(qkv, weights, attended)
        ctx.counts = counts
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """Return the gradients of the queries, keys and values, and of the bias."""
        qkv, weights, attended = ctx.saved_tensors
        _, tokens, _, heads, each = qkv.shape
        shared = (gradient * attended).sum(-1).transpose(1, 2)[..., None]  # (n, h, N, 1)
        qkv_gradient = torch.empty_like(qkv)
        bias_gradient = qkv.new_zeros(len(ctx.counts), heads, tokens, tokens)
        at_once = _at_once(ctx.counts, heads, tokens)
        copies = qkv.new_zeros(4, at_once, heads, tokens, padded(each))
        results = torch.empty_like(copies[:3])
        products = torch.empty_like(weights[:at_once])
        for kind, start, stop in _pieces(ctx.counts, at_once):
            number = stop - start
            copies[3, :number, ..., :each] = gradient[start:stop].transpose(1, 2)
            q, k, v = _copied(copies, qkv, start, stop)
            after = copies[3, :number].flatten(0, 1)
            softmax, logits = weights[start:stop].flatten(0, 1), products[:number].flatten(0, 1)
            of_q, of_k, of_v = (result[:number].flatten(0, 1) for result in results)
            torch.bmm(softmax.transpose(1, 2), after, out=of_v)
            torch.bmm(after, v.transpose(1, 2), out=logits)
            logits.sub_(shared[start:stop].flatten(0, 1)).mul_(softmax)
            bias_gradient[kind] += logits.view(number, heads, tokens, tokens).sum(0)
            torch.baddbmm(of_q, logits, k, beta=0, alpha=each**-0.5, out=of_q)
            torch.baddbmm(of_k, logits.transpose(1, 2), q, beta=0, alpha=each**-0.5, out=of_k)
            qkv_gradient[start:stop] = results[:, :number, ..., :each].permute(1, 3, 0, 2, 4)
        return qkv_gradient, bias_gradient, None


def _at_once(counts: list[int], heads: int, tokens: int) -> int:
    return max(1, min(max(counts), WORKING_SET // (heads * tokens * tokens)))


def _pieces(counts: list[int], at_once: int) -> list[tuple[int, int, int]]:
    """Return the kind, the start and the end of pieces of windows that are of one kind."""
    found: list[tuple[int, int, int]] = []
    first = 0
    for kind, count in enumerate(counts):
        end = first + count
        found += [(kind, start, min(start + at_once, end)) for start in range(first, end, at_once)]
        first = end
    return found


def _copied(copies: torch.Tensor, qkv: torch.Tensor, start: int, stop: int) -> tuple[torch.Tensor, ...]:
    """Return queries, keys and values of some windows, (windows h, N, d padded with zeros)."""
    copies[:3, : stop - start, ..., : qkv.shape[-1]] = qkv[start:stop].permute(2, 0, 3, 1, 4)
    return tuple(copy[: stop - start].flatten(0, 1) for copy in copies[:3])
