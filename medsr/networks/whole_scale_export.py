"""Arbitrary-scale networks at one integer scale as plain layers, which TorchScript and ONNX can represent."""

from fractions import Fraction
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks.blocks.arbitrary_scale import ArbitraryScaleNetwork
from medsr.networks.blocks.meta_upscale import KERNEL, MetaUpscale
from medsr.networks.blocks.output_query import one_voxel
from medsr.networks.registry import create


class WholeScale(nn.Module):
    """A 2D network of the arbitrary family at the fixed scale 2, 3 or 4, with the same weights under the same keys.

    At an integer scale all input pixels are treated alike, and the meta-upscale module is a convolution with predicted
    weights and a shuffle (Shi et al. 2016). It needs no arithmetic with fractions, which TorchScript and ONNX lack.

    Args:
        network: A network that computes its features with `head` and `body`: MIASSR or Meta-SRGAN's generator.
        scale: The scale, 2, 3 or 4.

    Raises:
        MedsrError: If the network or the scale is another one.
    """

    def __init__(self, network: nn.Module, scale: int = 2) -> None:
        super().__init__()
        if (
            not isinstance(network, ArbitraryScaleNetwork)
            or not (hasattr(network, "head") and hasattr(network, "body"))
            or network.spec.spatial_dims != 2
        ):
            raise MedsrError(
                "only 2D networks with a head and a body can be exported at an integer scale, "
                f"got {type(network).__name__}"
            )
        if scale not in range(2, int(network.spec.largest_scale or 4) + 1):
            raise MedsrError(f"expected an integer scale from 2 to {network.spec.largest_scale:g}, got {scale}")
        self.scale = int(scale)
        self.sub_mean, self.head, self.body = network.sub_mean, _module(network.head), _module(network.body)
        self.meta_upsampler = _PredictedWeights(network.meta_upsampler, self.scale)
        self.add_mean = network.add_mean

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """Enlarge an image (B, C, H, W) to (B, C', H * scale, W * scale)."""
        x = self.head(self.sub_mean(lr))
        x = F.conv2d(self.body(x) + x, self.meta_upsampler(), padding=1)
        return self.add_mean(F.pixel_shuffle(x, self.scale))


def _module(found: Any) -> nn.Module:
    """Return an attribute that is known to be a layer, for the type checker."""
    assert isinstance(found, nn.Module)
    return found


class _PredictedWeights(nn.Module):
    """The filters of an integer scale, predicted from the positions of its output pixels within an input pixel."""

    def __init__(self, module: MetaUpscale, scale: int) -> None:
        super().__init__()
        axis = one_voxel(Fraction(scale), module.positions)
        offsets = torch.tensor([float(offset) for offset in axis.offsets])
        places = module.positions_of([Fraction(scale)] * 2, [offsets, offsets])
        self.P2W = module.P2W
        self.register_buffer("places", places.contiguous(), persistent=False)
        self.shape = [module.features, KERNEL, KERNEL, module.out_channels]

    def forward(self) -> torch.Tensor:
        """Return the filters (C' * scale * scale, features, 3, 3), in the order of `pixel_shuffle`."""
        weights = self.P2W(self.places).unflatten(-1, self.shape)
        return weights.movedim(-1, 0).flatten(0, 2)


def whole_scale(name: str, scale: int = 2, **arguments: Any) -> WholeScale:
    """Return the `WholeScale` of a registered network or preset, for the configs of bundles."""
    return WholeScale(create(name, **arguments), scale)
