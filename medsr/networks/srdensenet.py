"""SRDenseNet: dense blocks that are themselves densely connected (Tong et al. 2017)."""

from collections.abc import Sequence
from typing import Optional, Union

import torch
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks.blocks.dense import DenseLayer
from medsr.networks.blocks.residual import check_sizes, convolution, draw_he_normal, mean_shifts
from medsr.networks.blocks.upsamplers import (
    SubpixelUpsampler,
    halo_of,
    quickest_layout,
    subpixel_stages,
    subpixel_tail_bytes,
    subpixel_tail_radii,
)
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class CumulativeBlock(nn.Module):
    """Dense layers that also read the input of the block; the output is the input and all that they add (Zhu 2022).

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        in_channels: The number of channels of the input.
        growth: The number of channels that each layer adds.
        layers: The number of layers.
    """

    def __init__(self, spatial_dims: int, in_channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.growth = growth
        self.layers = nn.ModuleList(convolution(spatial_dims, in_channels + i * growth, growth) for i in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, *spatial) to (B, in_channels + layers * growth, *spatial)."""
        # A convolution of concatenated channels is the sum of the convolutions of its parts. The parts that read the
        # input, by far the widest, are done as one convolution with many filters: on a CPU this is much faster than
        # many convolutions with few filters, and the input is not copied for every layer.
        kernels, biases = [], []
        for layer in self.layers:
            kernels.append(layer.weight[:, : self.in_channels])  # type: ignore[index]
            biases.append(layer.bias)
        from_input = self.convolve(x, torch.cat(kernels), torch.cat(biases))  # type: ignore[arg-type]
        added = F.relu(from_input[:, : self.growth])
        for i, layer in enumerate(self.layers):
            if i > 0:
                own = self.convolve(added, layer.weight[:, self.in_channels :], None)  # type: ignore[index]
                own = F.relu(own + from_input[:, i * self.growth : (i + 1) * self.growth])
                added = torch.cat([added, own], 1)
        return torch.cat([x, added], 1)

    def convolve(self, x: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor]) -> torch.Tensor:
        """Apply a zero-padded 3x3 (3x3x3) convolution."""
        if self.spatial_dims == 2:
            return F.conv2d(x, weight, bias, padding=1)
        return F.conv3d(x, weight, bias, padding=1)

    def products_per_voxel(self) -> int:
        """Return the multiply-adds that no call of a layer shows, for `medsr.networks.complexity`."""
        return sum(parameter.numel() for key, parameter in self.named_parameters() if key.endswith("weight"))


class SRDenseNet(nn.Module):
    """Dense blocks, a 1x1 convolution ("bottleneck") of their outputs, upsampling and a convolution.

    "tong2017" (sections 3.1 to 3.5): a layer of a block reads the outputs of the layers before it in that block, and
    the first layer reads the input of the block. A ReLU follows every convolution but the last. Deconvolutions enlarge
    by 2 each. The input of the bottleneck has three variants (section 3.4, figure 2): "h" takes the maps of the last
    block; "hl" also those of the first convolution; "all" those of the first convolution and of all blocks, and every
    block then also reads the maps of those before it. The paper does not say how many maps the first convolution makes,
    and public programs differ; 128, as many as a block, fits the weights of the PyTorch program by "yjn870". The
    weights are drawn as in He et al. 2015.

    "zhu2022" is the network that the dissertation ran (table 4.1): all layers of a block read its input, and its output
    contains its input, so that with "all" the bottleneck gets the same maps several times. There is no ReLU at both
    ends, upsampling is by sub-pixel convolutions, and the weights have torch's default initialisation.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        scale: The scale, a power of two; for "zhu2022" also 3.
        features: The number of channels of the first convolution.
        blocks: The number of dense blocks.
        layers: The number of convolutions in each block.
        growth: The number of channels that each convolution adds (k).
        width: The number of channels after the bottleneck.
        connections: The input of the bottleneck, "h", "hl" or "all".
        definition: The definition of the network, "tong2017" or "zhu2022".
        mean: The mean of the training set, one number or one per channel; subtracted from the input and added to
            the output.
        std: The standard deviation of the training set, one number or one per channel.
        spatial_dims: The number of spatial axes, 2 or 3.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 6, "blocks": 2, "layers": 3, "growth": 4, "width": 8}  # a small one, for trials and tests
    PUBLISHED_KEYS = (
        # The dissertation's program. Activations have no keys, and in its blocks only convolutions have keys.
        (r"^body\.(\d+)\.body\.(\d+)\.body\.0\.", r"body.\1.layers.\2."),
        (r"^bottleneck\.(weight|bias)$", r"bottleneck.0.\1"),
        # A public program for the paper.
        (r"^conv\.conv\.", "head.0."),
        (r"^dense_blocks\.(\d+)\.block\.0\.conv\.", r"body.\1.0.0."),
        (r"^dense_blocks\.(\d+)\.block\.(\d+)\.conv\.", r"body.\1.\2.conv.0."),
        (r"^deconv\.", "tail.0."),
        (r"^reconstruction\.", "tail.1."),
    )

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        scale: int = 4,
        features: int = 128,
        blocks: int = 8,
        layers: int = 8,
        growth: int = 16,
        width: int = 256,
        connections: str = "all",
        definition: str = "tong2017",
        mean: Union[float, Sequence[float]] = 0.0,
        std: Union[float, Sequence[float]] = 1.0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        out = in_channels if out_channels is None else out_channels
        sizes = {"features": features, "blocks": blocks, "layers": layers, "growth": growth, "width": width}
        check_sizes("SRDenseNet", spatial_dims, in_channels, out, **sizes)
        if definition not in ("tong2017", "zhu2022") or connections not in ("h", "hl", "all"):
            raise MedsrError(
                "SRDenseNet has the definitions tong2017 and zhu2022 and the connections h, hl and all, "
                f"got {definition!r} and {connections!r}"
            )
        tong = definition == "tong2017"
        self.connections = connections
        self.cumulative = not tong
        self.widths = [features + i * layers * growth for i in range(blocks + 1)]  # the number of maps so far
        self.sub_mean: nn.Module = nn.Identity()  # no program for the paper has shifts
        self.add_mean: nn.Module = nn.Identity()
        if not tong or mean != 0.0 or std != 1.0:
            self.sub_mean, self.add_mean = mean_shifts(spatial_dims, in_channels, mean, std, out)
        if tong and connections != "all":
            inputs = [features, *[layers * growth] * (blocks - 1)]
            gathered = layers * growth + (features if connections == "hl" else 0)
        else:
            inputs = self.widths[:-1]
            gathered = self.widths[-1] if tong or connections == "h" else features + self.widths[-1]
            gathered = sum(self.widths) if connections == "all" and not tong else gathered

        def block(channels: int) -> nn.Module:
            return (_dense_block if tong else CumulativeBlock)(spatial_dims, channels, growth, layers)

        last = [nn.ReLU(inplace=True)] if tong else []
        self.head = nn.Sequential(convolution(spatial_dims, in_channels, features), *last)
        self.body = nn.ModuleList(block(channels) for channels in inputs)
        self.bottleneck = nn.Sequential(convolution(spatial_dims, gathered, width, 1), *last)
        upsampler = (_deconvolutions if tong else SubpixelUpsampler)(spatial_dims, width, scale)
        self.tail = nn.Sequential(upsampler, convolution(spatial_dims, width, out))
        if tong:
            draw_he_normal(self, 1.0)
            after = [*((2 ** (i + 1), 1) for i in range(len(subpixel_stages(scale)))), (scale, 1)]
        else:
            after = subpixel_tail_radii(scale)
        joining = 4 * (self.widths[-1] + 2 * gathered)  # all maps, the concatenated ones and oneDNN's copy of these
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out,
            scales=(scale,) * spatial_dims,
            halo=halo_of([(1, 1 + blocks * layers), *after]),
            bytes_per_voxel=max(joining, subpixel_tail_bytes(spatial_dims, width, scale)),
            paper="Tong et al. 2017, section 3",
            deviations="" if tong else "cumulative blocks, linear ends, sub-pixel upsampling (Zhu 2022, chapter 4)",
        )

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Enlarge an image.

        Args:
            lr: The LR image, (B, in_channels, *spatial), of any size.
            scale: Ignored; the scale is built in.

        Returns:
            The SR image, (B, out_channels, *spatial times the scale).
        """
        first = self.head(self.sub_mean(lr))
        x = first
        for block in self.body:
            if self.connections == "all" and not self.cumulative:
                x = torch.cat([x, block(x)], 1)
            else:
                x = block(x)
        if self.connections == "hl":
            x = torch.cat([first, x], 1)
        elif self.connections == "all" and self.cumulative:  # the output of each block is the beginning of the last
            x = torch.cat([x[:, :width] for width in self.widths], 1)
        return self.add_mean(self.tail(quickest_layout(self.bottleneck(x))))


def _dense_block(spatial_dims: int, in_channels: int, growth: int, layers: int) -> nn.Sequential:
    """Return a block whose output is only what its layers add, `layers * growth` channels (section 3.2)."""
    first = nn.Sequential(convolution(spatial_dims, in_channels, growth), nn.ReLU(inplace=True))
    return nn.Sequential(first, *[DenseLayer(spatial_dims, i * growth, growth) for i in range(1, layers)])


def _deconvolutions(spatial_dims: int, width: int, scale: int) -> nn.Sequential:
    """Return transposed 3x3 convolutions that enlarge by 2 each, with ReLU (section 3.3)."""
    if scale == 3:
        raise MedsrError("the deconvolutions of SRDenseNet enlarge by powers of two, got 3; use definition zhu2022")
    stages: list[nn.Module] = []
    for _ in subpixel_stages(scale):
        layer = Conv[Conv.CONVTRANS, spatial_dims](width, width, 3, stride=2, padding=1, output_padding=1)
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        stages += [layer, nn.ReLU(inplace=True)]
    return nn.Sequential(*stages)


PRESETS = {
    "srdensenet": Preset(SRDenseNet, {}, 2_659_585),
    "srdensenet-zhu2022": Preset(
        SRDenseNet,
        {"features": 16, "definition": "zhu2022"},
        10_733_217,
        multiply_adds={"all": 22.8382},
        published="30.4 M for x2, x3 and x4 together (Zhu 2022, table 4.1)",
        also=(({"scale": 2}, 8_372_897), ({"scale": 3}, 11_323_297)),
    ),
}
