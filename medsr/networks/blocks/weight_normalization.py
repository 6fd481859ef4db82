"""Convolutions whose weights are normalised at every pass, in a form that can be exported, and attention using them."""

import torch
from torch import nn
from torch.nn import functional as F


class WeightNormConv2d(nn.Conv2d):
    """A zero-padded convolution with the kernels weight_g * weight / |weight| (Salimans and Kingma 2016, eq. 2)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.weight_g = nn.Parameter(torch.ones(out_channels, 1, 1, 1))

    def set_kernels(self, kernels: torch.Tensor) -> None:
        """Set the kernels, (out_channels, in_channels, k, k)."""
        with torch.no_grad():
            self.weight.copy_(kernels)
            self.weight_g.copy_(torch.linalg.vector_norm(kernels.flatten(1), dim=1).reshape(self.weight_g.shape))

    def kernels(self) -> torch.Tensor:
        """Return the normalised kernels."""
        norm = torch.linalg.vector_norm(self.weight.flatten(1), dim=1)  # much faster for a matrix than for 4 axes
        return self.weight * (self.weight_g / norm.reshape(-1, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        return F.conv2d(x, self.kernels(), self.bias, padding=self.kernel_size[0] // 2)


class SpectralNormConv1d(nn.Conv1d):
    """A 1x1 convolution divided by its largest singular value (Miyato et al. 2018, algorithm 1).

    In training every forward pass makes one step of the power iteration.
    """

    weight_u: torch.Tensor
    weight_v: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1, bias=False)
        nn.init.kaiming_normal_(self.weight)
        self.register_buffer("weight_u", F.normalize(torch.randn(out_channels), dim=0))
        self.register_buffer("weight_v", F.normalize(torch.randn(in_channels), dim=0))
        for _ in range(15):
            self.iterate()

    def iterate(self) -> None:
        """Make one step of the power iteration."""
        with torch.no_grad():
            matrix = self.weight.flatten(1)
            self.weight_v.copy_(F.normalize(matrix.t().mv(self.weight_u), dim=0))
            self.weight_u.copy_(F.normalize(matrix.mv(self.weight_v), dim=0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, N) to (B, out_channels, N)."""
        if self.training:
            self.iterate()
        u, v = self.weight_u.clone(), self.weight_v.clone()  # the next step of the iteration must not change them
        return F.conv1d(x, self.weight / torch.dot(u, self.weight.flatten(1).mv(v)))


class SelfAttention(nn.Module):
    """Self-attention over all positions (Zhang et al. 2019, section 3), which starts as the identity.

    Args:
        features: The number of channels, at least 8.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.query = SpectralNormConv1d(features, features // 8)
        self.key = SpectralNormConv1d(features, features // 8)
        self.value = SpectralNormConv1d(features, features)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, features, H, W) to the same shape."""
        flat = x.flatten(2)
        # The paper's softmax runs over the positions of f, which the published weights call "query": they act as keys.
        looking, seen = self.key(flat).transpose(1, 2), self.query(flat).transpose(1, 2)
        values = self.value(flat).transpose(1, 2)
        found = F.scaled_dot_product_attention(looking[:, None], seen[:, None], values[:, None], scale=1.0)
        return x + self.gamma * found[:, 0].transpose(1, 2).reshape(x.shape)
