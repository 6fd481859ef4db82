"""Inception-v3 as trained in 2015, whose features the Fréchet inception distance (FID) compares.

Szegedy et al. 2016 describe the network, Heusel et al. 2017 its use. pytorch-fid's public conversion of TensorFlow's
file of 2015-12-05 fits without renaming. That network differs from torchvision's in three pooling layers: averages
exclude the padding from the count, and the last block pools maxima.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError

_SIDE = 299  # the side in pixels to which images are resized
# A branch is a chain of convolutions (name, channels, kernel, stride); those of stride 1 keep the size. A tuple in the
# last place of a chain is a fork: all its convolutions read the output of the previous one.
_Block = dict[str, Any]


def _a(pool: int) -> _Block:
    """Return a block on the 35 x 35 grid."""
    return {
        "chains": [
            [("branch1x1", 64, 1)],
            [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)],
            [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)],
        ],
        "pool": ("average", pool),
    }


def _c(width: int) -> _Block:
    """Return a block on the 17 x 17 grid, whose 7 x 7 filters are split into 1 x 7 and 7 x 1."""
    return {
        "chains": [
            [("branch1x1", 192, 1)],
            [("branch7x7_1", width, 1), ("branch7x7_2", width, (1, 7)), ("branch7x7_3", 192, (7, 1))],
            [
                ("branch7x7dbl_1", width, 1),
                ("branch7x7dbl_2", width, (7, 1)),
                ("branch7x7dbl_3", width, (1, 7)),
                ("branch7x7dbl_4", width, (7, 1)),
                ("branch7x7dbl_5", 192, (1, 7)),
            ],
        ],
        "pool": ("average", 192),
    }


def _e(pool: str) -> _Block:
    """Return a block on the 8 x 8 grid, whose branches fork."""
    return {
        "chains": [
            [("branch1x1", 320, 1)],
            [("branch3x3_1", 384, 1), (("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1)))],
            [
                ("branch3x3dbl_1", 448, 1),
                ("branch3x3dbl_2", 384, 3),
                (("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))),
            ],
        ],
        "pool": (pool, 192),
    }


_BLOCKS: dict[str, _Block] = {
    "Mixed_5b": _a(32),
    "Mixed_5c": _a(64),
    "Mixed_5d": _a(64),
    "Mixed_6a": {
        "chains": [
            [("branch3x3", 384, 3, 2)],
            [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)],
        ],
        "pool": ("halve", 0),
    },
    "Mixed_6b": _c(128),
    "Mixed_6c": _c(160),
    "Mixed_6d": _c(160),
    "Mixed_6e": _c(192),
    "Mixed_7a": {
        "chains": [
            [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)],
            [
                ("branch7x7x3_1", 192, 1),
                ("branch7x7x3_2", 192, (1, 7)),
                ("branch7x7x3_3", 192, (7, 1)),
                ("branch7x7x3_4", 192, 3, 2),
            ],
        ],
        "pool": ("halve", 0),
    },
    "Mixed_7b": _e("average"),
    "Mixed_7c": _e("maximum"),
}


class _Convolution(nn.Module):
    """A convolution without bias, a batch norm and a ReLU."""

    def __init__(self, channels: int, out: int, kernel: Any, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = [k // 2 if padded and stride == 1 else 0 for k in sides]
        self.conv = nn.Conv2d(channels, out, sides, stride, padding, bias=False)  # type: ignore[arg-type]
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class _Mixed(nn.Module):
    """A block of parallel branches, whose outputs are concatenated."""

    def __init__(self, channels: int, block: _Block) -> None:
        super().__init__()
        self.chains, (self.pool, pooled) = block["chains"], block["pool"]
        self.channels = 0
        for chain in self.chains:
            width = channels
            for link in chain:
                fork = link if isinstance(link[0], tuple) else (link,)
                for name, *sizes in fork:
                    self.add_module(name, _Convolution(width, *sizes))
                width = sum(part[1] for part in fork)
            self.channels += width
        if pooled:
            self.branch_pool = _Convolution(channels, pooled, 1)
        self.channels += pooled or channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = []
        for chain in self.chains:
            y = x
            for link in chain:
                fork = link if isinstance(link[0], tuple) else (link,)
                y = torch.cat([getattr(self, part[0])(y) for part in fork], 1)
            found.append(y)
        if self.pool == "halve":
            found.append(F.max_pool2d(x, 3, 2))
        elif self.pool == "maximum":
            found.append(self.branch_pool(F.max_pool2d(x, 3, 1, 1)))
        else:
            found.append(self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)))
        return torch.cat(found, 1)


class InceptionFeatures(nn.Module):
    """Inception-v3 without its classifier; the FID uses the features of "Mixed_7c", averaged over all pixels.

    Images are grey or RGB, with intensities about [0, 1]. They are resized to 299 x 299 (bilinear, half-pixel centres)
    and mapped to [-1, 1]; a grey image is repeated in all three colours. See `medsr.weights.inception_features` for the
    weights.
    """

    PUBLISHED_KEYS = ((r"^(fc|AuxLogits)\.", None),)
    FRECHET_NAME = {"Mixed_7c": "fid"}

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3, padded=False)
        channels = 192
        for name, block in _BLOCKS.items():
            mixed = _Mixed(channels, block)
            self.add_module(name, mixed)
            channels = mixed.channels

    def features(self, image: torch.Tensor, taps: Sequence[str] = ("Mixed_7c",)) -> dict[str, torch.Tensor]:
        """Return the features of the named blocks.

        Args:
            image: The images, (B, 1 or 3, H, W), with intensities about [0, 1].
            taps: The names of the blocks, "Mixed_5b" (256 channels at 35 x 35) to "Mixed_7c" (2048 at 8 x 8).

        Raises:
            MedsrError: If there is no such block, or the image does not have 1 or 3 channels.
        """
        if not taps or not set(taps) <= set(_BLOCKS) or image.shape[1] not in (1, 3):
            raise MedsrError(
                f"expected blocks out of {', '.join(_BLOCKS)} and an image of 1 or 3 channels, got {list(taps)} and "
                f"{image.shape[1]} channel(s)"
            )
        x = F.interpolate(image.expand(-1, 3, -1, -1), size=(_SIDE, _SIDE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(2 * x - 1)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        found = {}
        for name in _BLOCKS:
            x = getattr(self, name)(x)
            if name in taps:
                found[name] = x
            if len(found) == len(set(taps)):
                break
        return found

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images (B, 1 or 3, H, W) to the features of the FID, (B, 2048)."""
        return self.features(image)["Mixed_7c"].mean((2, 3))
