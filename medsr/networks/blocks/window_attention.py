"""Self-attention within windows (Liu et al. 2021, Swin transformer), as SwinIR and RDST use it."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks.blocks.training_attention import TrainingAttention
from medsr.networks.blocks.windows import IMAGE, SHIFTED, WINDOWS, Plan, compiling, to_windows

WORKING_SET = 2**18  # the numbers (tokens times features) that a layer processes at a time, which fit the caches


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learned bias for every relative position.

    It computes softmax(q k^T / sqrt(d) + bias + mask) v for each head (Liu et al. 2021, equation 4), and a projection.

    Args:
        features: The number of features of a token (C).
        heads: The number of heads (h), a divisor of C.
        window: The side of the windows, in pixels.
    """

    def __init__(self, features: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv = linear(features, 3 * features)
        self.proj = linear(features, features)

    def bias(self, relative: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Return what is added to the logits in windows of each kind, (K, h, N, N)."""
        bias = self.relative_position_bias_table.t().index_select(1, relative)
        return bias.reshape(1, self.heads, masks.shape[1], masks.shape[2]) + masks[:, None]

    def softmax_shape(self, windows: torch.Tensor) -> tuple[int, int]:
        """Return the number of rows and the length of all softmaxes, for `medsr.networks.complexity`."""
        return windows[..., 0].numel() * self.heads, windows.shape[2]

    def forward(self, windows: torch.Tensor, bias: torch.Tensor, counts: list[int]) -> torch.Tensor:
        """Apply the attention to the tokens of windows.

        Args:
            windows: The windows, (n, B, N, C), sorted by kind.
            bias: The bias of each kind, (K, h, N, N), see `bias`.
            counts: The number of windows of each kind; if empty, every window has its own bias.

        Returns:
            The windows, (n, B, N, C).
        """
        n, batch, tokens, features = windows.shape
        each = features // self.heads
        qkv = self.qkv(windows).reshape(n * batch, tokens, 3, self.heads, each)
        bias = bias.to(qkv.dtype)
        if wants_own_gradients(qkv, bias, counts):
            attended = attend_in_training(qkv, bias, [count * batch for count in counts])
            return self.proj(attended.reshape(n, batch, tokens, features))
        if wants_padding(qkv):
            qkv = F.pad(qkv, (0, 16 - each))
        qkv = qkv.permute(2, 0, 3, 1, 4)
        if len(counts) == 0:
            bias = bias[:, None].expand(-1, batch, -1, -1, -1).reshape(n * batch, self.heads, tokens, tokens)
        if len(counts) < 2:
            attended = attend(qkv, bias, each)
        else:
            parts: list[torch.Tensor] = []
            for kind, part in enumerate(qkv.split_with_sizes([count * batch for count in counts], dim=1)):
                if counts[kind] > 0:
                    parts.append(attend(part, bias[kind : kind + 1], each))
            attended = torch.cat(parts)
        return self.proj(attended.reshape(n, batch, tokens, features))


def attend(qkv: torch.Tensor, bias: torch.Tensor, features: int) -> torch.Tensor:
    """Return the attention (n, N, h, d) of queries, keys and values (3, n, h, N, d or more), with a bias."""
    q, k, v = qkv.unbind(0)
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=features**-0.5).transpose(1, 2)
    if compiling():  # a view here need not be a view in an exported program
        attended = attended.clone(memory_format=torch.contiguous_format)
    return attended[..., :features]


@torch.jit.unused
def attend_in_training(qkv: torch.Tensor, bias: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """Return the attention (n, N, h, d) of queries, keys and values (n, N, 3, h, d), with the bias of each kind."""
    return TrainingAttention.apply(qkv, bias, counts)


def wants_own_gradients(qkv: torch.Tensor, bias: torch.Tensor, counts: list[int]) -> bool:
    """Return whether `TrainingAttention` is faster: on CPUs, where no fused kernel has a gradient for the bias."""
    if qkv.device.type != "cpu" or not bias.requires_grad or not torch.is_grad_enabled() or len(counts) == 0:
        return False
    if torch.jit.is_scripting() or compiling():
        return False
    else:
        return qkv.dtype in (torch.float32, torch.float64) and not torch.jit.is_tracing()


def wants_padding(qkv: torch.Tensor) -> bool:
    """Return whether attention is faster if the features of each head are padded with zeros to 16.

    This holds for the fused kernel on CPUs, whose small matrix products are slow for odd sizes: it saves a fifth of its
    time.
    """
    if not 8 < qkv.shape[-1] < 16 or qkv.device.type != "cpu" or torch.is_grad_enabled() or compiling():
        return False
    if torch.jit.is_scripting():
        return False
    else:
        return torch.backends.cuda.flash_sdp_enabled()  # also for CPUs; without it zeros cost time (and are counted)


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them.

    Args:
        features: The number of features of a token.
        hidden: The number of features between the layers.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = linear(features, hidden)
        self.fc2 = linear(hidden, features)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map (..., features) to the same shape."""
        return self.fc2(F.gelu(self.fc1(tokens)))


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer with zero biases and weights from N(0, 0.02^2), truncated at +-2."""
    layer = nn.Linear(inputs, outputs)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


class TransformerLayer(nn.Module):
    """A transformer layer: x + attention(norm(x)), then x + MLP(norm(x)) (Liu et al. 2021, equation 3).

    Args:
        features: The number of features of a token.
        heads: The number of attention heads.
        window: The side of the windows, in pixels.
        mlp_ratio: The number of hidden features of the MLP relative to `features`.
        drop_path: The probability that a residual is dropped for an image in training (Huang et al. 2016).
    """

    def __init__(self, features: int, heads: int, window: int, mlp_ratio: float, drop_path: float = 0.0) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.working_set = WORKING_SET
        self.norm1 = nn.LayerNorm(features)
        self.attn = WindowAttention(features, heads, window)
        self.norm2 = nn.LayerNorm(features)
        self.mlp = MLP(features, int(features * mlp_ratio))

    def forward(
        self, windows: torch.Tensor, relative: torch.Tensor, masks: torch.Tensor, counts: list[int]
    ) -> torch.Tensor:
        """Transform the tokens of windows.

        Args:
            windows: The windows, (n, B, N, C), sorted by kind; they are overwritten if no gradients are recorded.
            relative: The relative positions, see `Plan`.
            masks: The masks of the kinds of windows, (K, N, N).
            counts: The number of windows of each kind.

        Returns:
            The windows, (n, B, N, C).
        """
        bias = self.attn.bias(relative, masks)
        if torch.is_grad_enabled() or compiling():
            windows = windows + self._kept(self.attn(self.norm1(windows), bias, counts))
            return windows + self._kept(self.mlp(self.norm2(windows)))
        start = 0
        for piece in self._pieces(windows, counts):
            part = windows[start : start + sum(piece)]
            part.add_(self._kept(self.attn(self.norm1(part), bias, piece)))
            part.add_(self._kept(self.mlp(self.norm2(part))))
            start += sum(piece)
        return windows

    def _kept(self, residual: torch.Tensor) -> torch.Tensor:
        """Return the residual (n, B, N, C), randomly set to zero for some images and enlarged for the others."""
        if not self.training or self.drop_path == 0.0:
            return residual
        kept = torch.rand(1, residual.shape[1], 1, 1, device=residual.device) >= self.drop_path
        return residual * (kept.to(residual.dtype) / (1 - self.drop_path))

    def _pieces(self, windows: torch.Tensor, counts: list[int]) -> list[list[int]]:
        """Return the windows of each kind to process at a time: as many as fit the caches of a CPU, else all."""
        if windows.device.type != "cpu":
            return [counts]
        return pieces(counts, self.working_set // windows[0].numel())


def pieces(counts: list[int], most: int) -> list[list[int]]:
    """Split windows, given as the number of each kind, into the fewest pieces of at most `most` (at least 1)."""
    rest = sum(counts)
    number = (rest + max(most, 1) - 1) // max(most, 1)
    result: list[list[int]] = []
    kind, left = 0, counts[0]
    for i in range(number):
        room = (rest + number - i - 1) // (number - i)  # pieces of about equal size
        rest -= room
        piece = [0] * len(counts)
        while room > 0:
            taken = min(room, left)
            piece[kind] = taken
            room -= taken
            left -= taken
            if left == 0 and kind + 1 < len(counts):
                kind += 1
                left = counts[kind]
        result.append(piece)
    return result


class TransformerLayers(nn.Module):
    """A sequence of layers on plain and shifted windows in turn (Liu et al. 2021, figure 3b).

    Args:
        features: The number of features of a token.
        heads: The number of attention heads.
        window: The side of the windows, in pixels.
        mlp_ratio: The number of hidden features of the MLPs relative to `features`.
        drop_paths: The drop probability of each layer, see `TransformerLayer`.
        shifted: Whether the windows of every second layer are shifted.
        enter: The order of the input tokens, see `windows`; the output tokens are in the order of the last layer.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        window: int,
        mlp_ratio: float,
        drop_paths: Sequence[float],
        shifted: bool = True,
        enter: int = IMAGE,
    ) -> None:
        super().__init__()
        layers = [TransformerLayer(features, heads, window, mlp_ratio, drop_path) for drop_path in drop_paths]
        self.blocks = nn.ModuleList(layers)
        self.enter = enter
        self.orders = [SHIFTED if shifted and i % 2 else WINDOWS for i in range(len(layers))]
        self.stages = [("window", window // 2 if order == SHIFTED else 0) for order in self.orders]  # for `reach`

    def forward(self, x: torch.Tensor, plan: Plan) -> torch.Tensor:
        """Map tokens (..., C) to (windows, B, N, C)."""
        here = self.enter
        if here == self.orders[0] and not torch.is_grad_enabled():
            x = x.clone()  # the layers overwrite their input
        for i, layer in enumerate(self.blocks):
            there = self.orders[i]
            x = layer(to_windows(x, plan, here, there), plan.relative, plan.masks[there], plan.counts[there])
            here = there
        return x


def check_attention(network: str, features: int, heads: Sequence[int], mlp_ratio: float, drop_path: float) -> None:
    """Refuse numbers that do not describe a transformer layer.

    Raises:
        MedsrError: If one of them is out of range.
    """
    for number in heads:
        if number < 1 or features % number:
            raise MedsrError(f"{network} needs features that are a multiple of the heads, got {features} and {number}")
    if int(features * mlp_ratio) < 1:
        raise MedsrError(f"{network} needs mlp_ratio that leaves hidden features, got {mlp_ratio}")
    if not 0 <= drop_path < 1:
        raise MedsrError(f"{network} needs drop_path in [0, 1), got {drop_path}")
