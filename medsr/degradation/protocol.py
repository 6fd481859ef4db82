"""Steps in a row: corruptions of HR, one reduction, corruptions of LR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from medsr.degradation.base import Corruption, Degradation, Step
from medsr.errors import InputError
from medsr.geometry import Scale, ScaleLike


@dataclass(frozen=True, kw_only=True)
class Protocol(Degradation):
    """A degradation made of steps, under a name and version of its own.

    Attributes:
        steps: exactly one degradation, and corruptions before it (on HR) and after it (on LR).
        alignment: that of the degradation among the steps.
    """

    steps: tuple[Step, ...]
    alignment: str = field(init=False, default="half-pixel")

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        reductions = [s for s in self.steps if isinstance(s, Degradation)]
        corruptions = [s for s in self.steps if isinstance(s, Corruption)]
        if len(reductions) != 1 or len(corruptions) != len(self.steps) - 1:
            names = [getattr(s, "name", s) for s in self.steps]
            raise InputError(f"a protocol has exactly one degradation, and noise or compression around it, got {names}")
        object.__setattr__(self, "alignment", self._reduction.alignment)

    @property
    def _reduction(self) -> Degradation:
        return next(s for s in self.steps if isinstance(s, Degradation))

    @property
    def linear(self) -> bool:
        """Whether there is nothing but a linear degradation."""
        return len(self.steps) == 1 and self._reduction.linear

    @property
    def downsampling(self) -> Degradation:
        """The degradation among the steps."""
        return self._reduction.downsampling

    def to_dict(self) -> dict[str, Any]:
        """Name, version and the description of every step."""
        return {"name": self.name, "version": self.version, "steps": [s.to_dict() for s in self.steps]}

    def adjoint(self, lr: torch.Tensor, hr_shape: Sequence[int], scale: ScaleLike) -> torch.Tensor:
        """That of the degradation, if it is alone."""
        if self.linear:
            return self._reduction.adjoint(lr, hr_shape, scale)
        return super().adjoint(lr, hr_shape, scale)

    def _reduce(
        self, hr: torch.Tensor, shape: tuple[int, ...], scale: Scale, generator: torch.Generator | None
    ) -> torch.Tensor:
        image = hr
        for step in self.steps:
            if isinstance(step, Degradation):
                image = step._reduce(image, shape, scale, generator)
            elif isinstance(step, Corruption):
                image = step(image, generator=generator)
        return image
