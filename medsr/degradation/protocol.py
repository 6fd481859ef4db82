"""Protocols: a sequence of corruptions of HR, one degradation, and corruptions of LR."""

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
    """A degradation that is made of several steps and has its own name and version.

    Attributes:
        steps: The steps: exactly one degradation, with corruptions before it (on HR) and after it (on LR).
        alignment: The alignment of the degradation among the steps.
    """

    steps: tuple[Step, ...]
    alignment: str = field(init=False, default="half-pixel")

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        reductions = [s for s in self.steps if isinstance(s, Degradation)]
        corruptions = [s for s in self.steps if isinstance(s, Corruption)]
        if len(reductions) != 1 or len(corruptions) != len(self.steps) - 1:
            names = [getattr(s, "name", s) for s in self.steps]
            raise InputError(f"a protocol needs exactly one degradation, with any noise or compression, got {names}")
        object.__setattr__(self, "alignment", self._reduction.alignment)

    @property
    def _reduction(self) -> Degradation:
        return next(s for s in self.steps if isinstance(s, Degradation))

    @property
    def linear(self) -> bool:
        """Whether the protocol consists of a linear degradation alone."""
        return len(self.steps) == 1 and self._reduction.linear

    @property
    def downsampling(self) -> Degradation:
        """The degradation among the steps."""
        return self._reduction.downsampling

    def to_dict(self) -> dict[str, Any]:
        """Return the name, the version and the description of every step."""
        return {"name": self.name, "version": self.version, "steps": [s.to_dict() for s in self.steps]}

    def adjoint(self, lr: torch.Tensor, hr_shape: Sequence[int], scale: ScaleLike) -> torch.Tensor:
        """Apply the adjoint of the degradation if it is the only step; see `Degradation.adjoint`."""
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
