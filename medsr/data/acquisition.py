"""How an image was acquired, as its DICOM header or its BIDS sidecar says it."""

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

_LARGEST_SIDECAR = 4 << 20  # bytes; a description is some kilobytes, and what is larger is none


@dataclass(frozen=True, eq=False)
class Acquisition(Carried):
    """What is known about the acquisition of an image; see `facts` for the words.

    Attributes:
        facts: A plain dictionary without entries for what is not known. Axes are those of the array as it was read,
            lengths are in mm:

            - `source`: "header" (DICOM) or "sidecar" (BIDS).
            - `modality`: "MR", "CT", ...
            - `type`: "2D" (slice by slice) or "3D".
            - `through_plane`: The axis across the slices.
            - `slice_thickness`, `slice_spacing`: As stated; the true distance is that of the grid.
            - `samples`: One number per axis, None where it is not known: how many independent samples were acquired
              over the extent of the image (phase lines of a part of the field of view are counted up to all of it).
            - `shape`, `spacing`, `affine`: The grid as it was read.
            - `phase_axis`: The axis of the phase encoding.
            - `kernel`: ConvolutionKernel of a CT.
            - `notes`: Sentences on what is missing or contradicts itself.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(meta: Mapping[str, Any]) -> Acquisition:
        """Return the acquisition of an image, one without facts where none came with it."""
        found = meta.get(ACQUISITION)
        return found if isinstance(found, Acquisition) else Acquisition({})


def on_grid(facts: dict[str, Any], shape: tuple[int, ...], affine: Any) -> Acquisition:
    """Return the acquisition of an image with this grid, without what is unknown; no facts give an empty one."""
    known = {key: value for key, value in facts.items() if value not in (None, "", [])}
    if not set(known) - {"source", "notes"}:
        return Acquisition({})
    return Acquisition({**known, "shape": tuple(shape), "spacing": spacing_of(affine), "affine": check_affine(affine)})


def read_sidecar(path: Path, shape: tuple[int, ...], affine: Any) -> Acquisition:
    """Return what the BIDS sidecar of a NIfTI file says: the file of the same name that ends in .json.

    A sidecar that is missing, damaged, or the record of a derived image (`GeneratedBy`, `Sources`) says nothing.

    Args:
        path: The image file.
        shape: Its voxels per axis.
        affine: Its voxel-to-world affine in mm.
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
        notes.append("partial Fourier sampling is completed by the reconstruction and taken for full resolution")
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
    """Return the axis across the slices: the only one with their distance, else the last, where the rule puts it."""
    if distance is None:
        return 2
    alike = [axis for axis, step in enumerate(spacing) if abs(step - distance) <= 0.01 * distance]
    return alike[0] if len(alike) == 1 else 2


def _json(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_SIDECAR:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # another program's file: what it does not say is not known
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
