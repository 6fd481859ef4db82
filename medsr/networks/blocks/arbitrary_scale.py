"""The base of the arbitrary family: features of the LR image are computed once, then any output voxels at any scale."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from torch import nn

from medsr.geometry import ScaleLike, as_scale
from medsr.networks.blocks.meta_upscale import MetaUpscale
from medsr.networks.blocks.output_query import Query, check_scale
from medsr.networks.blocks.residual import mean_shifts
from medsr.networks.spec import Family, NetworkSpec

LARGEST_SCALE = 4.0  # the largest scale in the training of the published networks


class ArbitraryScaleNetwork(nn.Module):
    """A feature extractor on the LR grid and the meta-upscale module.

    Subclasses define `extract` and call `finish` at the end of their constructor.
    """

    NO_TORCHSCRIPT = "computes the voxels that it reads with exact fractions, which TorchScript does not support"

    spec: NetworkSpec

    def finish(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features: int,
        radius: int,
        maps: int,
        paper: str,
        options: "MetaOptions",
    ) -> None:
        """Add the parts that all networks of the family have.

        Args:
            spatial_dims: The number of spatial axes, 2 or 3.
            in_channels: The number of channels of the LR image.
            out_channels: The number of channels of the SR image.
            features: The number of channels of the features.
            radius: The number of voxels to either side on which a feature voxel depends.
            maps: The peak memory of the feature extraction, in float32 numbers per voxel.
            paper: The source of the definition.
            options: The options given to the constructor.

        Raises:
            MedsrError: If the scale is not between 1 and the largest scale.
        """
        dims, largest = spatial_dims, options.largest_scale
        self.sub_mean, self.add_mean = mean_shifts(dims, in_channels, options.mean, options.std, out_channels)
        self.meta_upsampler = MetaUpscale(dims, features, out_channels, options.anisotropic, options.positions)
        self.scale = check_scale(as_scale(options.scale, dims), largest)
        differs = "" if options.positions == "hu2019" else "output voxels are located by their centres, exactly"
        self.spec = NetworkSpec(
            family=Family.ARBITRARY,
            spatial_dims=dims,
            in_channels=in_channels,
            out_channels=out_channels,
            largest_scale=largest,
            halo=radius + self.meta_upsampler.halo,
            bytes_per_voxel=4 * max(maps, 5 * features),
            paper=paper,
            deviations=differs,
        )

    def extract(self, lr: torch.Tensor) -> torch.Tensor:
        """Return the features (B, features, *spatial) of an intensity-shifted image (B, in_channels, *spatial)."""
        raise NotImplementedError

    def features(self, lr: torch.Tensor) -> torch.Tensor:
        """Return the features (B, features, *spatial) on the LR grid of an image (B, in_channels, *spatial)."""
        return self.extract(self.sub_mean(lr))

    def upsample(self, features: torch.Tensor, query: Query) -> torch.Tensor:
        """Return the output voxels of a query, (B, out_channels, *query.shape), from features with a halo of a voxel.

        Raises:
            MedsrError: If the scale of the query is out of range, or the query reads beyond the features.
        """
        check_scale(query.scale, self.spec.largest_scale or LARGEST_SCALE)
        return self.add_mean(self.meta_upsampler(features, query))

    def query(self, shape: Sequence[int], scale: Optional[ScaleLike] = None) -> Query:
        """Return the query for all output voxels of an image of this size, by default at the constructor's scale."""
        exact = self.scale if scale is None else as_scale(scale, len(shape), shape)
        return Query.whole(shape, exact)

    def forward(self, lr: torch.Tensor, scale: Any = None, query: Optional[Query] = None) -> torch.Tensor:
        """Enlarge an image.

        Args:
            lr: The LR image, (B, in_channels, *spatial), of any size.
            scale: The scale, one number or one per axis, from 1 to the largest scale; floats become the fractions that
                they stand for (`medsr.geometry.exact_scale`). The constructor's scale by default.
            query: The output voxels to compute, and their scale, instead of `scale`; all voxels by default, which are
                round(n * s) per axis.

        Returns:
            The SR image, (B, out_channels, *spatial times the scale), or (B, out_channels, *query.shape).

        Raises:
            MedsrError: If the scale is not between 1 and the largest scale, or the query reads beyond the image.
        """
        query = self.query(lr.shape[2:], scale) if query is None else query
        return self.upsample(self.features(lr), query)


class MetaOptions:
    """The arguments that all networks of the family take, besides those of their feature extractor.

    Args:
        scale: The scale that `forward` uses by default, one number or one per axis.
        mean: The mean of the training set, one number or one per channel; subtracted from the input and added to
            the output.
        std: The standard deviation of the training set, one number or one per channel.
        anisotropic: Whether the scales of the axes may differ in training, see `MetaUpscale`; no published network does
            this.
        positions: The way to count positions, see `MetaUpscale`.
        largest_scale: The largest scale along an axis.
    """

    def __init__(
        self,
        scale: ScaleLike = 2,
        mean: Union[float, Sequence[float]] = 0.0,
        std: Union[float, Sequence[float]] = 1.0,
        anisotropic: bool = False,
        positions: str = "centre",
        largest_scale: float = LARGEST_SCALE,
    ) -> None:
        self.scale, self.mean, self.std = scale, mean, std
        self.anisotropic, self.positions, self.largest_scale = anisotropic, positions, largest_scale
