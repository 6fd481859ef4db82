"""A U-Net with a ResNet-34 encoder and a sub-pixel decoder: fastai's "dynamic U-Net", as in van der Meer's report."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks.blocks.resnet import ResNetEncoder
from medsr.networks.blocks.unet_decoder import NORMS, SubpixelShuffle, UnetBlock, barely_shifted_norm, conv_layer, crop
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec

_PUBLISHED = (  # the positions in fastai's list of layers, those of the encoder first, and our names
    (r"layers\.0\.0(?=\.weight$)", "encoder.conv1"),
    (r"layers\.0\.1(?=\.\w+$)", "encoder.bn1"),
    (r"layers\.0\.4(?=\.\d+\.(?:conv|bn|down))", "encoder.layer1"),
    (r"layers\.0\.5(?=\.\d+\.(?:conv|bn|down))", "encoder.layer2"),
    (r"layers\.0\.6(?=\.\d+\.(?:conv|bn|down))", "encoder.layer3"),
    (r"layers\.0\.7(?=\.\d+\.(?:conv|bn|down))", "encoder.layer4"),
    (r"layers\.0", "encoder"),  # an encoder that is not a ResNet
    (r"layers\.1", "norm"),
    (r"layers\.3", "middle"),
    (r"layers\.4(?=\.(?:shuf|bn|conv\d)\.)", "blocks.0"),
    (r"layers\.5(?=\.(?:shuf|bn|conv\d)\.)", "blocks.1"),
    (r"layers\.6(?=\.(?:shuf|bn|conv\d)\.)", "blocks.2"),
    (r"layers\.7(?=\.(?:shuf|bn|conv\d)\.)", "blocks.3"),
    (r"layers\.\d+(?=\.conv\.)", "shuf"),
    (r"layers\.\d+\.layers", "residual"),
    (r"layers\.\d+(?=\.\d\.\w+$)", "last"),
)


class ResNetUNet(nn.Module):
    """A ResNet-34 encoder and a sub-pixel decoder; the image itself is concatenated before the last two convolutions.

    van der Meer, section III-B, with the details of the program that the report names (fastai 1.0.61, `unet_learner`
    as in its course's super-resolution lesson). The output is not bounded.

    The weights start as He-normal, sub-pixel convolutions with ICNR. The report says so too, but in its program weight
    normalisation undoes ICNR at the first forward pass; here the four sub-kernels are equal until training changes
    them.

    The program standardises images outside the network, by ImageNet's statistics; `mean` and `std` do it inside.

    Args:
        in_channels: The number of channels of the image; 3 in the report.
        out_channels: The number of channels to restore, at most `in_channels`; all by default.
        features: The number of channels of the encoder's stem.
        blocks: The number of basic blocks in each stage of the encoder, see `ResNetEncoder`.
        blur: Whether a 2x2 average follows each sub-pixel convolution but the last.
        norm: The normalisation of the decoder's convolutions: "weight", "batch" (convolution, ReLU, batch
            normalisation) or "none".
        self_attention: Whether the third block from the end has self-attention (Zhang et al. 2019); its memory grows
            with the square of the number of pixels there, 1/64 of all.
        last_cross: Whether the image is concatenated before the last convolutions.
        bottle: Whether there are only half the channels between the last two convolutions.
        mean: The mean of the training images, one number or one per channel; subtracted, and added to the output.
        std: The standard deviation of the training images, one number or one per channel.
        encoder: Another encoder with the attributes `channels` and `in_channels` and the output of `ResNetEncoder`:
            features that halve the size each time, rounded up. `features`, `blocks` and `in_channels` are then ignored.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    PUBLISHED_KEYS = tuple(  # fastai's kernels before normalisation are called weight_v and weight_orig
        (rf"^{there}\.(.*?)(?:(?<=0\.weight)_v|(?<=\.weight)_orig)?$", rf"{here}.\1") for there, here in _PUBLISHED
    )
    SMALL = {"features": 4, "blocks": (1, 1, 1, 1)}

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        features: int = 64,
        blocks: Sequence[int] = (3, 4, 6, 3),
        blur: bool = True,
        norm: str = "weight",
        self_attention: bool = False,
        last_cross: bool = True,
        bottle: bool = False,
        mean: Union[float, Sequence[float]] = 0.0,
        std: Union[float, Sequence[float]] = 1.0,
        encoder: Any = None,
    ) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(in_channels, features, blocks) if encoder is None else encoder
        in_channels, channels = self.encoder.in_channels, list(self.encoder.channels)
        self.out_channels = in_channels if out_channels is None else out_channels
        if not 1 <= self.out_channels <= in_channels or norm not in NORMS:
            raise MedsrError(
                f"ResNetUNet restores 1 to in_channels channels, with a norm of {', '.join(NORMS)}; got "
                f"{self.out_channels} of {in_channels} channel(s) and the norm {norm!r}"
            )
        self._register_statistics(in_channels, mean, std)
        width = self._build_decoder(channels, norm, blur, self_attention)
        self.blur, self.last_cross = blur, last_cross
        self.residual = nn.Sequential()
        if last_cross:
            width += in_channels
            inner = width // 2 if bottle else width
            first, second = conv_layer(width, inner, 3, norm), conv_layer(inner, width, 3, norm)
            if norm == "batch":
                nn.init.zeros_(second[-1].weight)  # type: ignore[arg-type]
            self.residual = nn.Sequential(nn.Sequential(*first), nn.Sequential(*second))
        self.last = nn.Sequential(*conv_layer(width, self.out_channels, 1, norm, relu=False))
        # The residual holds its input, the outputs of both convolutions, and oneDNN's copy in blocks of 16 channels.
        at_once = 3 * width + -(-width // 16) * 16 + sum(n // 4 ** (i + 1) for i, n in enumerate(channels))
        self.spec = NetworkSpec(
            family=Family.RESTORE,
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=self.out_channels,
            size_multiple=2 ** len(channels),
            halo=None if self_attention or not hasattr(self.encoder, "reach") else self._halo(),
            interpolation="cubic",
            bytes_per_voxel=4 * at_once,
            paper="van der Meer, section III-B (fastai 1.0.61); He et al. 2016; Aitken et al. 2017",
            deviations="ICNR initialisation lasts; in the report's program weight normalisation undoes it",
        )

    def _build_decoder(self, channels: list[int], norm: str, blur: bool, self_attention: bool) -> int:
        """Build the decoder up to the size of the image and return the number of its output channels."""
        width, skips = channels[-1], channels[-2::-1]
        self.norm = barely_shifted_norm(width)
        self.middle = nn.Sequential(
            nn.Sequential(*conv_layer(width, 2 * width, 3, norm)), nn.Sequential(*conv_layer(2 * width, width, 3, norm))
        )
        self.blocks = nn.ModuleList()
        for i, skip in enumerate(skips):
            joined = width // 2 + skip
            final = i == len(skips) - 1
            attention = self_attention and i == len(skips) - 3
            self.blocks.append(UnetBlock(width, skip, joined // 2 if final else joined, norm, blur, attention))
            width = joined // 2 if final else joined
        self.shuf = SubpixelShuffle(width, width, norm, blur=False)
        return width

    def _register_statistics(
        self, channels: int, mean: Union[float, Sequence[float]], std: Union[float, Sequence[float]]
    ) -> None:
        """Register mean and std as (channels, 1, 1) buffers that move with the network but are not saved."""
        self.standardise = not (mean == 0 and std == 1)
        for name, value in (("mean", mean), ("std", std)):
            values = [float(v) for v in ([value] * channels if isinstance(value, int | float) else value)]
            if len(values) != channels or (name == "std" and min(values) <= 0):
                raise MedsrError(f"ResNetUNet needs {channels} {name}(s), each std above zero; got {values}")
            self.register_buffer(name, torch.tensor(values).reshape(-1, 1, 1), persistent=False)

    def _halo(self) -> int:
        """Return the number of pixels around an aligned tile on which its output depends."""
        step = 2 ** len(self.encoder.channels)
        margin = 2 if self.last_cross else 0
        low, high = -margin, step - 1 + margin
        pixels, wanted = (low, high), []
        low, high = low // 2, high // 2
        for _ in self.blocks:
            low, high = low - 2, high + 2
            wanted.append((low, high))
            low, high = (low - int(self.blur)) // 2, high // 2
        wanted.append((low - 2, high + 2))
        seen = self.encoder.reach(wanted)
        return int(max(-min(pixels[0], seen[0]), max(pixels[1], seen[1]) - (step - 1)))

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters of early encoder, late encoder and decoder, for rising learning rates (III-C3)."""
        encoder = {id(p) for p in self.encoder.parameters()}
        return [*self.encoder.parameter_groups(), [p for p in self.parameters() if id(p) not in encoder]]

    def forward(self, image: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Restore an interpolated image.

        Args:
            image: The image, (B, in_channels, H, W) on the HR grid, of any size. For training, see `ResNetEncoder`.
            scale: Ignored; one network serves all scales.

        Returns:
            The restored image, (B, out_channels, H, W).
        """
        if self.standardise:
            image = (image - self.mean) / self.std
        features = self.encoder(image)
        x = self.middle(F.relu(self.norm(features[-1])))
        for i, block in enumerate(self.blocks):
            x = block(x, features[len(features) - 2 - i])
        x = crop(self.shuf(x), image)
        if self.last_cross:
            x = torch.cat([x, image], dim=1)
            x = x + self.residual(x)
        x = self.last(x)
        if self.standardise:
            x = x * self.std[: self.out_channels] + self.mean[: self.out_channels]
        return x


PRESETS = {
    "resnet34-unet": Preset(
        ResNetUNet,
        parameters=41_215_673,
        published="41,229,213 parameters, 31.415 G at 256x256 with 3 channels (fastai 1.0.61)",
        also=(
            ({"in_channels": 3}, 41_229_213),
            ({"in_channels": 3, "norm": "batch"}, 41_229_213),
            ({"in_channels": 3, "self_attention": True}, 41_413_534),
            ({"in_channels": 3, "last_cross": False}, 41_052_390),
            ({"in_channels": 3, "bottle": True}, 41_140_013),
        ),
    ),
}
