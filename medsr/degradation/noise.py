"""Noise on an image or on its k-space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import isfinite

import torch

from medsr.degradation.base import Corruption, check_choice, check_image
from medsr.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Noise(Corruption, ABC):
    """Noise of a standard deviation.

    Attributes:
        sigma: standard deviation, of the real and of the imaginary part where noise is complex.
        relative: sigma is a fraction of the range (maximum - minimum) of each case and channel, else it is in
            intensity units.
    """

    sigma: float = 0.02
    relative: bool = True

    def __post_init__(self) -> None:
        if not (isfinite(self.sigma) and self.sigma >= 0):
            raise InputError(f"sigma of noise must be at least 0, got {self.sigma}")

    def __call__(self, image: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """See `Corruption`."""
        check_image(image)
        plain = image.as_subclass(torch.Tensor)
        sigma: torch.Tensor | float = self.sigma
        if self.relative:
            axes = tuple(range(2, image.ndim))
            sigma = sigma * (plain.amax(axes, keepdim=True) - plain.amin(axes, keepdim=True))
        return self._add(plain, sigma, generator).to(image.dtype)

    @abstractmethod
    def _add(
        self, image: torch.Tensor, sigma: torch.Tensor | float, generator: torch.Generator | None
    ) -> torch.Tensor: ...


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Noise):
    """Independent Gaussian noise on every voxel."""

    name: str = "gaussian-noise"

    def _add(self, image: torch.Tensor, sigma: torch.Tensor | float, generator: torch.Generator | None) -> torch.Tensor:
        return image + sigma * _normal(image, generator)[0]


@dataclass(frozen=True, kw_only=True)
class RicianNoise(Noise):
    """Magnitude of the image plus complex Gaussian noise: what a single-coil magnitude image contains."""

    name: str = "rician-noise"

    def _add(self, image: torch.Tensor, sigma: torch.Tensor | float, generator: torch.Generator | None) -> torch.Tensor:
        real, imaginary = sigma * _normal(image, generator, parts=2)
        return torch.hypot(image + real, imaginary)


@dataclass(frozen=True, kw_only=True)
class KspaceNoise(Noise):
    """Complex Gaussian noise on every sample of k-space.

    Attributes:
        norm: scale of the DFT that sigma refers to: "ortho" (sigma is that of the image then), or "backward",
            the plain sum of ``numpy.fft``. Dissertation chapter 3 (sigma 20 and 40) does not say which.
        output: "magnitude" makes the noise Rician; "real" keeps it Gaussian and negative values negative.
    """

    name: str = "kspace-noise"
    norm: str = "ortho"
    output: str = "magnitude"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("norm", self.norm, ("ortho", "backward"))
        check_choice("output", self.output, ("magnitude", "real"))

    def _add(self, image: torch.Tensor, sigma: torch.Tensor | float, generator: torch.Generator | None) -> torch.Tensor:
        axes = tuple(range(2, image.ndim))
        noise = torch.complex(*_normal(image, generator, parts=2))
        spectrum = torch.fft.fftn(image.to(noise.real.dtype), dim=axes, norm=self.norm) + sigma * noise
        noisy = torch.fft.ifftn(spectrum, dim=axes, norm=self.norm)
        return noisy.abs() if self.output == "magnitude" else noisy.real


def _normal(image: torch.Tensor, generator: torch.Generator | None, parts: int = 1) -> torch.Tensor:
    """Standard normal numbers (parts, *image.shape), drawn case by case: a batch equals its cases in a row.

    They are drawn on the generator's device, so that a CPU generator gives the same noise everywhere.
    """
    device = image.device if generator is None else generator.device
    dtype = image.dtype if image.element_size() >= 4 else torch.float32
    shape = (parts, *image.shape[1:])
    cases = [torch.randn(shape, generator=generator, device=device, dtype=dtype) for _ in image]
    return torch.stack(cases, dim=1).to(image.device)
