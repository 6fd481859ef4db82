"""What networks of the arbitrary family share: features of the LR image once, then any output voxels at any scale."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from torch import nn

from medsr.geometry import ScaleLike, as_scale
from medsr.networks.blocks.meta_upscale import MetaUpscale
from medsr.networks.blocks.output_query import Query, check_scale
from medsr.networks.blocks.residual import mean_shifts
from medsr.networks.spec import Family, NetworkSpec

LARGEST_SCALE = 4.0  # of the published networks, whose training ends there


class ArbitraryScaleNetwork(nn.Module):
    """A feature extractor on the LR grid and the meta-upscale module.

    Subclasses define `extract`, and call `finish` at the end of their constructor.
    """

    NO_TORCHSCRIPT = "finds the voxels that it reads by exact arithmetic with fractions, which TorchScript has not"

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
        """Add what all have in common.

        Args:
            spatial_dims: The number of spatial axes, 2 or 3.
            in_channels: The number of channels of the LR image.
            out_channels: of the SR image.
            features: channels of the features.
            radius: voxels to either side that a feature voxel depends on.
            maps: float32 numbers per voxel that extracting the features takes at most.
            paper: source of the definition.
            options: what the constructor was told.

        Raises:
            MedsrError: a scale that is not between 1 and the largest.
        """
        dims, largest = spatial_dims, options.largest_scale
        self.sub_mean, self.add_mean = mean_shifts(dims, in_channels, options.mean, options.std, out_channels)
        self.meta_upsampler = MetaUpscale(dims, features, out_channels, options.anisotropic, options.positions)
        self.scale = check_scale(as_scale(options.scale, dims), largest)
        differs = "" if options.positions == "hu2019" else "output voxels are where their centres are, by exact numbers"
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
        """Features on the LR grid, (B, in_channels, *spatial) to (B, features, *spatial)."""
        return self.extract(self.sub_mean(lr))

    def upsample(self, features: torch.Tensor, query: Query) -> torch.Tensor:
        """The output voxels of a query, (B, out_channels, *query.shape), from features that reach one voxel further.

        Raises:
            MedsrError: the query's scale is out of range, or it reads beyond the features.
        """
        check_scale(query.scale, self.spec.largest_scale or LARGEST_SCALE)
        return self.add_mean(self.meta_upsampler(features, query))

    def query(self, shape: Sequence[int], scale: Optional[ScaleLike] = None) -> Query:
        """All output voxels of an image of this size; by the constructor's scale, if none is given."""
        exact = self.scale if scale is None else as_scale(scale, len(shape), shape)
        return Query.whole(shape, exact)

    def forward(self, lr: torch.Tensor, scale: Any = None, query: Optional[Query] = None) -> torch.Tensor:
        """Enlarge an image.

        Args:
            lr: The LR image, (B, in_channels, *spatial), of any size.
            scale: one number, or one per axis, from 1 to the largest scale; floats become the fractions they stand
                for (`medsr.geometry.exact_scale`). The constructor's by default.
            query: which output voxels, and the scale, instead; all by default, round(n * s) per axis.

        Returns:
            (B, out_channels, *spatial times the scale), or as the query asks.

        Raises:
            MedsrError: a scale that is not between 1 and the largest, or a query that reads beyond the image.
        """
        query = self.query(lr.shape[2:], scale) if query is None else query
        return self.upsample(self.features(lr), query)


class MetaOptions:
    """Arguments that all networks of the family take, besides those of their feature extractor.

    Args:
        scale: used where `forward` is given none; one number or one per axis.
        mean: The mean of the training set, one number or one per channel; subtracted from the input and added to
            the output.
        std: The standard deviation of the training set, one number or one per channel.
        anisotropic: see `MetaUpscale`; for training at different scales per axis, which is no published network's.
        positions: see `MetaUpscale`.
        largest_scale: that is taken along an axis.
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
