"""Different degradations along different axes: k-space within slices, a slice profile across them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from medsr.degradation.base import Degradation, SeparableDegradation
from medsr.errors import InputError
from medsr.geometry import Scale
from medsr.interpolation import Matrix


@dataclass(frozen=True, kw_only=True)
class PerAxisDegradation(SeparableDegradation):
    """One separable degradation for each axis of the image.

    A 2D multi-slice acquisition, for instance, samples k-space within its slices and integrates over a profile across
    them.

    Attributes:
        axes: The degradation of each axis; None leaves the axis as it is, and then its scale must be 1.
        alignment: The alignment that all of them have.

    Raises:
        InputError: If a degradation is not separable, or their alignments differ.
    """

    name: str = "per-axis"
    axes: tuple[Degradation | None, ...]
    alignment: str = field(init=False, default="half-pixel")

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", tuple(self.axes))
        given = [d for d in self.axes if d is not None]
        wrong = [getattr(d, "name", repr(d)) for d in given if not isinstance(d, SeparableDegradation)]
        alignments = sorted({d.alignment for d in given})
        if wrong:
            raise InputError(f"an axis needs a separable degradation (see medsr.degradation), got {', '.join(wrong)}")
        if len(alignments) > 1:
            raise InputError(f"the degradations of all axes must share an alignment, got {' and '.join(alignments)}")
        object.__setattr__(self, "alignment", alignments[0] if alignments else "half-pixel")

    def to_dict(self) -> dict[str, Any]:
        """Return the name, the version and the description of every axis."""
        axes = [None if d is None else d.to_dict() for d in self.axes]
        return {"name": self.name, "version": self.version, "axes": axes}

    def matrices(self, hr_shape: Sequence[int], shape: Sequence[int], scale: Scale) -> list[Matrix | None]:
        """Return the matrix of every axis; see `SeparableDegradation.matrices`."""
        if len(self.axes) != len(hr_shape):
            raise InputError(f"this degradation describes {len(self.axes)} axes, but the image has {len(hr_shape)}")
        found: list[Matrix | None] = []
        for axis, degradation in enumerate(self.axes):
            if isinstance(degradation, SeparableDegradation):
                # of this axis alone, so that one that is per axis itself cannot be among them
                found += degradation.matrices(hr_shape[axis : axis + 1], shape[axis : axis + 1], scale[axis : axis + 1])
            elif scale[axis] == 1 and hr_shape[axis] == shape[axis]:
                found.append(None)
            else:
                raise InputError(f"axis {axis} is enlarged by {scale[axis]}, but no degradation is given for it")
        return found
