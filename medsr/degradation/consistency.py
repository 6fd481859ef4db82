"""Exact consistency with a known formation: the image nearest to a given one that the scanner would have seen so."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import numpy as np
import torch
from torch import nn

from medsr.degradation.base import Degradation, SeparableDegradation
from medsr.errors import InputError
from medsr.geometry import Scale
from medsr.interpolation import Matrix, apply_matrices, resampling_matrices

# Measured on T1w test images at 2x2x2 by seven formations, x being the spline: the best mu for noise of 0, 1, 2 and 4 %
# of the range is 0 to 0.02, 0.1, 0.4 and 1.6.
LEAST_MU = 0.02
_MU_OF_VARIANCE = 1000.0


def mu_of_noise(sigma: float) -> float:
    """Return the regularisation for noise of a standard deviation `sigma`, of an image about [0, 1]."""
    return LEAST_MU + _MU_OF_VARIANCE * sigma**2


class ExactConsistency(nn.Module):
    """Make images consistent with what was measured: x + A+ (y - A x), the regularised solution in closed form.

    The formation A of the LR image y = A x is separable, A = A_1 (x) A_2 (x) A_3, and each A_i = U_i S_i V_i^T has a
    thin singular value decomposition. With S = S_1 (x) S_2 (x) S_3 the image

        x + V S / (S^2 + mu) U^T (y - A x)

    minimises ||A z - y||^2 + mu ||z - x||^2 over z. It is exact up to the borders for every real scale, linear in x and
    y, and differentiable; applied again with mu = 0 it changes nothing. It takes two products with a small matrix per
    axis, and memory for about two further images.

    Args:
        degradation: The formation; its separable part is used, without noise.
        hr_shape: The size of the images x.
        lr_shape: The size of the images y.
        scale: The scale from y to x along each axis.
        mu: The noise-to-signal ratio, in units of the largest squared singular value of A; 0 obeys y exactly.

    Raises:
        InputError: If the degradation is not separable, or mu is negative.

    Examples:
        >>> import torch
        >>> from fractions import Fraction
        >>> from medsr import degradation
        >>> block_mean = degradation.get("block-mean")
        >>> consistent = degradation.ExactConsistency(block_mean, (4, 4), (2, 2), (Fraction(2),) * 2, mu=0.0)
        >>> measured = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> block_mean(consistent(torch.zeros(1, 1, 4, 4), measured), 2)
        tensor([[[[1.0000, 2.0000],
                  [3.0000, 4.0000]]]])
    """

    def __init__(
        self,
        degradation: Degradation,
        hr_shape: Sequence[int],
        lr_shape: Sequence[int],
        scale: Scale,
        mu: float = LEAST_MU,
    ) -> None:
        super().__init__()
        formation = degradation.downsampling
        if not isinstance(formation, SeparableDegradation):
            raise InputError(f"exact consistency needs a separable degradation, got {formation.name!r}")
        if not mu >= 0:
            raise InputError(f"mu is a noise-to-signal ratio of at least 0, got {mu}")
        self.hr_shape, self.lr_shape, self.scale = tuple(hr_shape), tuple(lr_shape), scale
        self.matrices = formation.matrices(hr_shape, lr_shape, scale)
        factors = [None if m is None else _factors(_Key(m)) for m in self.matrices]
        self.left = [None if f is None else f[0] for f in factors]  # U^T
        self.right = [None if f is None else f[2] for f in factors]  # V
        self.gains = [None if f is None else f[1] for f in factors]
        self.mu = mu * prod(float(g.max()) ** 2 for g in self.gains if g is not None)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the images nearest to `x` that agree with `y`.

        Args:
            x: The images on the SR grid, (B, C, *hr_shape).
            y: The measured images, (B, C, *lr_shape), in the same units.
        """
        return x + apply_matrices(self.coefficients(self.residual(x, y)), self.right)

    def residual(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return y - A x, what `x` gets wrong about the measurement, (B, C, *lr_shape)."""
        return y - apply_matrices(x, self.matrices)

    def interpolation_residual(self, y: torch.Tensor, interpolation: Sequence[Matrix | None]) -> torch.Tensor:
        """Return y - A P y, the residual of an interpolated image P y, without holding an image of its size.

        Args:
            y: The measured images, (B, C, *lr_shape).
            interpolation: The matrix P of each axis, None where it changes nothing.
        """
        both = [
            p if a is None else a if p is None else np.ascontiguousarray(a @ p)
            for a, p in zip(self.matrices, interpolation, strict=True)
        ]
        return y - apply_matrices(y, both)

    def coefficients(self, residual: torch.Tensor) -> torch.Tensor:
        """Return S / (S^2 + mu) U^T residual, (B, C, *lr_shape); times V it is the correction of the image."""
        rotated = apply_matrices(residual, self.left)
        gain = torch.ones((), dtype=rotated.dtype, device=rotated.device)
        for axis, values in enumerate(self.gains):
            if values is not None:
                shape = [1] * len(self.gains)
                shape[axis] = -1
                gain = gain * torch.as_tensor(values, dtype=rotated.dtype).to(rotated.device).reshape(shape)
        # a direction that A does not see stays as it is, also where mu is 0
        return rotated * torch.where(gain > 0, gain / (gain**2 + self.mu).clamp_min(torch.finfo(gain.dtype).tiny), 0)

    def start(self, y: torch.Tensor, kernel: str = "spline3") -> torch.Tensor:
        """Return the interpolated image, made consistent: what can be known without learning, (B, C, *hr_shape).

        Args:
            y: The measured images, (B, C, *lr_shape).
            kernel: The interpolation kernel; see `medsr.interpolation`.
        """
        matrices = resampling_matrices(self.lr_shape, self.scale, new_shape=self.hr_shape, kernel=kernel)
        coefficients = self.coefficients(self.interpolation_residual(y, matrices))
        return apply_matrices(y, matrices) + apply_matrices(coefficients, self.right)


class _Key:
    """A matrix as a key of the cache: by identity, for the matrices of degradations are cached themselves."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix

    def __hash__(self) -> int:
        return id(self.matrix)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.matrix is self.matrix


@lru_cache(maxsize=64)
def _factors(key: _Key) -> tuple[Matrix, Matrix, Matrix]:
    """Return U^T, the singular values and V of a matrix; values that are rounding errors are zero."""
    u, s, vt = np.linalg.svd(key.matrix, full_matrices=False)
    s = np.where(s > s.max() * 1e-10, s, 0.0)
    return np.ascontiguousarray(u.T), s, np.ascontiguousarray(vt.T)
