"""RDST: the residual dense Swin transformer (Zhu 2022, chapter 5)."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Optional, Union

import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import check_sizes, convolution, mean_shifts
from medsr.networks.blocks.upsamplers import SubpixelUpsampler, subpixel_tail_bytes, subpixel_tail_radii
from medsr.networks.blocks.window_attention import TransformerLayers, check_attention, linear
from medsr.networks.blocks.windows import WINDOWS, Plan, Windows, crop, pad_to_windows, reach, to_image, to_windows
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class DSTB(nn.Module):
    """A dense Swin transformer block: layers and a bottleneck, whose output is appended to the input (section 5.2).

    Args:
        layers: The transformer layers.
        features: The number of channels of the input.
        growth: The number of channels that are added.
        pre_norm: Whether the norm is before the bottleneck instead of after it.
    """

    def __init__(self, layers: TransformerLayers, features: int, growth: int, pre_norm: bool) -> None:
        super().__init__()
        self.body = layers
        self.end = layers.orders[-1]
        self.stages = layers.stages
        bottleneck = linear(features, growth)
        self.tail = (
            nn.Sequential(nn.LayerNorm(features), bottleneck)
            if pre_norm
            else nn.Sequential(bottleneck, nn.LayerNorm(growth))
        )

    def forward(self, x: torch.Tensor, plan: Plan) -> torch.Tensor:
        """Map (windows, B, N, features) to (windows, B, N, features + growth)."""
        new = self.tail(self.body(x, plan))
        return torch.cat([x, to_windows(new, plan, self.end)], dim=-1)


class RDSTB(nn.Module):
    """A residual dense Swin transformer block: DSTBs and a convolution that fuses them, plus the input (section 5.2).

    Args:
        body: The DSTBs.
        conv: The convolution from all features to those of the input.
    """

    def __init__(self, body: Sequence[DSTB], conv: nn.Module) -> None:
        super().__init__()
        self.body = nn.ModuleList(body)
        self.conv = conv

    def forward(self, x: torch.Tensor, plan: Plan) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        y = to_windows(x.permute(0, 2, 3, 1), plan)
        for block in self.body:
            y = block(y, plan)
        return x + self.conv(to_image(y, plan))


class GlobalFusion(nn.Module):
    """Two layers without activation that fuse the outputs of all blocks (section 5.4.2, figure 5.8).

    Args:
        joined: The number of features of all outputs together.
        features: The number of features of the result.
        mlp: Whether the layers are linear layers instead of a 1x1 and a 3x3 convolution.
    """

    def __init__(self, joined: int, features: int, mlp: bool) -> None:
        super().__init__()
        self.mlp = mlp
        self.layers = (
            nn.Sequential(linear(joined, features), linear(features, features))
            if mlp
            else nn.Sequential(convolution(2, joined, features, kernel_size=1), convolution(2, features, features))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, joined, H, W) to (B, features, H, W)."""
        if self.mlp:
            return self.layers(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.layers(x)


class RDST(nn.Module):
    """A convolution, residual dense Swin transformer blocks under one skip connection, and sub-pixel upsampling.

    Zhu 2022, sections 5.2.1 to 5.2.3, and the author's program where the text is silent. Linear layers and bias
    tables start from a truncated normal distribution with standard deviation 0.02, convolutions with torch's default
    initialisation. Stochastic depth, which the published configuration sets, never reaches the published network and is
    left out.

    With `fusion`, the outputs of all blocks are concatenated and fused, as in RDN. The author's program also builds the
    final norm and convolution in this variant but never uses them; they do not exist here.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        scale: The scale, a power of two or 3.
        features: The number of features of a token (C), a multiple of the heads.
        growth: The number of features that each dense block adds, a multiple of the heads.
        blocks: The number of residual dense Swin transformer blocks; RDST-E has 4.
        dense_blocks: The number of dense blocks in each of them.
        layers: The number of transformer layers in each dense block.
        heads: The number of attention heads, at every width.
        window: The side of the attention windows, in pixels.
        mlp_ratio: The number of hidden features of the MLPs relative to the features of the layer.
        pre_norm: Whether the norm is before the bottleneck of a dense block, as published, instead of after it.
        fusion: The fusion of the outputs of all blocks: None, "mlp" (two linear layers, as published) or "conv".
        mean: The mean of the training set, one number or one per channel; subtracted from the input and added to
            the output.
        std: The standard deviation of the training set, one number or one per channel.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    PUBLISHED_KEYS = ((r"\.(attn_mask|relative_position_index)$", None),)  # constants that are computed here
    SMALL = {  # a small one, for trials and tests
        "features": 8,
        "growth": 4,
        "blocks": 2,
        "heads": 2,
        "window": 4,
    }

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        scale: int = 4,
        features: int = 60,
        growth: int = 30,
        blocks: int = 8,
        dense_blocks: int = 3,
        layers: int = 2,
        heads: int = 6,
        window: int = 8,
        mlp_ratio: float = 2.0,
        pre_norm: bool = True,
        fusion: Optional[str] = None,
        mean: Union[float, Sequence[float]] = 0.0,
        std: Union[float, Sequence[float]] = 1.0,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        sizes = {"features": features, "growth": growth, "blocks": blocks, "dense_blocks": dense_blocks}
        check_sizes("RDST", 2, in_channels, out_channels, **sizes, layers=layers, heads=heads, window=window)
        widths = [features + i * growth for i in range(dense_blocks + 1)]
        for width in widths[:-1]:
            check_attention("RDST", width, [heads], mlp_ratio, 0.0)
        if fusion not in (None, "mlp", "conv"):
            raise MedsrError(f"RDST needs fusion None, mlp or conv, got {fusion!r}")
        self.scale = scale
        self.window = window
        self.sub_mean, self.add_mean = mean_shifts(2, in_channels, mean, std, out_channels)
        self.head = convolution(2, in_channels, features)
        self.patch_embed = nn.Sequential(OrderedDict(norm=nn.LayerNorm(features)))
        self.windows = Windows(window)

        def dense_block(width: int) -> DSTB:
            body = TransformerLayers(width, heads, window, mlp_ratio, [0.0] * layers, enter=WINDOWS)
            return DSTB(body, width, growth, pre_norm)

        groups = [[dense_block(width) for width in widths[:-1]] for _ in range(blocks)]
        self.body = nn.ModuleList(RDSTB(group, convolution(2, widths[-1], features)) for group in groups)
        self.fusion: Optional[nn.Module] = None
        self.norm: Optional[nn.Module] = None
        self.conv_after_body: Optional[nn.Module] = None
        if fusion is None:
            self.norm = nn.LayerNorm(features)
            self.conv_after_body = convolution(2, features, features)
        else:
            self.fusion = GlobalFusion(blocks * features, features, fusion == "mlp")
        self.tail = nn.Sequential(SubpixelUpsampler(2, features, scale), convolution(2, features, out_channels))
        step = ("convolution", 1)
        stages = [*groups[0][0].stages * dense_blocks, step] * blocks
        stages = [step, *stages, *([] if fusion == "mlp" else [step])]
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=out_channels,
            scales=(scale, scale),
            size_multiple=window,
            halo=reach(window, stages, subpixel_tail_radii(scale)),
            bytes_per_voxel=max(4 * 9 * widths[-1], 4 * 3 * features + subpixel_tail_bytes(2, features, scale)),
            paper="Zhu 2022, section 5.2",
            deviations="takes any input size by reflection; has no stochastic depth, which the published program lost",
        )

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Enlarge an image.

        Args:
            lr: The LR image, (B, in_channels, H, W), of any size; reflection pads it to multiples of the window.
            scale: Ignored; the scale is built in.

        Returns:
            The SR image, (B, out_channels, H times scale, W times scale).
        """
        first = self.head(self.sub_mean(pad_to_windows(lr, self.window)))
        plan = self.windows(first.shape[0], first.shape[2], first.shape[3])
        x = self.patch_embed(first.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        outputs: list[torch.Tensor] = []
        for block in self.body:
            x = block(x, plan)
            if self.fusion is not None:
                outputs.append(x)
        if self.fusion is not None:
            x = self.fusion(torch.cat(outputs, dim=1))
        if self.norm is not None and self.conv_after_body is not None:
            x = self.conv_after_body(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        x = x + first
        sr = self.add_mean(self.tail(x))
        return crop(sr, lr.shape[2] * self.scale, lr.shape[3] * self.scale)


PRESETS = {
    "rdst": Preset(
        RDST,
        {},
        4_464_961,
        leaf_parameters=4_400_161,
        multiply_adds={"conv": 6.0713, "thop": 6.1696, "all": 6.7791},
        published="4.40 M, 6.17 G (Zhu 2022, table 5.1)",
        remark="printed without the bias tables of the attention",
    ),
    "rdst-e": Preset(
        RDST,
        {"blocks": 4},
        2_379_241,
        leaf_parameters=2_346_841,
        multiply_adds={"conv": 3.4770, "thop": 3.5263, "all": 3.8309},
        published="2.35 M, 3.53 G (Zhu 2022, table 5.1)",
        remark="printed without the bias tables of the attention",
    ),
    "rdst-gff": Preset(
        RDST,
        {"fusion": "mlp"},
        4_497_481,
        left_out=32_580,
        leaf_parameters=4_400_101,
        multiply_adds={"conv": 6.0713, "thop": 6.1695, "all": 6.7791},
        published="4.40 M, 6.17 G (Zhu 2022, table 5.5)",
        remark="printed without the bias tables; the author's program has a norm and a convolution that it never uses",
    ),
}
