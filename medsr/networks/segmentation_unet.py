"""A segmentation U-Net, whose features also serve to compare SR and HR images (Zhu 2022, chapter 5)."""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks.blocks.resnet import ResNetEncoder
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec

TAPS = ("E1", "E2", "E3", "E4", "E5", "D")


def conv_norm_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a 3x3 convolution, batch norm and ReLU; the weights start He-uniform as in segmentation_models_pytorch."""
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, mode="fan_in", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class DecoderBlock(nn.Module):
    """Nearest-neighbour enlargement, concatenation with the encoder's features of that size, and two convolutions.

    Args:
        in_channels: The number of channels of the coarser input.
        skip_channels: The number of channels of the encoder's features; 0 if there are none.
        features: The number of channels of the output.
    """

    def __init__(self, in_channels: int, skip_channels: int, features: int) -> None:
        super().__init__()
        self.conv1 = conv_norm_relu(in_channels + skip_channels, features)
        self.conv2 = conv_norm_relu(features, features)

    def forward(self, x: torch.Tensor, skip: Optional[torch.Tensor]) -> torch.Tensor:
        """Map (B, in_channels, H, W) and (B, skip_channels, 2 H, 2 W) to (B, features, 2 H, 2 W)."""
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        return self.conv2(self.conv1(x))


class Decoder(nn.Module):
    """The decoder, which enlarges the encoder's features to the size of the image.

    Args:
        channels: The numbers of channels of the encoder's features, finest first.
        widths: The numbers of channels of the blocks, coarsest first, one for each of the features.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        inputs, skips = [channels[-1], *widths[:-1]], [*channels[-2::-1], 0]
        self.blocks = nn.ModuleList(map(DecoderBlock, inputs, skips, widths))

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Map the encoder's features to (B, widths[-1], H, W)."""
        x = features[-1]
        for i, block in enumerate(self.blocks):
            skip: Optional[torch.Tensor] = None
            if i < len(features) - 1:
                skip = features[len(features) - 2 - i]
            x = block(x, skip)
        return x


class SegmentationUNet(nn.Module):
    """A ResNet-34 encoder and a nearest-neighbour decoder, which gives one logit per class and pixel.

    Zhu 2022, sections 5.2.2 and 5.3.3. The dissertation trained `smp.Unet` with all its defaults. (Its text mentions
    channels that double after each encoder block, but the first two of ResNet-34 are equal.) The keys of the state dict
    are those of segmentation_models_pytorch, whose checkpoints load without renaming.

    Images whose sides are not multiples of 32 are extended by their last row and column, and the result is cropped
    (`smp.Unet` refuses such images).

    Args:
        in_channels: The number of modalities, 1, or 4 for BraTS.
        out_channels: The number of classes including the background; 4 in the dissertation.
        features: The number of channels of the encoder's stem.
        blocks: The number of basic blocks in each stage of the encoder, see `ResNetEncoder`.
        decoder: The numbers of channels of the decoder's five blocks, coarsest first.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    PUBLISHED_KEYS = ((r"^encoder\.fc\.", None),)  # the classifier in checkpoints of old versions
    SMALL = {"features": 4, "blocks": (1, 1, 1, 1), "decoder": (16, 8, 4, 4, 4)}

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 4,
        features: int = 64,
        blocks: Sequence[int] = (3, 4, 6, 3),
        decoder: Sequence[int] = (256, 128, 64, 32, 16),
    ) -> None:
        super().__init__()
        if out_channels < 1 or len(decoder) != 5 or min(decoder) < 1:
            raise MedsrError(
                "SegmentationUNet has one class or more and five decoder blocks of one channel or more; got "
                f"{out_channels} class(es) and {list(decoder)}"
            )
        self.encoder = ResNetEncoder(in_channels, features, blocks)
        self.decoder = Decoder(self.encoder.channels, decoder)
        head = nn.Conv2d(decoder[-1], out_channels, 3, padding=1)
        nn.init.xavier_uniform_(head.weight)
        nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        self.segmentation_head = nn.Sequential(head)
        widest = max(decoder[-1], decoder[-2])  # at full size: the enlarged input, the output and oneDNN's copy
        self.spec = NetworkSpec(
            family=Family.SEGMENTATION,
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=out_channels,
            size_multiple=32,
            halo=self._halo(),
            bytes_per_voxel=4 * (3 * widest + features // 4 + features // 16 + features // 16),
            paper="Zhu 2022, sections 5.2.2 and 5.3.3 (smp.Unet); He et al. 2016",
            deviations="images of any size, extended to multiples of 32",
        )

    def _halo(self) -> int:
        """Return the number of pixels around an aligned tile on which its logits depend."""
        low, high = -1, 32  # the pixels that the head reads
        wanted = []
        for _ in range(5):
            low, high = (low - 2) // 2, (high + 2) // 2
            wanted.append((low, high))
        seen = self.encoder.reach(wanted)
        return max(-seen[0], seen[1] - 31)

    def features(self, image: torch.Tensor, taps: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the named features, to compare images by (Zhu 2022, equations 5.10 and 5.11); no others are computed.

        Args:
            image: The image, (B, in_channels, H, W), of any size. For training, see `ResNetEncoder`.
            taps: The names: "E1" (the stem: convolution, batch normalisation, ReLU), "E2" to "E5" (the four stages of
                the encoder) and "D" (the decoder, before the head).

        Returns:
            The features by name: E1 to E5 with 64, 64, 128, 256 and 512 channels and sides ceil(H / 2^i), D with 16
            channels and the size of the image.

        Raises:
            MedsrError: If there is no such tap, or none is named.
        """
        if not taps or not set(taps) <= set(TAPS):
            raise MedsrError(f"expected one or more taps; taps are some of {', '.join(TAPS)}; got {list(taps)}")
        levels = 5 if "D" in taps else max(int(tap[1:]) for tap in taps)
        features = self.encoder(extended(image, 32), levels)
        found = {}
        for tap in taps:
            shrink = 1 if tap == "D" else 2 ** int(tap[1:])
            full = self.decoder(features) if tap == "D" else features[int(tap[1:]) - 1]
            found[tap] = full[..., : -(-image.shape[-2] // shrink), : -(-image.shape[-1] // shrink)]
        return found

    def forward(self, image: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Return the class logits of an image.

        Args:
            image: The image, (B, in_channels, H, W), of any size. For training, see `ResNetEncoder`.
            scale: Ignored.

        Returns:
            The logits before softmax, (B, out_channels, H, W).
        """
        logits = self.segmentation_head(self.decoder(self.encoder(extended(image, 32))))
        return logits[..., : image.shape[-2], : image.shape[-1]]


def extended(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """Return the image with its last row and column repeated until its sides are multiples of a number."""
    return F.pad(image, [0, -image.shape[-1] % multiple, 0, -image.shape[-2] % multiple], mode="replicate")


PRESETS = {
    "segmentation-unet": Preset(
        SegmentationUNet,
        parameters=24_430_532,
        published="24,430,532 parameters, 2.4186 G at 160x128 (smp.Unet, ResNet-34)",
        also=(({"in_channels": 4}, 24_439_940),),
    ),
}
