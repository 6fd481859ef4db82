"""Networks and images for the tests of the inferers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn
from torch.nn import functional as F

from medsr.networks import Family, NetworkSpec, create


def pixel_shuffle(x: torch.Tensor, scale: tuple[int, ...]) -> torch.Tensor:
    """(B, C * prod(scale), *size) -> (B, C, *size * scale), per axis, by hand."""
    dims, size = len(scale), x.shape[2:]
    x = x.reshape(x.shape[0], -1, *scale, *size)
    order = [axis for pair in zip(range(2 + dims, 2 + 2 * dims), range(2, 2 + dims), strict=True) for axis in pair]
    return x.permute(0, 1, *order).reshape(x.shape[0], x.shape[1], *(n * s for n, s in zip(size, scale, strict=True)))


class Shuffling(nn.Module):
    """A fixed network: convolution, optional windows that share their mean, convolution, pixel shuffle."""

    def __init__(self, scale: tuple[int, ...] = (2, 2), window: int = 1, channels: int = 1) -> None:
        super().__init__()
        dims = len(scale)
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        self.first = conv(channels, 4, 3, padding=1)
        self.second = conv(4, channels * int(np.prod(scale)), 3, padding=1)
        self.scale, self.window = scale, window
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=dims,
            in_channels=channels,
            out_channels=channels,
            paper="made for this test",
            scales=scale,
            size_multiple=window,
            halo=2 if window == 1 else window + 1,
            bytes_per_voxel=64,
        )

    def forward(self, x: torch.Tensor, scale: list[float] | None = None) -> torch.Tensor:
        x = F.relu(self.first(x))
        if self.window > 1:
            size = x.shape[2:]
            padding = [p for n in reversed(size) for p in (0, -n % self.window)]
            padded = F.pad(x, padding)
            pool = F.avg_pool3d if x.ndim == 5 else F.avg_pool2d
            mean = F.interpolate(pool(padded, self.window), scale_factor=self.window, mode="nearest")
            x = x * (1 + mean[(..., *(slice(n) for n in size))])
        return pixel_shuffle(self.second(x), self.scale)


class Global(nn.Module):
    """A restore network that looks at the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 3, padding=1)
        self.spec = NetworkSpec(
            family=Family.RESTORE,
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            paper="made for this test",
            interpolation="linear",
            bytes_per_voxel=1024,
        )

    def forward(self, x: torch.Tensor, scale: list[float] | None = None) -> torch.Tensor:
        return self.conv(x) + x.mean()


class Wrapped(nn.Module):
    """A network that does something before or instead of another's forward pass."""

    def __init__(self, inner: nn.Module, hook) -> None:
        super().__init__()
        self.inner, self.hook, self.spec = inner, hook, inner.spec

    def forward(self, x: torch.Tensor, scale: list[float] | None = None) -> torch.Tensor:
        return self.hook(x, self.inner)


class Made:
    """What tests build networks with."""

    Shuffling, Global, Wrapped = Shuffling, Global, Wrapped

    @staticmethod
    def seeded(build, *args, **keywords) -> nn.Module:
        """A network with the same weights whenever it is asked for."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build(*args, **keywords).eval()

    @classmethod
    def recnn(cls, spatial_dims: int = 3, **keywords) -> nn.Module:
        arguments = {"depth": 3, "features": 4, **keywords}
        return cls.seeded(create, "ReCNN", spatial_dims=spatial_dims, **arguments)

    @classmethod
    def srcnn3d(cls) -> nn.Module:
        network = cls.seeded(create, "SRCNN3D", features=(4, 2))
        for parameter in network.parameters():  # as published they are so small that every output is about zero
            parameter.data.mul_(200)
        return network

    @classmethod
    def fixed(cls, scale=(2, 2), **keywords) -> nn.Module:
        return cls.seeded(Shuffling, scale, **keywords)


@pytest.fixture(scope="session")
def made() -> type[Made]:
    return Made


@pytest.fixture(scope="session")
def noise():
    """A function that makes reproducible images in [0, 1]."""

    def draw(*shape: int, seed: int = 0) -> torch.Tensor:
        return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))

    return draw


@pytest.fixture
def sheared_left_handed(oblique_affine) -> np.ndarray:
    """An affine with a gantry tilt, reflected."""
    shear = np.eye(4)
    shear[1, 2] = 0.3
    return oblique_affine @ shear @ np.diag([-1, 1, 1, 1])


@pytest.fixture(scope="session")
def as_volume():
    """A function that makes a (1, C, X, Y, Z) MetaTensor."""

    def make(values: torch.Tensor, affine) -> MetaTensor:
        return MetaTensor(values, affine=torch.as_tensor(np.asarray(affine, dtype=np.float64)))

    return make
