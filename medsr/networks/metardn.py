"""MetaRDN: RDN with the meta-upscale module (Hu et al. 2019)."""

from typing import Any, Optional

import torch

from medsr.networks.blocks.arbitrary_scale import ArbitraryScaleNetwork, MetaOptions
from medsr.networks.blocks.dense import RDNFeatures, rdn_bytes
from medsr.networks.blocks.residual import check_sizes
from medsr.networks.preset import Preset


class MetaRDN(ArbitraryScaleNetwork):
    """The features of RDN and the meta-upscale module.

    Hu et al. 2019, section 3, in the configuration that the authors of RDN call B. The dissertation compares MIASSR
    with a smaller one that has LeakyReLU (Zhu 2022, table 4.1). State dicts of both programs fit; their weights need
    `positions="hu2019"`.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        features: The number of channels between the blocks (G0).
        blocks: The number of residual dense blocks (D).
        layers: The number of convolutions in each block (C).
        growth: The number of channels that each convolution adds (G).
        act: The activation within the blocks, see `medsr.networks.blocks.residual.activation`.
        spatial_dims: The number of spatial axes, 2 or 3.
        options: The arguments of `MetaOptions`: scale, mean, std, anisotropic, positions, largest_scale.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 8, "blocks": 2, "layers": 2, "growth": 4}  # a small one, for trials and tests
    PUBLISHED_KEYS = (
        (r"^feature_extractor\.(tail|UPNet)\.", None),  # the dissertation's program builds it and never uses it
        (r"^feature_extractor\.head\.0\.", "extractor.SFENet1."),
        (r"^feature_extractor\.F0\.", "extractor.SFENet2."),
        (r"^feature_extractor\.body\.(\d+)\.body\.(\d+)\.body\.0\.", r"extractor.RDBs.\1.convs.\2.conv.0."),
        (r"^feature_extractor\.body\.(\d+)\.bottle_neck\.", r"extractor.RDBs.\1.LFF."),
        (r"^feature_extractor\.bottleneck\.", "extractor.GFF."),
        (r"^(SFENet1|SFENet2|RDBs|GFF)\.", r"extractor.\1."),
        (r"^(meta_upsampler\.)?P2W\.meta_block\.", "meta_upsampler.P2W."),
    )

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        features: int = 64,
        blocks: int = 16,
        layers: int = 8,
        growth: int = 64,
        act: str = "relu",
        spatial_dims: int = 2,
        **options: Any,
    ) -> None:
        super().__init__()
        out = in_channels if out_channels is None else out_channels
        sizes = {"features": features, "blocks": blocks, "layers": layers, "growth": growth}
        check_sizes("MetaRDN", spatial_dims, in_channels, out, **sizes)
        self.extractor = RDNFeatures(spatial_dims, in_channels, features, blocks, layers, growth, act)
        self.finish(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out,
            features=features,
            radius=2 + blocks * layers + 1,
            maps=rdn_bytes(blocks, features) // 4 + 4 * features,
            paper="Hu et al. 2019, section 3, after Zhang et al. 2018",
            options=MetaOptions(**options),
        )

    def extract(self, lr: torch.Tensor) -> torch.Tensor:
        """Return the features (B, features, *spatial) of an intensity-shifted image (B, in_channels, *spatial)."""
        return self.extractor.features(lr)


PRESETS = {
    "metardn": Preset(
        MetaRDN,
        {},
        22_121_856,
        remark="counted by hand for one channel; with three, the authors' program counts 22,419,096, of which 24 are "
        "its constant intensity shifts",
        also=(({"in_channels": 3}, 22_419_072),),
    ),
    "metardn-zhu2022": Preset(
        MetaRDN,
        {"blocks": 20, "layers": 6, "growth": 32, "act": "leaky_relu"},
        5_763_265,
        left_out=148_289,
        published="5.8 M (Zhu 2022, table 4.1)",
        remark="the table counts an upsampling layer of 148,289 parameters that the program builds and never uses",
    ),
}
