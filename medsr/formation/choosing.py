"""Choose the formation of an image: what the user states, else headers, else an estimate, else truncated k-space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor

from medsr.data.acquisition import Acquisition
from medsr.degradation import Degradation, KspaceTruncationDegradation, PerAxisDegradation
from medsr.errors import InputError
from medsr.formation.estimation import KSPACE, as_array, estimate_axis
from medsr.formation.formation import FULLY_ACQUIRED, Formation
from medsr.formation.headers import AxisFormation, formation_from_header
from medsr.formation.noise import noise_sigma
from medsr.formation.parsing import AUTO, parse_formation
from medsr.formation.spectra import acquired_fraction
from medsr.geometry import Scale, spacing_of
from medsr.transforms.intensity import OFFSET
from medsr.transforms.pairs import LR_SCALE

_AIR = -500.0  # Hounsfield units; no MR image has such values
# Reconstruction kernels leave CT images smoother than the MR images from which the decays were learnt: taken for blur,
# that cost up to 13 dB on slices of the LUAD test data.
_NO_CT = "the spectrum of a CT does not tell its kernel from its formation; truncated k-space is assumed"

# The noise that `auto` assumes at least. Smoothing and resampling hide noise from the estimate; where a blur is undone
# in such an image, its noise comes back enlarged. On a real 1 mm T1w head (resampled once, estimated noise 0) at 2x2x2
# the high-pass noise of flat tissue is 3.3 times a spline's without this, 2.0 times with 0.01, and 1.5 times with 0.02.
LEAST_NOISE = 0.02


def choose_formation(
    request: str | Mapping[str, Any] | Degradation | None, image: torch.Tensor, scale: Scale
) -> Formation | None:
    """Return the formation of an image that is to be enlarged.

    `auto` takes for each enlarged axis what the DICOM header or BIDS sidecar supports, else what the spectrum shows,
    else truncated k-space, the assumption that never loses. An image that was reduced after it was read (its `meta`
    has a recorded scale) is no longer what its header describes.

    Args:
        request: What the user asked for; see `parse_formation`. `auto` by default.
        image: (C, *spatial), normalised to about [0, 1]; of a MetaTensor the header and the affine count.
        scale: The SR scale per spatial axis; axes of scale 1 stay as they are.

    Returns:
        The formation with its reasons, or None if the user wants none or no axis is enlarged.

    Raises:
        InputError: If the request is not understood, or does not suit the axes of the image.
    """
    stated = parse_formation(request)
    axes = [axis for axis, factor in enumerate(scale) if factor != 1]
    if stated is None or not axes:
        return None
    values = as_array(image)
    acquired = tuple(acquired_fraction(values, axis) for axis in range(len(scale)))
    noise = noise_sigma(values, axes, acquired)
    if stated != AUTO:
        _check_axes(stated, axes, len(scale))
        return Formation(stated, "stated", ("stated by the user",), _stated_extents(stated, acquired), noise)

    noise = max(noise, LEAST_NOISE)
    found, source = _of_header(image, scale)
    hounsfield = _is_ct(image)
    degradations: list[Degradation | None] = []
    reasons: list[str] = list(_notes(image) if source else ())
    origins: set[str] = set()
    parts = list(acquired)
    for axis, factor in enumerate(scale):
        if factor == 1:
            degradations.append(None)
            continue
        taken, estimated = found[axis], estimate_axis(values, axis, noise, acquired[axis])
        if hounsfield and acquired[axis] >= FULLY_ACQUIRED:
            estimated = AxisFormation(None, f"axis {axis}: {_NO_CT}", 1.0)
        if taken is not None and taken.degradation is None:
            reasons.append(taken.reason)
        if taken is None or taken.degradation is None:
            taken, origin = estimated, "assumed" if estimated.degradation is None else "estimated"
        elif taken.degradation == KSPACE and taken.acquired is None and acquired[axis] < FULLY_ACQUIRED:
            reason = f"{taken.reason}; {estimated.reason.removeprefix(f'axis {axis}: ')}"
            taken, origin = AxisFormation(estimated.degradation, reason, acquired[axis]), source
        else:
            origin = source
        degradations.append(taken.degradation or KSPACE)
        reasons.append(taken.reason)
        origins.add(origin)
        parts[axis] = acquired[axis] if taken.acquired is None else taken.acquired
    best = next(name for name in ("header", "sidecar", "estimated", "assumed") if name in origins)
    return Formation(PerAxisDegradation(axes=tuple(degradations)), best, tuple(reasons), tuple(parts), noise)


def _of_header(image: torch.Tensor, scale: Scale) -> tuple[Sequence[AxisFormation | None], str]:
    """Return what the header supports for each axis, and where it stands; nothing and "" where there is none."""
    facts = _facts(image)
    if not facts or len(scale) != 3 or not isinstance(image, MetaTensor):
        return [None] * len(scale), ""
    affine = image.affine.cpu().numpy()
    return formation_from_header(facts, scale, spacing_of(affine), affine), str(facts.get("source", "header"))


def _is_ct(image: torch.Tensor) -> bool:
    """Return whether an image is a CT, by its header or by values that can only be Hounsfield units."""
    meta = getattr(image, "meta", {})
    offset = meta.get(OFFSET, 0.0)
    lowest = min(offset) if isinstance(offset, list | tuple) else float(offset)
    modality = Acquisition.of(meta).facts.get("modality") or meta.get("modality")
    return modality == "CT" or (not modality and lowest <= _AIR)


def _facts(image: torch.Tensor) -> Mapping[str, Any]:
    meta = getattr(image, "meta", {})
    return {} if LR_SCALE in meta else Acquisition.of(meta).facts


def _notes(image: torch.Tensor) -> Sequence[str]:
    return tuple(_facts(image).get("notes", ()))


def _check_axes(stated: Degradation, axes: Sequence[int], ndim: int) -> None:
    if not isinstance(stated, PerAxisDegradation):
        return
    if len(stated.axes) != ndim:
        raise InputError(f"expected a formation for each of {ndim} axes, got {len(stated.axes)}; write one, or {ndim}")
    for axis in axes:
        if stated.axes[axis] is None:
            raise InputError(f"axis {axis} is enlarged, but its formation is none; state one, or none for all axes")


def _stated_extents(stated: Degradation, acquired: tuple[float, ...]) -> tuple[float, ...]:
    """Return the acquired fraction per axis, where the user says it as said."""
    axes = stated.axes if isinstance(stated, PerAxisDegradation) else (stated,) * len(acquired)
    return tuple(
        min(axis.extent, part) if isinstance(axis, KspaceTruncationDegradation) else part
        for axis, part in zip(axes, acquired, strict=True)
    )
