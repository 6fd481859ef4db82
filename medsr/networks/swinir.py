"""SwinIR: image restoration by shifted-window transformer layers (Liang et al. 2021)."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Optional, Union

import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import check_sizes, convolution
from medsr.networks.blocks.upsamplers import PixelShuffle, SubpixelUpsampler, subpixel_tail_bytes, subpixel_tail_radii
from medsr.networks.blocks.window_attention import TransformerLayers, check_attention
from medsr.networks.blocks.windows import Plan, Windows, crop, pad_to_windows, reach, to_image
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec

_DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # of RGB images; the authors use it for every three-channel network
_TAIL = 64  # the number of features of the heads that enlarge features


class RSTB(nn.Module):
    """A residual Swin transformer block: layers and a convolution, plus the input (section 3.2, figure 2a).

    Args:
        layers: The transformer layers.
        conv: The convolution, or a sequence of three.
    """

    def __init__(self, layers: TransformerLayers, conv: nn.Module) -> None:
        super().__init__()
        self.residual_group = layers
        self.conv = conv
        self.end = layers.orders[-1]

    def forward(self, x: torch.Tensor, plan: Plan) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        tokens = self.residual_group(x.permute(0, 2, 3, 1), plan)
        return x + self.conv(to_image(tokens, plan, self.end))


def closing_convolution(features: int, resi_connection: str) -> nn.Module:
    """Return the convolution after transformer layers: one, or three with a quarter of the features between them.

    Raises:
        MedsrError: If the name is unknown, or there are too few features.
    """
    if resi_connection == "1conv":
        return convolution(2, features, features)
    if resi_connection != "3conv":
        raise MedsrError(f"SwinIR needs resi_connection 1conv or 3conv, got {resi_connection!r}")
    few = features // 4
    if few < 1:
        raise MedsrError(f"SwinIR with 3conv needs at least 4 features, got {features}")
    return nn.Sequential(
        convolution(2, features, few),
        nn.LeakyReLU(0.2, inplace=True),
        convolution(2, few, few, kernel_size=1),
        nn.LeakyReLU(0.2, inplace=True),
        convolution(2, few, features),
    )


class SwinIR(nn.Module):
    """A convolution, residual Swin transformer blocks under one skip connection, and the reconstruction.

    Liang et al. 2021, section 3, figure 2, and the authors' program where the paper is silent. The image is padded by
    reflection to multiples of the window, and the output is cropped. Linear layers and bias tables start from a
    truncated normal distribution with standard deviation 0.02, convolutions with torch's default initialisation. In
    training, residuals of the layers are dropped with a probability that rises linearly to `drop_path`. The authors'
    checkpoints fit.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        scale: The scale, a power of two or 3; any integer with "pixelshuffledirect"; 2 or 4 with "nearest+conv".
        features: The number of features of a token (C, the authors' embed_dim), a multiple of every number of heads.
        depths: The number of transformer layers in each block.
        heads: The number of attention heads in each block, one number or one per block.
        window: The side of the attention windows, in pixels.
        mlp_ratio: The number of hidden features of the MLPs relative to `features`.
        upsampler: The head: "pixelshuffle" (classical SR), "pixelshuffledirect" (lightweight SR) or "nearest+conv"
            (real-world SR).
        resi_connection: The convolution after the layers: "1conv", or "3conv" to save parameters.
        drop_path: The stochastic depth of the last layer, in training.
        shifted: Whether the windows of every second layer are shifted.
        mean: The mean of the training set, one number or one per channel; by default that of DIV2K for three channels,
            else 0.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    mean: torch.Tensor

    PUBLISHED_KEYS = ((r"\.(attn_mask|relative_position_index)$", None),)  # constants that are computed here
    SMALL = {  # a small one, for trials and tests, which are too short for stochastic depth
        "features": 8,
        "depths": (2, 2),
        "heads": 2,
        "window": 4,
        "drop_path": 0.0,
    }

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        scale: int = 4,
        features: int = 180,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        heads: Union[int, Sequence[int]] = 6,
        window: int = 8,
        mlp_ratio: float = 2.0,
        upsampler: str = "pixelshuffle",
        resi_connection: str = "1conv",
        drop_path: float = 0.1,
        shifted: bool = True,
        mean: Union[float, Sequence[float], None] = None,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        each = [heads] * len(depths) if isinstance(heads, int) else list(heads)
        check_sizes(
            "SwinIR",
            2,
            in_channels,
            out_channels,
            scale=scale,
            blocks=len(depths),
            features=features,
            window=window,
        )
        check_attention("SwinIR", features, each, mlp_ratio, drop_path)
        if len(each) != len(depths) or min(depths) < 1:
            raise MedsrError(f"SwinIR needs depths of at least 1 and heads for each, got {list(depths)} and {each}")
        self.scale = scale
        self.window = window
        means = _means(in_channels, mean)
        self.register_buffer("mean", means, persistent=False)
        self.conv_first = convolution(2, in_channels, features)
        self.patch_embed = nn.Sequential(OrderedDict(norm=nn.LayerNorm(features)))
        self.windows = Windows(window)
        drops = [drop_path * i / max(sum(depths) - 1, 1) for i in range(sum(depths))]
        groups = []
        for depth, number in zip(depths, each, strict=True):
            here, drops = drops[:depth], drops[depth:]
            layers = TransformerLayers(features, number, window, mlp_ratio, here, shifted)
            groups.append(RSTB(layers, closing_convolution(features, resi_connection)))
        self.layers = nn.ModuleList(groups)
        self.norm = nn.LayerNorm(features)
        self.conv_after_body = closing_convolution(features, resi_connection)
        tail, tail_bytes = self._build_tail(upsampler, features, out_channels, scale)
        step = ("convolution", 1 if resi_connection == "1conv" else 2)
        stages = [stage for group in groups for stage in (*group.residual_group.stages, step)]
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=out_channels,
            scales=(scale, scale),
            size_multiple=window,
            halo=reach(window, [("convolution", 1), *stages, step], tail),
            bytes_per_voxel=max(4 * 13 * features, 4 * 3 * features + tail_bytes),
            paper="Liang et al. 2021, section 3",
        )

    def _build_tail(
        self, upsampler: str, features: int, out_channels: int, scale: int
    ) -> tuple[list[tuple[int, int]], int]:
        """Build the reconstruction; return the (resolution, radius) of its layers and its memory per LR pixel."""
        self.conv_before_upsample: Optional[nn.Module] = None
        self.upsample: Optional[nn.Module] = None
        self.conv_up1: Optional[nn.Module] = None
        self.conv_up2: Optional[nn.Module] = None
        self.conv_hr: Optional[nn.Module] = None
        self.conv_last: Optional[nn.Module] = None
        if upsampler == "pixelshuffledirect":
            last = convolution(2, features, scale * scale * out_channels)
            self.upsample = nn.Sequential(last, PixelShuffle(2, scale))
            return [(1, 1)], 2 * 4 * scale * scale * out_channels
        self.conv_before_upsample = nn.Sequential(convolution(2, features, _TAIL), nn.LeakyReLU(0.01, inplace=True))
        self.conv_last = convolution(2, _TAIL, out_channels)
        if upsampler == "pixelshuffle":
            self.upsample = SubpixelUpsampler(2, _TAIL, scale)
            return [(1, 1), *subpixel_tail_radii(scale)], subpixel_tail_bytes(2, _TAIL, scale)
        if upsampler != "nearest+conv":
            raise MedsrError(
                f"SwinIR needs upsampler pixelshuffle, pixelshuffledirect or nearest+conv, got {upsampler!r}"
            )
        if scale not in (2, 4):
            raise MedsrError(f"SwinIR with nearest+conv enlarges by 2 or 4, got scale {scale}")
        self.conv_up1 = convolution(2, _TAIL, _TAIL)
        if scale == 4:
            self.conv_up2 = convolution(2, _TAIL, _TAIL)
        self.conv_hr = convolution(2, _TAIL, _TAIL)
        return [(1, 1), *[(r, 1) for r in (2, 4)[: scale // 2]], (scale, 2)], 4 * 4 * scale * scale * _TAIL

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Enlarge an image.

        Args:
            lr: The LR image, (B, in_channels, H, W), of any size.
            scale: Ignored; the scale is built in.

        Returns:
            The SR image, (B, out_channels, H times scale, W times scale).
        """
        first = self.conv_first(pad_to_windows(lr, self.window) - self.mean)
        plan = self.windows(first.shape[0], first.shape[2], first.shape[3])
        x = self.patch_embed(first.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        for group in self.layers:
            x = group(x, plan)
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.conv_after_body(x) + first
        sr = self._reconstruct(x)
        sr = sr + self.mean[:, : sr.shape[1]]
        return crop(sr, lr.shape[2] * self.scale, lr.shape[3] * self.scale)

    def _reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        if self.conv_before_upsample is not None:
            x = self.conv_before_upsample(x)
        if self.upsample is not None:
            x = self.upsample(x)
        if self.conv_up1 is not None:
            x = F.leaky_relu(self.conv_up1(F.interpolate(x, scale_factor=2.0, mode="nearest")), 0.2, inplace=True)
        if self.conv_up2 is not None:
            x = F.leaky_relu(self.conv_up2(F.interpolate(x, scale_factor=2.0, mode="nearest")), 0.2, inplace=True)
        if self.conv_hr is not None:
            x = F.leaky_relu(self.conv_hr(x), 0.2, inplace=True)
        if self.conv_last is not None:
            x = self.conv_last(x)
        return x


def _means(channels: int, mean: Union[float, Sequence[float], None]) -> torch.Tensor:
    """Return the means of all channels, (1, channels, 1, 1)."""
    if mean is None:
        mean = _DIV2K_MEAN if channels == 3 else 0.0
    means = [float(mean)] * channels if isinstance(mean, (int, float)) else [float(m) for m in mean]
    if len(means) != channels:
        raise MedsrError(f"SwinIR with {channels} channel(s) needs as many means, got {len(means)}")
    return torch.tensor(means).reshape(1, channels, 1, 1)


_LIGHT = {"features": 60, "depths": (6, 6, 6, 6), "upsampler": "pixelshuffledirect"}

PRESETS = {
    "swinir": Preset(
        SwinIR,
        {},
        11_895_805,
        multiply_adds={"thop": 15.7339, "all": 16.7087},
        published="11.8 M, three channels (Liang et al. 2021, section 4.2)",
        also=(({"in_channels": 3}, 11_900_199),),
    ),
    "swinir-light": Preset(
        SwinIR,
        _LIGHT,
        911_236,
        multiply_adds={"all": 1.3398},
        published="897 K, three channels (Liang et al. 2021, table 3)",
        also=(({"in_channels": 3}, 929_628),),
    ),
    "swinir-zhu2022": Preset(
        SwinIR,
        {"upsampler": "pixelshuffledirect", "shifted": False},
        11_521_996,
        leaf_parameters=11_473_396,
        multiply_adds={"conv": 14.5919, "thop": 14.6788, "all": 15.6536},
        published="11.47 M, 14.68 G (Zhu 2022, table 5.1)",
        remark="printed without the bias tables of the attention",
    ),
    "swinir-lite-zhu2022": Preset(
        SwinIR,
        {**_LIGHT, "shifted": False},
        911_236,
        leaf_parameters=878_836,
        multiply_adds={"conv": 1.1038, "thop": 1.1467, "all": 1.3398},
        published="0.88 M, 1.15 G (Zhu 2022, table 5.1)",
        remark="printed without the bias tables of the attention",
    ),
}
