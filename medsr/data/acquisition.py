"""Describe how an image was acquired, according to its DICOM header or its BIDS sidecar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medsr.carried import Carried
from medsr.files.suffixes import split_suffix
from medsr.geometry import check_affine, spacing_of

ACQUISITION = "acquisition"  # key of `meta`: an `Acquisition`, for every image that `VolumeReader` loads

_LARGEST_SIDECAR = 4 << 20  # bytes; a sidecar has some kilobytes, and a larger file is not one


@dataclass(frozen=True, eq=False)
class Acquisition(Carried):
    """The known facts about the acquisition of an image.

    Attributes:
        facts: A plain dictionary, in which unknown facts are absent. Axes are those of the array as it was read, and
            lengths are in mm:

            - `source`: "header" (DICOM) or "sidecar" (BIDS).
            - `modality`: "MR", "CT", ...
            - `type`: "2D" (slice by slice) or "3D".
            - `through_plane`: The axis across the slices.
            - `slice_thickness`, `slice_spacing`: The stated values; the true distance is that of the grid.
            - `samples`: The number of independent samples that were acquired over the extent of the image, for each
              axis, None if it is not known. Phase lines over a part of the field of view are extrapolated to all of it.
            - `shape`, `spacing`, `affine`: The grid as it was read.
            - `phase_axis`: The axis of the phase encoding.
            - `kernel`: The ConvolutionKernel of a CT.
            - `notes`: Sentences on missing and contradictory statements.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(meta: Mapping[str, Any]) -> Acquisition:
        """Return the acquisition of an image, without facts if none came with the image."""
        found = meta.get(ACQUISITION)
        return found if isinstance(found, Acquisition) else Acquisition({})


def on_grid(facts: dict[str, Any], shape: tuple[int, ...], affine: Any) -> Acquisition:
    """Return the acquisition of an image with this grid; unknown facts are dropped, and without facts it is empty."""
    known = {key: value for key, value in facts.items() if value not in (None, "", [])}
    if not set(known) - {"source", "notes"}:
        return Acquisition({})
    return Acquisition({**known, "shape": tuple(shape), "spacing": spacing_of(affine), "affine": check_affine(affine)})


def read_sidecar(path: Path, shape: tuple[int, ...], affine: Any) -> Acquisition:
    """Return the acquisition that the BIDS sidecar of a NIfTI file states, the file of the same name with .json.

    The result is empty if the sidecar is missing, damaged, or that of a derived image (`GeneratedBy`, `Sources`).

    Args:
        path: The image file.
        shape: The number of voxels on each axis.
        affine: The affine (4, 4) from voxel index to world coordinates, mm.
    """
    said = _json(path.with_name(f"{split_suffix(path)[0]}.json"))
    if not said or "GeneratedBy" in said or "Sources" in said:
        return Acquisition({})
    thickness, distance = _positive(said, "SliceThickness"), _positive(said, "SpacingBetweenSlices")
    phase = _axis(said.get("PhaseEncodingDirection") or said.get("PhaseEncodingAxis"))
    notes: list[str] = []
    samples: list[float | None] = [None, None, None]
    lines, reconstructed = _positive(said, "AcquisitionMatrixPE"), _positive(said, "ReconMatrixPE")
    if lines and reconstructed:
        if phase is None:
            notes.append("AcquisitionMatrixPE is given, but PhaseEncodingDirection is not")
        elif reconstructed != shape[phase]:
            notes.append(
                f"ReconMatrixPE is {reconstructed:g}, but the image has {shape[phase]} voxels along axis {phase}"
            )
        else:
            samples[phase] = lines
    if _positive(said, "PartialFourier") not in (None, 1.0):
        notes.append("partial Fourier sampling is completed by the reconstruction, so full resolution is assumed")
    slices = _axis(said.get("SliceEncodingDirection"))
    facts = {
        "source": "sidecar",
        "modality": _word(said, "Modality"),
        "type": _word(said, "MRAcquisitionType"),
        "through_plane": _through_plane(spacing_of(affine), distance or thickness) if slices is None else slices,
        "slice_thickness": thickness,
        "slice_spacing": distance,
        "samples": tuple(samples) if any(samples) else None,
        "phase_axis": phase,
        "kernel": _word(said, "ConvolutionKernel"),
        "notes": notes,
    }
    described = [facts[key] for key in ("type", "slice_thickness", "slice_spacing", "samples", "kernel")]
    return on_grid(facts, shape, affine) if any(described) else Acquisition({})


def _through_plane(spacing: tuple[float, ...], distance: float | None) -> int | None:
    """Return the axis across the slices: the only one whose spacing is their distance, else the last, by convention."""
    if distance is None:
        return 2
    alike = [axis for axis, step in enumerate(spacing) if abs(step - distance) <= 0.01 * distance]
    return alike[0] if len(alike) == 1 else 2


def _json(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_SIDECAR:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
    except (
        OSError,
        ValueError,
        RecursionError,
    ):  # the file is another program's, and a missing entry means "not known"
        return {}
    return content if isinstance(content, dict) else {}


def _positive(said: Mapping[str, Any], key: str) -> float | None:
    value = said.get(key)
    fine = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6
    return float(value) if fine else None  # type: ignore[arg-type]


def _word(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    if isinstance(value, list):
        value = value[0] if value else ""
    return value.strip()[:64] if isinstance(value, str) else ""


def _axis(direction: Any) -> int | None:
    """Return the array axis of a direction such as "j-"."""
    letter = direction[:1] if isinstance(direction, str) else ""
    return "ijk".index(letter) if letter and letter in "ijk" else None
