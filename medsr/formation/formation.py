"""The formation of an LR image: the linear map that made it, where it was taken from, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medsr.degradation import Degradation, PerAxisDegradation
from medsr.errors import InputError

ORIGINS = ("stated", "header", "sidecar", "estimated", "assumed")
FULLY_ACQUIRED = 0.95  # an axis of which at least this fraction was acquired is not worth a warning


@dataclass(frozen=True)
class Formation:
    """How an LR image was formed, as far as it is known.

    Attributes:
        degradation: The map from HR to LR; linear and separable.
        origin: The best source that any axis was taken from: "stated" by the user, the DICOM "header", the "sidecar" of
            a NIfTI file, "estimated" from the image, or "assumed".
        reasons: Plain sentences: what was taken, and why.
        acquired: The fraction of the image's Nyquist frequency that was really acquired, per array axis; 1 is all.
            Below 1 the image is zero-filled or oversampled. None if nobody looked.
        noise: The standard deviation of the noise, in units of the normalised image (about [0, 1]).

    Raises:
        InputError: If the degradation is not linear, or the origin is none of these.
    """

    degradation: Degradation
    origin: str
    reasons: tuple[str, ...] = ()
    acquired: tuple[float, ...] | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.origin not in ORIGINS:
            raise InputError(f"the origin of a formation is one of {', '.join(ORIGINS)}, got {self.origin!r}")
        if not self.degradation.linear:
            raise InputError(
                f"a formation needs a linear degradation, got {self.degradation.name!r}; try its downsampling"
            )

    @property
    def summary(self) -> str:
        """The names of the degradations, of each array axis where they differ, and the origin, on one line."""
        axes = self.degradation.axes if isinstance(self.degradation, PerAxisDegradation) else [self.degradation]
        names = ["none" if axis is None else axis.name for axis in axes]
        told = names[0] if len(set(names)) == 1 else " / ".join(names)
        return f"{told} ({self.origin})"

    def to_dict(self) -> dict[str, Any]:
        """Return the formation ready for JSON; `degradation.from_dict` reads its degradation back."""
        return {
            "degradation": self.degradation.to_dict(),
            "origin": self.origin,
            "reasons": list(self.reasons),
            "acquired": None if self.acquired is None else [round(part, 4) for part in self.acquired],
            "noise": float(f"{self.noise:.4g}"),
        }

    def warnings(self, spacing: Sequence[float]) -> list[str]:
        """Return a sentence for each enlarged axis that holds less than its voxels promise.

        Args:
            spacing: The spacing of the LR image in mm, per array axis.
        """
        axes = getattr(self.degradation, "axes", None) if isinstance(self.degradation, PerAxisDegradation) else None
        return [
            f"the image is zero-filled: its voxels are {spacing[axis]:.3g} mm, its true resolution "
            f"{spacing[axis] / part:.3g} mm along axis {axis}; enlarging it adds nothing"
            for axis, part in enumerate(self.acquired or ())
            if part < FULLY_ACQUIRED and (axes is None or axes[axis] is not None)
        ]
