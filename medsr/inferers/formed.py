"""Obey the formation of an LR image: before a restore network, and after every network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import Any

import torch
from monai.data import MetaTensor

from medsr.degradation import Degradation, ExactConsistency, mu_of_noise
from medsr.formation import AUTO, Formation, choose_formation, parse_formation
from medsr.geometry import Scale, output_shape
from medsr.inferers.guards import Guards, measure
from medsr.interpolation import Matrix, resampling_matrices, resize
from medsr.transforms.consistency import formation_of, noise_of
from medsr.transforms.simulation import FORMATION, SIMULATED


@dataclass
class NetworkInputs:
    """The images that a network reads, all of one batch.

    Attributes:
        lr: The LR images, (B, C, *spatial).
        guide: The guidance images on the SR grid, or None.
        coefficients: The coefficients of the correction that makes the interpolated images consistent, (B, C,
            *spatial), or None.
        right: The matrix of each axis that turns them into the correction on the SR grid.
    """

    lr: torch.Tensor
    guide: torch.Tensor | None = None
    coefficients: torch.Tensor | None = None
    right: Sequence[Matrix | None] = ()

    def slices(self, across: int, position: slice) -> NetworkInputs:
        """Return some slices of volumes as a batch of 2D images; `across` is their spatial axis."""
        parts = (self.lr, self.guide, self.coefficients)
        cut = [None if p is None else as_slices(p, across)[position].flatten(0, 1).contiguous() for p in parts]
        assert cut[0] is not None
        return NetworkInputs(cut[0], cut[1], cut[2], [m for axis, m in enumerate(self.right) if axis != across])


def as_slices(volume: torch.Tensor, across: int) -> torch.Tensor:
    """Return (B, C, X, Y, Z) as (slices, B, C, *in-plane), a view."""
    return volume.movedim(2 + across, 0)


@dataclass
class Formed:
    """One LR image, its formation, and what obeying it did.

    Attributes:
        formation: The formation.
        lr: The LR image, (1, C, *spatial).
        scale: The scale per spatial axis.
        before: The root mean square of y - A x before the result x was made consistent with the LR image y.
        after: The same afterwards.
    """

    formation: Formation
    lr: torch.Tensor
    scale: Scale
    before: float = nan
    after: float = nan
    consistency: ExactConsistency = field(init=False)

    def __post_init__(self) -> None:
        shape = tuple(self.lr.shape[2:])
        self.consistency = ExactConsistency(
            self.formation.degradation,
            output_shape(shape, self.scale),
            shape,
            self.scale,
            mu_of_noise(self.formation.noise),
        )

    def inputs(self, guide: torch.Tensor | None, kernel: str) -> NetworkInputs:
        """Return what a restore network reads: the interpolated image and the correction that makes it consistent.

        Args:
            guide: The guidance images of this image, or None.
            kernel: The interpolation kernel of the network.
        """
        matrices = resampling_matrices(self.lr.shape[2:], self.scale, kernel=kernel)
        residual = self.consistency.interpolation_residual(self.lr, matrices)
        return NetworkInputs(self.lr, guide, self.consistency.coefficients(residual), self.consistency.right)

    def obey(self, image: torch.Tensor) -> None:
        """Make a result (1, C, *SR spatial) consistent, in place, and keep the residuals."""
        measured = self.lr[:, : image.shape[1]].to(image.device)
        self.before = _rms(self.consistency.residual(image, measured))
        image.copy_(self.consistency(image, measured))
        self.after = _rms(self.consistency.residual(image, measured))

    def interpolated(self, channels: int, kernel: str) -> torch.Tensor:
        """Return the interpolated image, made consistent: what can be known without a network."""
        return self.consistency.start(self.lr[:, :channels], kernel)


def formed_image(request: Any, image: torch.Tensor, lr: torch.Tensor, scale: Scale) -> Formed | None:
    """Return an image with its formation, or None if none is to be obeyed.

    Args:
        request: The formation that was asked for: "auto", a degradation, `SIMULATED`, or None.
        image: The LR image, (C, *spatial), with its `meta`, which may ask for another.
        lr: The same as a batch of one, (1, C, *spatial), on the device of the network.
        scale: The scale per spatial axis.
    """
    if request is None:
        return None
    image = image if isinstance(image, MetaTensor) else MetaTensor(image)
    request = read_request(image.meta.get(FORMATION, request))
    if request == SIMULATED and SIMULATED not in image.meta:
        request = AUTO  # a real image
    if request == SIMULATED:
        degradation = formation_of(image)
        noise = noise_of(degradation) * float(lr.max() - lr.min())
        stated = Formation(degradation.downsampling, "stated", ("it simulated the image",), None, noise)
        return Formed(stated, lr, scale)
    formation = choose_formation(request, image, scale)
    return None if formation is None else Formed(formation, lr, scale)


def read_request(formation: Any) -> Any:
    """Return the formation that a user asks for: "auto", a degradation, `SIMULATED`, or None for none.

    Raises:
        InputError: See `medsr.formation.parse_formation`.
    """
    return formation if formation is None or formation == SIMULATED else parse_formation(formation)


def as_asked(formation: Any) -> Any:
    """Return the formation that a user asks for, ready for JSON, the same however it is written."""
    request = read_request(formation)
    return request.to_dict() if isinstance(request, Degradation) else request


def guarded(
    image: torch.Tensor, lr: torch.Tensor, scale: Scale, formed: Formed | None, fallback: str | None
) -> tuple[Guards, list[str]]:
    """Measure what users look at in a result; if it must be safe and is not, replace it by the interpolated image.

    Args:
        image: The result, (1, C, *SR spatial); changed in place where it is replaced.
        lr: The LR image, (1, C, *spatial), of the same channels.
        scale: The scale per spatial axis.
        formed: The formation that was obeyed.
        fallback: The kernel of the interpolation that replaces the result, or None to leave it.

    Returns:
        What was measured, and what a user should be told of the replacement.
    """
    guards, told = measure(image[0], lr[0], scale), []
    if fallback is not None and guards.exceeded:
        found = [warning.partition(":")[0] for warning in guards.warnings()]
        told = [f"{what}: the interpolated image was taken instead" for what in found]
        plain = formed.interpolated(len(image[0]), fallback) if formed else resize(lr, scale, kernel=fallback)
        image.copy_(plain)
        if formed is not None:
            formed.obey(image)
        guards = measure(image[0], lr[0], scale)
    if formed is not None:
        span = float(lr.max() - lr.min()) or 1.0
        guards = replace(guards, consistency_before=formed.before / span, consistency_after=formed.after / span)
    return guards, told


def _rms(image: torch.Tensor) -> float:
    return float(image.double().square().mean().sqrt())
