"""The ResNet encoder of the U-Nets (He et al. 2016): basic blocks, without the final pooling and the classifier."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from medsr.errors import MedsrError


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut (He et al. 2016, figures 2 and 5 left).

    Args:
        in_channels: The number of channels of the input.
        features: The number of channels of the output.
        stride: The stride of the first convolution and of the 1x1 convolution that it requires on the shortcut.
    """

    def __init__(self, in_channels: int, features: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, features, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != features:
            shortcut = nn.Conv2d(in_channels, features, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, H, W) to (B, features, ceil(H / stride), ceil(W / stride))."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.downsample(x)
        return self.relu(y)


class ResNetEncoder(nn.Module):
    """An encoder that returns features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size of the image, rounded up.

    It has a stem (7x7 convolution of stride 2, batch normalisation, ReLU), max-pooling and four stages of basic blocks.
    The defaults are ResNet-34 (He et al. 2016, table 1). The weights start as in section 3.4 there, normal with
    variance 2 / fan_out. The keys of the state dict are those of torchvision, whose ImageNet weights fit
    (`medsr.networks.load_checkpoint`; see `for_channels` for images that do not have three channels).

    Args:
        in_channels: The number of channels of the image.
        features: The number of channels of the stem and of the first stage; it doubles from the second stage on.
        blocks: The number of basic blocks of each of the four stages.

    Attributes:
        channels: The numbers of channels of the five features, finest first.

    Raises:
        MedsrError: If there are not four stages of at least one block, or no channels.
    """

    PUBLISHED_KEYS = ((r"^fc\.", None),)  # the classifier

    def __init__(self, in_channels: int = 1, features: int = 64, blocks: Sequence[int] = (3, 4, 6, 3)) -> None:
        super().__init__()
        if len(blocks) != 4 or min(*blocks, in_channels, features) < 1:
            raise MedsrError(
                "a ResNet encoder has four stages of at least one block, channels and features; got blocks "
                f"{list(blocks)}, {in_channels} channel(s), {features} features"
            )
        self.in_channels = in_channels
        self.channels = [features, features, 2 * features, 4 * features, 8 * features]
        self.blocks = list(blocks)
        self.conv1 = nn.Conv2d(in_channels, features, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._stage(0)
        self.layer2 = self._stage(1)
        self.layer3 = self._stage(2)
        self.layer4 = self._stage(3)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _stage(self, index: int) -> nn.Sequential:
        before, features = self.channels[index], self.channels[index + 1]
        first = BasicBlock(before, features, stride=1 if index == 0 else 2)
        return nn.Sequential(first, *(BasicBlock(features, features, 1) for _ in range(self.blocks[index] - 1)))

    def forward(self, image: torch.Tensor, levels: int = 5) -> list[torch.Tensor]:
        """Return the first `levels` features, finest first; later stages are not run.

        Args:
            image: The image, (B, in_channels, H, W), of any size. In training a batch must have two values per channel
                at its coarsest level: two images, or more than 32 pixels along an axis.
            levels: The number of features, 1 to 5.

        Returns:
            The features (B, channels[i], ceil(H / 2^(i + 1)), ceil(W / 2^(i + 1))) for i = 0 ... levels - 1.
        """
        features = [self.relu(self.bn1(self.conv1(image)))]
        if levels > 1:
            features.append(self.layer1(self.maxpool(features[0])))
        if levels > 2:
            features.append(self.layer2(features[1]))
        if levels > 3:
            features.append(self.layer3(features[2]))
        if levels > 4:
            features.append(self.layer4(features[3]))
        return features

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the early stages (stem to `layer2`) and of the others, for two learning rates."""
        early = (self.conv1, self.bn1, self.layer1, self.layer2)
        late = (self.layer3, self.layer4)
        return [[p for module in group for p in module.parameters()] for group in (early, late)]

    def reach(self, wanted: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Return the first and last pixel along an axis of the image on which parts of the features depend.

        Args:
            wanted: The first and last index of the part, on the grid of each of the five features.
        """
        low, high = wanted[-1]
        for index in (3, 2, 1, 0):
            stride = 1 if index == 0 else 2
            around = 2 * (self.blocks[index] - 1) + 1  # the radius of all 3x3 convolutions but the first
            low, high = stride * (low - around) - 1, stride * (high + around) + 1
            if index == 0:
                low, high = 2 * low - 1, 2 * high + 1  # max-pooling
            low, high = min(low, wanted[index][0]), max(high, wanted[index][1])
        return 2 * low - 3, 2 * high + 3


def for_channels(weights: Mapping[str, torch.Tensor], channels: int) -> dict[str, torch.Tensor]:
    """Return the weights of an encoder for three channels, adapted to images with another number of channels.

    As in segmentation_models_pytorch, one channel takes the sum of the three kernels; other numbers repeat the kernels
    in turn, times 3 / channels, so that the features keep their magnitude.

    Args:
        weights: The weights of a `ResNetEncoder`; only "conv1.weight" (features, 3, 7, 7) changes.
        channels: The number of channels of the images.

    Raises:
        MedsrError: If the weights have no first convolution for three channels.
    """
    first = weights.get("conv1.weight")
    if first is None or first.ndim != 4 or first.shape[1] != 3:
        came = "nothing" if first is None else f"the shape {tuple(first.shape)}"
        raise MedsrError(
            f"expected weights with a conv1.weight for three channels, got {came}; give those of a torchvision ResNet"
        )
    repeated = first[:, [i % 3 for i in range(channels)]] * (3 / channels)
    return {**weights, "conv1.weight": first.sum(1, keepdim=True) if channels == 1 else repeated}
