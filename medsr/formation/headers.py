"""Take the formation of each axis from what the header or the sidecar says about the acquisition."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medsr.data.acquisition import Acquisition
from medsr.degradation import Degradation, KspaceTruncationDegradation, SliceProfileDegradation
from medsr.formation.formation import FULLY_ACQUIRED
from medsr.geometry import Scale, world_axes

_SAME_SPACING = 0.01  # an image whose spacing differs by more than this part is not the one that was acquired
_WIDTHS = (0.2, 3.0)  # slice thickness over slice distance that a scanner can have
_LEAST_PART = 0.2  # of k-space; less is a mistake in the header
_DIGITS = 4  # of widths and fractions: spacings have the rounding of decimal text and float32
_SOFT_FWHM_MM = 0.9  # in-plane point spread of soft CT kernels; the narrow end of about 0.9 to 1.5 mm
# Kernels by their vendors' names: Siemens B30f, Br40d, I70f, ...; Canon FC08, FC52; Philips A to E, L, YA; GE by words.
_SHARP = re.compile(r"([BHIJQTUD][a-z]{0,2}[5-9]\d|FC[3-9]\d|Y[A-D]$|[DEL]$|LUNG|BONE|EDGE|ULTRA|SHARP)", re.IGNORECASE)
_SOFT = re.compile(r"([BHIJQTUD][a-z]{0,2}[1-4]\d|FC[01]\d|U?[ABC]$|STANDARD|STND|SOFT|SMOOTH|BRAIN)", re.IGNORECASE)


@dataclass(frozen=True)
class AxisFormation:
    """The formation of one axis.

    Attributes:
        degradation: The map from HR to LR, or None where the source says nothing that can be used.
        reason: A sentence.
        acquired: The fraction of the Nyquist frequency that was acquired; None if it is not known.
    """

    degradation: Degradation | None
    reason: str
    acquired: float | None = None


def formation_from_header(
    acquisition: Mapping[str, Any] | Acquisition, scale: Scale, spacing: Sequence[float], affine: Any = None
) -> list[AxisFormation | None]:
    """Return the formation of each enlarged axis, as far as the header supports one.

    - MR, 3D: truncated k-space along every axis. Slices that overlap are zero-filled.
    - MR, 2D: truncated k-space within the slices, and across them a Gaussian profile whose FWHM is the slice thickness.
    - CT: within the slices a Gaussian for soft kernels (0.9 mm, at most a voxel), truncated k-space for sharp ones;
      across them a Gaussian profile of the slice thickness.
    - Where fewer samples were acquired than the image has voxels, k-space ends there.

    Args:
        acquisition: The facts, as `medsr.data.acquisition.Acquisition` describes them.
        scale: The scale of each axis of the image.
        spacing: Its spacing in mm.
        affine: Its voxel-to-world affine, where its axes may be in another order than they were read.

    Returns:
        One entry per axis: None where the scale is 1; an entry without degradation where it must be estimated.
    """
    facts = dict(acquisition.facts if isinstance(acquisition, Acquisition) else acquisition)
    order = _order(facts, affine)
    found: list[AxisFormation | None] = []
    for axis, (step, factor) in enumerate(zip(spacing, scale, strict=True)):
        if factor == 1:
            found.append(None)
        elif not _as_acquired(facts, order[axis], step):
            found.append(
                AxisFormation(None, f"axis {axis} was resampled after the acquisition that the header describes")
            )
        else:
            taken = _of_axis(facts, order[axis], float(step))
            found.append(AxisFormation(taken.degradation, f"axis {axis}: {taken.reason}", taken.acquired))
    return found


def _order(facts: Mapping[str, Any], affine: Any) -> list[int]:
    """Return for each axis of the image the axis as it was read."""
    if affine is None or "affine" not in facts:
        return [0, 1, 2]
    read, now = (world_axes(matrix)[0].tolist() for matrix in (facts["affine"], affine))
    return [read.index(world) for world in now]


def _as_acquired(facts: Mapping[str, Any], axis: int, spacing: float) -> bool:
    stated = facts.get("spacing")
    return stated is None or abs(stated[axis] - spacing) <= _SAME_SPACING * stated[axis]


def _of_axis(facts: Mapping[str, Any], axis: int, spacing: float) -> AxisFormation:
    modality, kind = str(facts.get("modality", "")).upper(), str(facts.get("type", "")).upper()
    through = axis == facts.get("through_plane")
    if modality == "CT":
        return _slice(facts, spacing) if through else _kernel(facts, spacing)
    if kind not in ("2D", "3D") or modality not in ("MR", ""):
        return AxisFormation(
            None, f"the header says no MR acquisition type ({modality or 'no'} modality, {kind or 'no'} type)"
        )
    if kind == "2D":
        return _slice(facts, spacing) if through else _kspace(facts, axis, "2D MR, within the slices")
    return _partitions(facts, axis, spacing) if through else _kspace(facts, axis, "3D MR")


def _kspace(facts: Mapping[str, Any], axis: int, what: str) -> AxisFormation:
    """Truncated k-space, zero-filled where fewer samples were acquired than there are voxels."""
    samples = (facts.get("samples") or (None, None, None))[axis]
    voxels = (facts.get("shape") or (None, None, None))[axis]
    if not samples or not voxels:
        return AxisFormation(KspaceTruncationDegradation(), f"{what}: truncated k-space")
    part = round(samples / voxels, _DIGITS)
    if part < _LEAST_PART:
        return AxisFormation(None, f"{samples:g} acquired samples for {voxels} voxels contradict each other")
    if part >= FULLY_ACQUIRED:
        return AxisFormation(
            KspaceTruncationDegradation(), f"{what}: truncated k-space, {samples:.4g} samples acquired", 1.0
        )
    reason = f"{what}: truncated k-space, zero-filled from {samples:.4g} acquired samples to {voxels} voxels"
    return AxisFormation(KspaceTruncationDegradation(extent=part), reason, part)


def _partitions(facts: Mapping[str, Any], axis: int, spacing: float) -> AxisFormation:
    thickness = facts.get("slice_thickness")
    counted = (facts.get("samples") or (None, None, None))[axis]
    part = round(spacing / thickness, _DIGITS) if thickness else 1.0
    if counted or part >= FULLY_ACQUIRED:
        return _kspace(facts, axis, "3D MR, across the slices")
    if part < _LEAST_PART:
        return AxisFormation(None, f"slices of {thickness:g} mm every {spacing:.3g} mm contradict each other")
    reason = f"3D MR, across the slices: {thickness:g} mm partitions, zero-filled to one every {spacing:.3g} mm"
    return AxisFormation(KspaceTruncationDegradation(extent=part), reason, part)


def _slice(facts: Mapping[str, Any], spacing: float) -> AxisFormation:
    thickness = facts.get("slice_thickness")
    if not thickness:
        return AxisFormation(None, "the header gives no slice thickness")
    width = round(thickness / spacing, _DIGITS)
    if not _WIDTHS[0] <= width <= _WIDTHS[1]:
        return AxisFormation(None, f"slices of {thickness:g} mm every {spacing:.3g} mm contradict each other")
    how = "with gaps" if width < 0.99 else "overlapping" if width > 1.01 else "side by side"
    stated = facts.get("slice_spacing")
    odd = "" if not stated or abs(stated - spacing) <= 0.02 * spacing else f" (the header says {stated:g} mm; not used)"
    reason = f"slices of {thickness:g} mm every {spacing:.3g} mm, {how}{odd}: a Gaussian profile of {width:.3g} voxels"
    return AxisFormation(SliceProfileDegradation(thickness=width), reason)


def _kernel(facts: Mapping[str, Any], spacing: float) -> AxisFormation:
    kernel = str(facts.get("kernel", "")).split("\\")[0].strip()
    if _SHARP.match(kernel):
        return AxisFormation(KspaceTruncationDegradation(), f"CT, kernel {kernel} is sharp: truncated k-space")
    if _SOFT.match(kernel):
        width = min(round(_SOFT_FWHM_MM / spacing, _DIGITS), 1.0)
        reason = f"CT, kernel {kernel} is soft: a Gaussian of {width:.3g} voxels"
        return AxisFormation(SliceProfileDegradation(fwhm=width), reason)
    return AxisFormation(None, f"CT, the kernel {kernel or '(none stated)'} is in no list of sharp or soft ones")
