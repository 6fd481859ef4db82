"""The convolutions of VGG-19, whose features perceptual losses compare (Simonyan and Zisserman 2015)."""

from collections.abc import Sequence

import torch
from torch import nn

from medsr.errors import MedsrError

_WIDTHS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)  # configuration E, between the max-pools
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the colours of ImageNet


class VGG19Features(nn.Module):
    """VGG-19 without its classifier; it returns the features of named layers.

    The names count the blocks and the layers within them: "conv5_4" is the last convolution before its activation,
    "relu5_4" the same after it, and "pool5" the max-pool that ends the block. torchvision's public file fits, except
    for its classifier, which is dropped; `medsr.weights.vgg19_features` reads it.

    Args:
        normalise: Whether images in [0, 1] are normalised by the mean and standard deviation of ImageNet's colours.
        colour: Whether three channels are the colours of one image. Otherwise every channel is a separate grey image,
            repeated in all three colours, and counts as a further item of the batch. (A mean over the features is then
            a mean over channels; the dissertation's program sums.)
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
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]  # not in place: conv is a tap too
                channels = width
            self.taps[f"pool{block}"] = len(layers)
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def features(self, image: torch.Tensor, taps: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the features of the named layers; no layer beyond the last of them is computed.

        Args:
            image: The images, (B, C, H, W), with sides of at least 2 to the power of the max-pools before the layer.
            taps: The names of the layers, such as "conv5_4".

        Returns:
            The features by name, each (B, width, H / 2^k, W / 2^k), with B times C items for grey channels.

        Raises:
            MedsrError: If a layer does not exist or none is named, `colour` comes without three channels, or the image
                is too small.
        """
        unknown = [tap for tap in taps if tap not in self.taps]
        if unknown or not taps:
            raise MedsrError(f"VGG-19 has the layers conv1_1, relu1_1, ..., conv5_4, relu5_4, pool5; got {list(taps)}")
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
        """Return the features of the last layer, (B, 512, H / 32, W / 32)."""
        return self.features(image, ["pool5"])["pool5"]

    def _coloured(self, image: torch.Tensor) -> torch.Tensor:
        if self.colour:
            if image.shape[1] != 3:
                raise MedsrError(f"an image in colour must have three channels, got {image.shape[1]}")
        else:
            image = image.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
        return (image - self.mean) / self.std if self.normalise else image
