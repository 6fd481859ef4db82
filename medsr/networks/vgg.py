"""VGG-19's convolutions, whose features perceptual losses compare (Simonyan and Zisserman 2015)."""

from collections.abc import Sequence

import torch
from torch import nn

from medsr.errors import MedsrError

_WIDTHS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)  # configuration E, between the max-pools
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours


class VGG19Features(nn.Module):
    """The 16 convolutions of VGG-19 and what lies between them; features by the layer's name.

    Names count blocks and layers within them: "conv5_4" is the last convolution before its activation, "relu5_4"
    after it, "pool5" the max-pool that ends the block. torchvision's public file fits, its classifier is left out;
    see `medsr.weights.vgg19_features`, which reads it.

    Args:
        normalise: by the mean and standard deviation of ImageNet's colours, for images in [0, 1].
        colour: three channels are the colours of one image; otherwise every channel is a grey image of its own, shown
            in all three colours, and the features of a channel are those of one more item of the batch. (A mean over
            them is a mean over channels; the dissertation's program sums.)
    """

    mean: torch.Tensor
    std: torch.Tensor
    PUBLISHED_KEYS = ((r"^classifier\.", None), (r"^features\.", "layers."))

    def __init__(self, normalise: bool = True, colour: bool = False) -> None:
        super().__init__()
        self.normalise, self.colour = normalise, colour
        layers: list[nn.Module] = []
        self.taps: dict[str, int] = {}
        channels = 3
        for block, widths in enumerate(_WIDTHS, start=1):
            for layer, width in enumerate(widths, start=1):
                self.taps[f"conv{block}_{layer}"] = len(layers)
                self.taps[f"relu{block}_{layer}"] = len(layers) + 1
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]  # not in place: conv is tapped too
                channels = width
            self.taps[f"pool{block}"] = len(layers)
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def features(self, image: torch.Tensor, taps: Sequence[str]) -> dict[str, torch.Tensor]:
        """Features by name; nothing beyond the last of them is computed.

        Args:
            image: (B, C, H, W), sides of at least 2 to the number of max-pools before the layer.
            taps: such as "conv5_4".

        Returns:
            (B, width, H / 2^k, W / 2^k) each, B times C of them for grey channels.

        Raises:
            MedsrError: no such layer, or none; `colour` without three channels; an image too small.
        """
        unknown = [tap for tap in taps if tap not in self.taps]
        if unknown or not taps:
            raise MedsrError(f"layers of VGG-19 are conv1_1, relu1_1, ..., conv5_4, relu5_4, pool5; got {list(taps)}")
        last = max(self.taps[tap] for tap in taps)
        used = list(self.layers)[: last + 1]
        least = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in used)
        if min(image.shape[2:]) < least:
            raise MedsrError(f"VGG-19 needs images of {least} pixels for {list(taps)}, got {tuple(image.shape[2:])}")
        names = {index: tap for tap, index in self.taps.items() if tap in taps}
        x = self._coloured(torch.as_tensor(image))
        found = {}
        for index, layer in enumerate(used):
            x = layer(x)
            if index in names:
                found[names[index]] = x
        return found

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The last layer's features, (B, 512, H / 32, W / 32)."""
        return self.features(image, ["pool5"])["pool5"]

    def _coloured(self, image: torch.Tensor) -> torch.Tensor:
        if self.colour:
            if image.shape[1] != 3:
                raise MedsrError(f"an image in colour has three channels, got {image.shape[1]}")
        else:
            image = image.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
        return (image - self.mean) / self.std if self.normalise else image
