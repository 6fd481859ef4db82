"""Noise that is added to an image or to its k-space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import isfinite

import torch

from medsr.degradation.base import Corruption, check_choice, check_image
from medsr.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Noise(Corruption, ABC):
    """The base of all kinds of noise with a given standard deviation.

    Attributes:
        sigma: The standard deviation; for complex noise that of the real and that of the imaginary part.
        relative: Whether sigma is a fraction of the intensity range (maximum - minimum) of each case and channel;
            otherwise it is in intensity units.
    """

    sigma: float = 0.02
    relative: bool = True

    def __post_init__(self) -> None:
        if not (isfinite(self.sigma) and self.sigma >= 0):
            raise InputError(f"the sigma of noise must be at least 0, got {self.sigma}")

    def __call__(self, image: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """Add the noise to an image; see `Corruption`."""
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
    """The magnitude of the image plus complex Gaussian noise, as in a single-coil magnitude image."""

    name: str = "rician-noise"

    def _add(self, image: torch.Tensor, sigma: torch.Tensor | float, generator: torch.Generator | None) -> torch.Tensor:
        real, imaginary = sigma * _normal(image, generator, parts=2)
        return torch.hypot(image + real, imaginary)


@dataclass(frozen=True, kw_only=True)
class KspaceNoise(Noise):
    """Complex Gaussian noise on every sample of k-space.

    Attributes:
        norm: The normalisation of the DFT that sigma refers to: "ortho" (sigma then also holds in the image), or
            "backward", the plain sum of ``numpy.fft``. Chapter 3 of the dissertation (sigma 20 and 40) does not say
            which one it uses.
        output: The part of the complex image to return: "magnitude" makes the noise Rician; "real" keeps it Gaussian
            and negative values negative.
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
    """Return standard normal numbers (parts, *image.shape), drawn case by case: a batch equals its cases in turn.

    They are drawn on the device of the generator, so that a CPU generator gives the same noise on every device.
    """
    device = image.device if generator is None else generator.device
    dtype = image.dtype if image.element_size() >= 4 else torch.float32
    shape = (parts, *image.shape[1:])
    cases = [torch.randn(shape, generator=generator, device=device, dtype=dtype) for _ in image]
    return torch.stack(cases, dim=1).to(image.device)
