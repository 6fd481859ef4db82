"""Densely connected layers and the blocks built from them: residual dense blocks, RRDB and the features of RDN."""

import torch
from torch import nn

from medsr.networks.blocks.residual import activation, convolution

DENSE_LAYERS = 4  # the number of layers of a block of an RRDB, besides its last convolution
RES_SCALE = 0.2  # the factor of all residuals of an RRDB


class DenseLayer(nn.Module):
    """A convolution and an activation, whose result is appended to the input (Huang et al. 2017).

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        in_channels: The number of channels of the input.
        growth: The number of channels that are appended.
        act: The activation, see `activation`.
    """

    def __init__(self, spatial_dims: int, in_channels: int, growth: int, act: str = "relu") -> None:
        super().__init__()
        self.conv = nn.Sequential(convolution(spatial_dims, in_channels, growth), activation(act))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, *spatial) to (B, in_channels + growth, *spatial), the input first."""
        # On a CPU, a buffer that the layers fill is not faster than these copies (within 5 %): convolutions read more.
        return torch.cat([x, self.conv(x)], 1)


class ResidualDenseBlock(nn.Module):
    """Densely connected layers, fused by a convolution and multiplied by `res_scale`, plus the input.

    Zhang et al. 2018 (section 3.2, figure 3) fuse with 1x1; Wang et al. 2018 (figure 4) fuse with 3x3 and scale.

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        features: The number of channels of the input and of the output.
        growth: The number of channels that each layer adds.
        layers: The number of layers.
        act: The activation, see `activation`.
        fusion: The kernel size of the last convolution.
        res_scale: The factor of the residual.
    """

    def __init__(
        self,
        spatial_dims: int,
        features: int,
        growth: int,
        layers: int,
        act: str = "relu",
        fusion: int = 1,
        res_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.res_scale = res_scale
        self.convs = nn.Sequential(
            *[DenseLayer(spatial_dims, features + i * growth, growth, act) for i in range(layers)]
        )
        self.LFF = convolution(spatial_dims, features + layers * growth, features, fusion)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, features, *spatial) to the same shape."""
        return torch.add(x, self.LFF(self.convs(x)), alpha=self.res_scale)


class RRDB(nn.Module):
    """A residual in residual dense block: three residual dense blocks, multiplied by 0.2, plus the input.

    Wang et al. 2018, figure 4.

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        features: The number of channels of the input and of the output.
        growth: The number of channels that each dense layer adds.
        fusion: The kernel size of the last convolution of each block.
    """

    def __init__(self, spatial_dims: int, features: int, growth: int, fusion: int) -> None:
        super().__init__()
        self.res_scale = RES_SCALE
        self.body = nn.Sequential(
            *[
                ResidualDenseBlock(spatial_dims, features, growth, DENSE_LAYERS, "leaky_relu", fusion, RES_SCALE)
                for _ in range(3)
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, features, *spatial) to the same shape."""
        return torch.add(x, self.body(x), alpha=self.res_scale)


class RDNFeatures(nn.Module):
    """RDN without its upsampler, for RDN and Meta-RDN; `medsr.networks.rdn.RDN` explains the names of the parts.

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        in_channels: The number of channels of the image.
        features: The number of channels between the blocks (G0).
        blocks: The number of residual dense blocks (D).
        layers: The number of convolutions in each block (C).
        growth: The number of channels that each convolution adds (G).
        act: The activation within the blocks, see `activation`.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, features: int, blocks: int, layers: int, growth: int, act: str
    ) -> None:
        super().__init__()
        self.SFENet1 = convolution(spatial_dims, in_channels, features)
        self.SFENet2 = convolution(spatial_dims, features, features)
        self.RDBs = nn.ModuleList(
            ResidualDenseBlock(spatial_dims, features, growth, layers, act) for _ in range(blocks)
        )
        self.GFF = nn.Sequential(
            convolution(spatial_dims, blocks * features, features, 1), convolution(spatial_dims, features, features)
        )

    def features(self, lr: torch.Tensor) -> torch.Tensor:
        """Return the features (B, features, *spatial) on the LR grid of an image (B, in_channels, *spatial)."""
        first = self.SFENet1(lr)
        x = self.SFENet2(first)
        outputs = []
        for block in self.RDBs:
            x = block(x)
            outputs.append(x)
        return self.GFF(torch.cat(outputs, 1)) + first


def rdn_bytes(blocks: int, features: int) -> int:
    """Return the peak memory of a float32 forward pass up to the features, in bytes per input voxel."""
    return 3 * 4 * blocks * features  # the outputs of the blocks, their concatenation and oneDNN's reordered copy
