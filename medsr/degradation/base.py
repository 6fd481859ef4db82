"""The base classes of degradations: named, versioned, serialisable maps from HR to LR with a known alignment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from medsr.errors import GridError, InputError
from medsr.geometry import (
    ALIGNMENTS,
    Scale,
    ScaleLike,
    as_scale,
    check_enlarging,
    divisible_shape,
    format_scale,
    output_shape,
    sampled_affine,
    sampling_of,
)
from medsr.interpolation import Matrix, apply_matrices, transposed


@dataclass(frozen=True, kw_only=True)
class Step:
    """One part of a protocol. Its parameters are its fields, which also define equality and serialisation.

    Attributes:
        name: The name in the registry.
        version: The version, which is raised whenever the same parameters give other numbers than before.
    """

    name: str
    version: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return the name, the version and all parameters, ready for JSON; `degradation.from_dict` reads them back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


@dataclass(frozen=True, kw_only=True)
class Degradation(Step, ABC):
    """The base of all maps from HR to LR.

    Attributes:
        alignment: The position of the LR voxels on the HR grid, one of `geometry.ALIGNMENTS`. Only "half-pixel"
            follows the grid rule; the others reproduce published programs.
    """

    alignment: str = "half-pixel"

    def __post_init__(self) -> None:
        check_choice("alignment", self.alignment, ALIGNMENTS)

    @property
    def linear(self) -> bool:
        """Whether the LR image depends linearly on the HR image; a linear degradation has an `adjoint`."""
        return True

    @property
    def downsampling(self) -> Degradation:
        """The part of the degradation that reduces the grid, without noise or compression (for back-projection)."""
        return self

    def draw(self, scale: Scale, generator: torch.Generator | None = None) -> Degradation:
        """Return the degradation of one image: a random one draws it, any other is it.

        Args:
            scale: The scale of every axis.
            generator: The source of randomness; the global generator by default.
        """
        return self

    def __call__(
        self,
        hr: torch.Tensor,
        scale: ScaleLike,
        *,
        shape: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Simulate the LR image.

        Args:
            hr: The HR image, (B, C, *spatial), floating point, with two or three spatial axes, on any device.
            scale: The SR scale (at least 1) that leads back to HR, one number or one per axis.
            shape: The LR sizes, needed if the scale does not divide the HR sizes; HR sizes over scale by default.
            generator: The source of randomness, if the degradation is random; the global generator by default.

        Returns:
            The LR image, (B, C, *spatial / scale), with the dtype and device of HR.

        Raises:
            GridError: If the scale is below 1 or does not divide the sizes, or `shape` is larger than HR.
            InputError: If `hr` is not a floating-point image with two or three spatial axes.
        """
        check_image(hr)
        scales = check_enlarging(as_scale(scale, hr.ndim - 2))
        sizes = self.lr_shape(hr.shape[2:], scales) if shape is None else tuple(shape)
        self._check_inside(tuple(hr.shape[2:]), sizes, scales)
        return self._reduce(_plain_float(hr), sizes, scales, generator).to(hr.dtype)

    @abstractmethod
    def _reduce(
        self, hr: torch.Tensor, shape: tuple[int, ...], scale: Scale, generator: torch.Generator | None
    ) -> torch.Tensor:
        """Return the LR image; the arguments are checked and complete."""

    def adjoint(self, lr: torch.Tensor, hr_shape: Sequence[int], scale: ScaleLike) -> torch.Tensor:
        """Apply the transpose of a linear degradation to an LR image (B, C, *lr) and return (B, C, *hr_shape).

        Raises:
            InputError: If the degradation is not linear.
        """
        raise InputError(f"degradation {self.name!r} has no adjoint because it is not linear; try its `downsampling`")

    def lr_shape(self, hr_shape: Sequence[int], scale: Scale) -> tuple[int, ...]:
        """Return the LR sizes for HR sizes that the scale divides.

        Raises:
            GridError: If the scale does not divide the HR sizes.
        """
        if divisible_shape(hr_shape, scale) != tuple(hr_shape):
            raise GridError(
                f"HR of {tuple(hr_shape)} voxels cannot be reduced by {format_scale(scale)} exactly; "
                f"crop it to {divisible_shape(hr_shape, scale)} or give the LR shape"
            )
        return output_shape(hr_shape, tuple(1 / s for s in scale))

    def positions(self, n_lr: int, n_hr: int, scale: Fraction) -> NDArray[np.float64]:
        """Return the real-valued HR index of the centre of each LR voxel along one axis."""
        start, step = sampling_of(self.alignment, n_hr, n_lr, scale)
        common = start.denominator * step.denominator
        first, stride = start.numerator * step.denominator, step.numerator * start.denominator
        return (first + stride * np.arange(n_lr, dtype=np.int64)) / common  # rounded once

    def lr_affine(
        self,
        hr_affine: ArrayLike,
        hr_shape: Sequence[int],
        scale: ScaleLike,
        *,
        shape: Sequence[int] | None = None,
    ) -> NDArray[np.float64]:
        """Return the voxel-to-world affine of the LR image, which takes the alignment into account."""
        scales = check_enlarging(as_scale(scale, len(hr_shape)))
        sizes = self.lr_shape(hr_shape, scales) if shape is None else tuple(shape)
        axes = zip(hr_shape, sizes, scales, strict=True)
        return sampled_affine(hr_affine, [sampling_of(self.alignment, n, m, s) for n, m, s in axes])

    def _check_inside(self, hr_shape: tuple[int, ...], shape: tuple[int, ...], scale: Scale) -> None:
        if len(shape) != len(hr_shape) or min(shape) < 1:
            raise GridError(f"expected {len(hr_shape)} LR sizes of at least 1, got {shape}")
        for n, m, s in zip(hr_shape, shape, scale, strict=True):
            if m > n or self.positions(m, n, s)[-1] > n - 0.5:
                raise GridError(f"LR of {shape} voxels at scale {format_scale(scale)} exceeds HR of {hr_shape} voxels")


@dataclass(frozen=True, kw_only=True)
class SeparableDegradation(Degradation):
    """A linear degradation that multiplies each axis by a matrix; its adjoint is exact."""

    @abstractmethod
    def matrices(self, hr_shape: Sequence[int], shape: Sequence[int], scale: Scale) -> list[Matrix | None]:
        """Return the matrix (n_lr, n_hr) that reduces each axis, or None for an axis that stays as it is."""

    def _reduce(
        self, hr: torch.Tensor, shape: tuple[int, ...], scale: Scale, generator: torch.Generator | None
    ) -> torch.Tensor:
        return apply_matrices(hr, self.matrices(hr.shape[2:], shape, scale))

    def adjoint(self, lr: torch.Tensor, hr_shape: Sequence[int], scale: ScaleLike) -> torch.Tensor:
        """Apply the transposed matrix of every axis; see `Degradation.adjoint`."""
        check_image(lr)
        scales = check_enlarging(as_scale(scale, lr.ndim - 2))
        self._check_inside(tuple(hr_shape), tuple(lr.shape[2:]), scales)
        matrices = transposed(self.matrices(hr_shape, lr.shape[2:], scales))
        return apply_matrices(_plain_float(lr), matrices).to(lr.dtype)


@dataclass(frozen=True, kw_only=True)
class AxiswiseDegradation(SeparableDegradation):
    """A separable degradation with one rule for all axes."""

    @abstractmethod
    def axis_matrix(self, n_hr: int, n_lr: int, scale: Fraction) -> Matrix | None:
        """Return the matrix (n_lr, n_hr) that reduces one axis, or None if the axis stays as it is."""

    def matrices(self, hr_shape: Sequence[int], shape: Sequence[int], scale: Scale) -> list[Matrix | None]:
        """Return the matrix of every axis (cached); see `SeparableDegradation.matrices`."""
        return [_cached_matrix(self, n, m, s) for n, m, s in zip(hr_shape, shape, scale, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Corruption(Step, ABC):
    """A step that changes intensities but not the grid."""

    @abstractmethod
    def __call__(self, image: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """Corrupt an image (B, C, *spatial) and keep its dtype and device; `generator` is the source of randomness."""


@lru_cache(maxsize=64)
def _cached_matrix(degradation: AxiswiseDegradation, n_hr: int, n_lr: int, scale: Fraction) -> Matrix | None:
    return degradation.axis_matrix(n_hr, n_lr, scale)


def check_image(image: torch.Tensor) -> None:
    """Raise InputError unless the image is floating point and has a batch, a channel and 2 or 3 spatial axes."""
    if image.ndim not in (4, 5) or not image.is_floating_point():
        raise InputError(
            "expected a floating-point image (B, C, X, Y) or (B, C, X, Y, Z), "
            f"got {str(image.dtype).removeprefix('torch.')} of shape {tuple(image.shape)}"
        )


def check_choice(what: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise InputError unless the value of the parameter `what` is one of the choices."""
    if value not in choices:
        raise InputError(f"the {what} of a degradation is one of {', '.join(map(str, choices))}, got {value!r}")


def _plain_float(image: torch.Tensor) -> torch.Tensor:
    """Drop the affine of a MetaTensor, which the result does not share, and use at least float32 for the weighting."""
    image = image.as_subclass(torch.Tensor)
    return image.float() if image.element_size() < 4 else image
