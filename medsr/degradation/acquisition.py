"""What real acquisitions do to an image, drawn at random for training and for panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from medsr.degradation.base import Degradation, Step, check_choice
from medsr.degradation.interpolating import InterpolationDegradation
from medsr.degradation.kspace import KspaceTruncationDegradation
from medsr.degradation.noise import GaussianNoise, RicianNoise
from medsr.degradation.per_axis import PerAxisDegradation
from medsr.degradation.profiles import SliceProfileDegradation
from medsr.degradation.protocol import Protocol
from medsr.errors import InputError
from medsr.geometry import Scale

ACQUISITIONS = ("3d", "2d-multislice", "ct")


class _Draws:
    """Random numbers of one generator, one by one."""

    def __init__(self, generator: torch.Generator | None) -> None:
        self.generator = generator

    def uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        device = None if self.generator is None else self.generator.device
        return low + (high - low) * float(torch.rand((), generator=self.generator, device=device))

    def choose(self, choices: Sequence[Any], weights: Sequence[float]) -> Any:
        """Return one of the choices by their weights."""
        mark = self.uniform(0, sum(weights))
        for choice, weight in zip(choices, weights, strict=True):
            mark -= weight
            if mark < 0:
                return choice
        return choices[-1]


@dataclass(frozen=True, kw_only=True)
class RandomDegradation(Degradation):
    """The base of degradations that draw another one for every image."""

    @property
    def linear(self) -> bool:
        """False: the same image gives another one each time."""
        return False

    def draw(self, scale: Scale, generator: torch.Generator | None = None) -> Degradation:
        """Return a degradation without chance but for its noise; see `Degradation.draw`."""
        raise NotImplementedError

    def _reduce(
        self, hr: torch.Tensor, shape: tuple[int, ...], scale: Scale, generator: torch.Generator | None
    ) -> torch.Tensor:
        cases = [self.draw(scale, generator)._reduce(case[None], shape, scale, generator) for case in hr]
        return torch.cat(cases)


@dataclass(frozen=True, kw_only=True)
class AcquisitionDegradation(RandomDegradation):
    """An acquisition of one kind, drawn at random within the range of what scanners do.

    - "acquisition-3d": a 3D MR acquisition samples k-space along all axes; the kept part is apodised or not, and
      sometimes zero-filled. Images that were smoothed or resampled after the reconstruction are among the draws:
      Gaussian, trapezoid and box point-spread functions, and an antialiased bicubic reduction.
    - "acquisition-2d-multislice": k-space within slices, and a slice profile across them (the axis of the largest
      scale), with a gap or an overlap.
    - "acquisition-ct": a reconstruction kernel within slices, and a slice sensitivity profile across them.

    Lengths are full widths at half maximum in units of the LR voxel, so that a protocol means the same at every scale.
    Sources: `Bernstein, King and Zhou 2004, Handbook of MRI Pulse Sequences`, sections 8.1 (slice profiles) and 13.1
    (apodisation and zero filling).

    Attributes:
        acquisition: The kind, one of `ACQUISITIONS`.
        noise: The range of the noise's standard deviation, as a fraction of the intensity range of the LR image:
            Rician for MR, Gaussian for CT.
        noiseless: The share of the draws without noise.
        zero_filled: The share of the k-space draws that were zero-filled.
    """

    name: str = "acquisition-3d"
    acquisition: str = "3d"
    noise: tuple[float, float] = (0.0, 0.04)
    noiseless: float = 0.4
    zero_filled: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("acquisition", self.acquisition, ACQUISITIONS)
        object.__setattr__(self, "noise", tuple(float(v) for v in self.noise))
        if len(self.noise) != 2 or not 0 <= self.noise[0] <= self.noise[1]:
            raise InputError(f"the noise of an acquisition is a range (low, high) of at least 0, got {self.noise}")
        for what in ("noiseless", "zero_filled"):
            if not 0 <= getattr(self, what) <= 1:
                raise InputError(f"{what} is a share between 0 and 1, got {getattr(self, what)}")

    def draw(self, scale: Scale, generator: torch.Generator | None = None) -> Degradation:
        """Return an acquisition as a protocol: its formation, then its noise unless it has none."""
        draws = _Draws(generator)
        steps: list[Step] = [self._formation(scale, draws)]
        sigma = 0.0 if draws.uniform(0, 1) < self.noiseless else draws.uniform(*self.noise)
        if sigma > 0:
            steps.append((GaussianNoise if self.acquisition == "ct" else RicianNoise)(sigma=sigma))
        return Protocol(name=f"{self.name}-drawn", steps=tuple(steps))

    def _formation(self, scale: Scale, draws: _Draws) -> Degradation:
        if self.acquisition == "3d":
            return draws.choose((self._kspace, _smoothed, _resampled), (0.55, 0.35, 0.1))(draws)
        within = self._kspace(draws) if self.acquisition == "2d-multislice" else _kernel(draws)
        if len(scale) == 2:
            return within
        coarsest = [axis for axis, s in enumerate(scale) if s == max(scale)]
        across = draws.choose(coarsest, [1.0] * len(coarsest))
        profile = _slice_profile(draws)
        return PerAxisDegradation(axes=tuple(profile if axis == across else within for axis in range(len(scale))))

    def _kspace(self, draws: _Draws) -> Degradation:
        window = draws.choose((None, "hamming", "fermi", "tukey"), (0.5, 0.2, 0.15, 0.15))
        taper = draws.uniform(0.2, 0.6)
        extent = draws.uniform(0.6, 1.0) if draws.uniform(0, 1) < self.zero_filled else 1.0
        return KspaceTruncationDegradation(window=window, taper=taper, extent=extent)


def _smoothed(draws: _Draws) -> Degradation:
    profile = draws.choose(("gaussian", "box", "trapezoid"), (0.6, 0.25, 0.15))
    low, high = (0.6, 1.25) if profile == "gaussian" else (0.9, 1.1)
    return SliceProfileDegradation(profile=profile, fwhm=draws.uniform(low, high))


def _resampled(_draws: _Draws) -> Degradation:
    return InterpolationDegradation()


def _kernel(draws: _Draws) -> Degradation:
    return SliceProfileDegradation(fwhm=draws.uniform(0.4, 1.2))


def _slice_profile(draws: _Draws) -> Degradation:
    profile = draws.choose(("gaussian", "trapezoid", "box"), (0.6, 0.25, 0.15))
    return SliceProfileDegradation(profile=profile, fwhm=draws.uniform(0.65, 1.35))


@dataclass(frozen=True, kw_only=True)
class MixtureDegradation(RandomDegradation):
    """One of several degradations for every image, drawn by weight.

    Attributes:
        choices: The degradations; they share an alignment, and may be random themselves.
        weights: The relative frequencies; equal if empty.

    Raises:
        InputError: If there is nothing to choose from, the alignments differ, or the weights do not fit.
    """

    name: str = "mixture"
    choices: tuple[Degradation, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        object.__setattr__(self, "weights", tuple(self.weights) or (1.0,) * len(self.choices))
        if not self.choices or {d.alignment for d in self.choices} != {self.alignment}:
            raise InputError(f"a mixture needs degradations of the alignment {self.alignment!r}, got {self.choices}")
        if len(self.weights) != len(self.choices) or min(self.weights) < 0 or sum(self.weights) <= 0:
            raise InputError(
                f"expected a weight of at least 0 for each of {len(self.choices)} degradations, not all zero, got "
                f"{list(self.weights)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the name, the version, the weights and the description of every choice."""
        choices = [d.to_dict() for d in self.choices]
        return {"name": self.name, "version": self.version, "choices": choices, "weights": list(self.weights)}

    def draw(self, scale: Scale, generator: torch.Generator | None = None) -> Degradation:
        """Return a draw of one of the choices."""
        chosen: Degradation = _Draws(generator).choose(self.choices, self.weights)
        return chosen.draw(scale, generator)
