"""MIASSR: medical image arbitrary-scale super-resolution (Zhu 2022, chapter 4)."""

from typing import Any, Optional

import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks.blocks.arbitrary_scale import ArbitraryScaleNetwork, MetaOptions
from medsr.networks.blocks.dense import RRDB
from medsr.networks.blocks.residual import NormalisedBlock, ResidualBlock, check_sizes, convolution
from medsr.networks.preset import Preset

BLOCKS = {"residual": 2, "normalised": 2, "rrdb": 15}  # the number of successive convolutions in each block
_GROWTH = 32  # the growth of ESRGAN's blocks


class MIASSR(ArbitraryScaleNetwork):
    """EDSR's residual blocks under one skip connection and the meta-upscale module.

    Zhu 2022, section 4.2, equations 4.5 to 4.11. The defaults are the dissertation's EDSR-lite. With the sizes of EDSR
    the network is the Meta-EDSR of figure 4.8, whose other blocks can be chosen by name. State dicts of the author's
    program fit; its weights need `positions="hu2019"`.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        blocks: The number of residual blocks (b).
        features: The number of channels (w).
        res_scale: The factor of each block's residual.
        act: The activation within the blocks, see `medsr.networks.blocks.residual.activation`.
        block: The kind of the blocks: "residual" (EDSR), "normalised" (SRResNet, each with its own PReLU) or "rrdb"
            (ESRGAN).
        spatial_dims: The number of spatial axes, 2 or 3.
        options: The arguments of `MetaOptions`: scale, mean, std, anisotropic, positions, largest_scale.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 8, "blocks": 2}  # a small one, for trials and tests
    PUBLISHED_KEYS = (
        (r"^feature_extractor\.tail\.", None),  # the program builds a sub-pixel layer and never uses it
        (r"^feature_extractor\.", ""),
        (r"^meta_upsampler\.P2W\.meta_block\.", "meta_upsampler.P2W."),
    )

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        blocks: int = 16,
        features: int = 64,
        res_scale: float = 1.0,
        act: str = "leaky_relu",
        block: str = "residual",
        spatial_dims: int = 2,
        **options: Any,
    ) -> None:
        super().__init__()
        out = in_channels if out_channels is None else out_channels
        check_sizes("MIASSR", spatial_dims, in_channels, out, blocks=blocks, features=features)
        if block not in BLOCKS:
            raise MedsrError(f"MIASSR has the blocks {', '.join(BLOCKS)}; got {block!r}")

        def make() -> nn.Module:
            if block == "residual":
                return ResidualBlock(spatial_dims, features, act, res_scale)
            if block == "normalised":
                return NormalisedBlock(spatial_dims, features, nn.PReLU())
            return RRDB(spatial_dims, features, _GROWTH, 3)

        self.head = nn.Sequential(convolution(spatial_dims, in_channels, features))
        self.body = nn.Sequential(*[make() for _ in range(blocks)], convolution(spatial_dims, features, features))
        self.finish(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out,
            features=features,
            radius=1 + BLOCKS[block] * blocks + 1,
            maps=8 * features + (8 * _GROWTH if block == "rrdb" else 0),
            paper="Zhu 2022, section 4.2",
            options=MetaOptions(**options),
        )

    def extract(self, lr: torch.Tensor) -> torch.Tensor:
        """Return the features (B, features, *spatial) of an intensity-shifted image (B, in_channels, *spatial)."""
        x = self.head(lr)
        return self.body(x) + x


def unused_tail(features: int) -> int:
    """Return the parameters of the x2 sub-pixel layer that the dissertation's program builds and never uses."""
    return 4 * features * (9 * features + 1) + 9 * features + 1


def _swept(parameters: int, printed: str, **sizes: int) -> Preset:
    """Return the preset of a column of the dissertation's tables 4.3 (width) and 4.4 (depth)."""
    tail = unused_tail(sizes.get("features", 64))
    remark = f"the table counts an upsampling layer of {tail:,} parameters that the program builds and never uses"
    return Preset(MIASSR, sizes, parameters, left_out=tail, published=printed, remark=remark)


_EDSR = {"blocks": 32, "features": 256, "res_scale": 0.1, "act": "relu"}

PRESETS = {
    "miassr": Preset(
        MIASSR,
        {},
        1_516_609,
        left_out=unused_tail(64),
        multiply_adds={"all": 1.5614},
        published="1.5 M (Zhu 2022, tables 4.1, 4.3 and 4.4)",
        remark="the tables count an upsampling layer of 148,289 parameters that the program builds and never uses",
    ),
    "meta-edsr": Preset(
        MIASSR, _EDSR, 38_950_912, remark="no count is published; counted by hand as EDSR without its upsampler"
    ),
    "miassr-w4": _swept(15_829, "0.016 M (Zhu 2022, table 4.3)", features=4),
    "miassr-w8": _swept(41_289, "0.041 M (Zhu 2022, table 4.3)", features=8),
    "miassr-w16": _swept(124_177, "0.12 M (Zhu 2022, table 4.3)", features=16),
    "miassr-w32": _swept(417_825, "0.42 M (Zhu 2022, table 4.3)", features=32),
    "miassr-w128": _swept(5_760_129, "5.8 M (Zhu 2022, table 4.3)", features=128),
    "miassr-w256": _swept(22_430_977, "not printed: training crashed (Zhu 2022, section 4.4.2)", features=256),
    "miassr-b2": _swept(482_625, "0.48 M (Zhu 2022, table 4.4)", blocks=2),
    "miassr-b4": _swept(630_337, "0.63 M (Zhu 2022, table 4.4)", blocks=4),
    "miassr-b8": _swept(925_761, "0.93 M (Zhu 2022, table 4.4)", blocks=8),
    "miassr-b32": _swept(2_698_305, "2.7 M (Zhu 2022, table 4.4)", blocks=32),
    "miassr-b64": _swept(5_061_697, "5.1 M (Zhu 2022, table 4.4)", blocks=64),
}
