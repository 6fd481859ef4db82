"""HAN: RCAN with attention over its layers, channels and positions (Niu et al. 2020)."""

from collections.abc import Callable, Sequence
from typing import Any, Optional

import torch
from torch import nn

from medsr.networks.blocks.channel_attention import ResidualGroup, check_reduction
from medsr.networks.blocks.residual import check_sizes, convolution, mean_shifts
from medsr.networks.blocks.upsamplers import SubpixelUpsampler, subpixel_tail_bytes
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


def gram(rows: torch.Tensor) -> torch.Tensor:
    """Return the inner products of all pairs of rows, (B, N, K) to (B, N, N), in float32 also under autocast.

    The products are sums over all voxels, and a softmax takes differences of them: half precision has too few digits.
    """
    if torch.jit.is_scripting():
        return torch.bmm(rows, rows.transpose(1, 2))
    else:
        device = rows.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return torch.bmm(rows.float(), rows.float().transpose(1, 2))
        return torch.bmm(rows, rows.transpose(1, 2))


class LayerAttention(nn.Module):
    """The layer attention (LAM, section 3.2): it adds to each layer the maps of all layers, weighted by dissimilarity.

    The published program passes the largest product of a row minus the products to the softmax, so that layers with a
    small inner product count most. The softmax of the negative products is the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, layers: torch.Tensor) -> torch.Tensor:
        """Map (B, layers, K) to the same shape."""
        attention = torch.softmax(-gram(layers), dim=-1)
        identity = torch.eye(layers.shape[1], dtype=attention.dtype, device=layers.device)
        return torch.bmm((identity + self.gamma * attention).to(layers.dtype), layers)  # the sum in the same product

    def softmax_shape(self, given: torch.Tensor) -> tuple[int, int]:
        """Return the number of rows and the length of the softmax, for `medsr.networks.complexity`."""
        return given.shape[0] * given.shape[1], given.shape[1]


class ChannelSpatialAttention(nn.Module):
    """The channel-spatial attention (CSAM, section 3.3): a 3D convolution weights every position of every channel."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.conv = nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, features, H, W) to the same shape."""
        attention = torch.sigmoid(self.conv(x.unsqueeze(1))).squeeze(1)
        return torch.addcmul(x, x, self.gamma * attention)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        # A 2D network may keep its weights channels last, which torch refuses for this weight with 5 axes.
        return super()._apply(lambda tensor: fn(tensor.flatten()).reshape(tensor.shape), recurse)


class HAN(nn.Module):
    """The holistic attention network (Niu et al. 2020, section 3).

    The body is that of RCAN. The outputs of its groups and of its last convolution pass the layer attention, and the
    last output passes the channel-spatial attention. A convolution fuses both, and the result is added to the first
    features; a sub-pixel upsampler and an output convolution follow. Both attentions start with weight zero, everything
    else with torch's default initialisation. The attentions depend on the whole image, so that a tiled result differs
    slightly from the whole-image result.

    Args:
        in_channels: The number of channels of the image.
        out_channels: The number of channels to restore, the first ones of the image; all by default.
        scale: The scale, a power of two or 3.
        features: The number of channels of all layers (64 in the paper's pretrained RCAN).
        groups: The number of residual groups (10 in the paper).
        blocks: The number of attention blocks in each group (20 in the paper).
        reduction: The reduction of RCAN's channel attention (16 in the paper).
        mean: The mean that is subtracted from the image and added to the result, one number or one per channel.
        std: The standard deviation that the image is divided by, one number or one per channel. The authors'
            checkpoints contain the means of their RGB images, for intensities 0..255.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 8, "groups": 2, "blocks": 1, "reduction": 2}  # a small one, for trials and tests

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        scale: int = 4,
        features: int = 64,
        groups: int = 10,
        blocks: int = 20,
        reduction: int = 16,
        mean: Sequence[float] | float = 0.0,
        std: Sequence[float] | float = 1.0,
    ) -> None:
        super().__init__()
        out = in_channels if out_channels is None else out_channels
        check_sizes("HAN", 2, in_channels, out, features=features, groups=groups, blocks=blocks)
        check_reduction("HAN", features, reduction)
        self.sub_mean, self.add_mean = mean_shifts(2, in_channels, mean, std, out)
        self.head = nn.Sequential(convolution(2, in_channels, features))
        body: list[nn.Module] = [ResidualGroup(2, features, blocks, reduction) for _ in range(groups)]
        self.body = nn.Sequential(*body, convolution(2, features, features))
        self.la = LayerAttention()
        self.last_conv = convolution(2, (groups + 1) * features, features)
        self.csa = ChannelSpatialAttention()
        self.last = convolution(2, 2 * features, features)
        self.tail = nn.Sequential(SubpixelUpsampler(2, features, scale), convolution(2, features, out))
        # The outputs of all layers, their weighted maps, and oneDNN's reordered copy for the convolution.
        attention = 4 * features * (3 * (groups + 1) + 3)
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=out,
            scales=(scale, scale),
            bytes_per_voxel=max(attention, 4 * features + subpixel_tail_bytes(2, features, scale)),
            paper="Niu et al. 2020, section 3",
        )

    def _attended(self, x: torch.Tensor) -> torch.Tensor:
        """Map the first features to those that are enlarged, both (B, features, H, W)."""
        outputs = [x]
        for layer in self.body:
            outputs.append(layer(outputs[-1]))
        last = outputs[-1]
        outputs.reverse()  # published checkpoints expect the last output first
        layers = torch.stack(outputs[:-1], 1)
        outputs.clear()
        weighed = self.la(layers.flatten(2)).reshape(layers.shape).flatten(1, 2)
        return x + self.last(torch.cat([self.csa(last), self.last_conv(weighed)], 1))

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Super-resolve an image.

        Args:
            lr: The LR image, (B, in_channels, H, W), of any size.
            scale: Ignored.

        Returns:
            The SR image, (B, out_channels, H times the scale, W times the scale).
        """
        return self.add_mean(self.tail(self._attended(self.head(self.sub_mean(lr)))))


PRESETS = {
    "han": Preset(HAN, {}, parameters=16_069_439),
    "han-rgb": Preset(
        HAN,
        {"in_channels": 3},
        parameters=16_071_745,
        multiply_adds={"all": 21.0105},
    ),
    "han-zhu2022": Preset(
        HAN,
        {"features": 128},
        parameters=64_194_143,
        leaf_parameters=64_194_141,
        multiply_adds={"conv": 83.8321, "thop": 83.8649, "all": 83.8718},
        published="64.19 M, 83.86 G (Zhu 2022, table 5.1)",
        remark="the dissertation kept the 128 features that are the default of the authors' program",
    ),
}
