"""Make the record beside every result: input, method, weights, settings and warnings."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medsr.data.provenance import Provenance
from medsr.files.hashes import sha256_of
from medsr.formation import Formation
from medsr.geometry import Grid, Scale, format_scale
from medsr.inferers.guards import Guards
from medsr.version import __version__
from medsr.weights import read_hashes

DISCLAIMER = (
    "Research use only. Not a medical device. Super-resolved detail is inferred, not measured; not for diagnosis."
)
_PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom")


def input_record(source: str | Path, provenance: Provenance | None = None) -> dict[str, Any]:
    """Return the name and the hash of an input.

    Args:
        source: The input file or folder.
        provenance: The provenance of the image, if it is known; its hash is that of the data that were read.

    Returns:
        The entries `name` and `sha256`; the hash is None if the source does not exist.
    """
    path = Path(source)
    if provenance is not None:
        return {"name": path.name, "sha256": provenance.sha256}
    return {"name": path.name, "sha256": sha256_of(path) if str(source) and path.exists() else None}


def versions() -> dict[str, str]:
    """Return the versions of medsr, Python and the packages that results depend on."""
    found = {"medsr": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def grid_record(grid: Grid) -> dict[str, Any]:
    """Return the size, the spacing (mm) and the affine of a grid in full precision, which not every format keeps."""
    return {"shape": list(grid.shape), "spacing_mm": list(grid.spacing), "affine": grid.affine.tolist()}


def trained_range_warnings(
    trained_on: Mapping[str, Any],
    lr: Grid,
    sr: Grid,
    scale: Scale,
    intensity: tuple[float, float] | None = None,
) -> list[str]:
    """Return a warning for each property of a request that is outside the range of the training data.

    Args:
        trained_on: The entry `trained_on` of the bundle's metadata: `sr_spacing_mm` (low, high), `largest_scale`,
            `smallest_size` (LR voxels), `intensity` (low, high, normalised). Absent values are not checked.
        lr: The grid of the input.
        sr: The grid of the result.
        scale: The requested scale.
        intensity: The smallest and the largest value of the normalised input.
    """
    warnings = []
    if "sr_spacing_mm" in trained_on:
        low, high = trained_on["sr_spacing_mm"]
        if min(sr.spacing) < low or max(sr.spacing) > high:
            made = "x".join(f"{v:.3g}" for v in sr.spacing)
            warnings.append(f"the result's spacing {made} mm is outside the trained range of {low:g} to {high:g} mm")
    if "largest_scale" in trained_on and max(scale) > trained_on["largest_scale"]:
        warnings.append(
            f"the scale {format_scale(scale)} is above the largest trained one ({trained_on['largest_scale']:g})"
        )
    if "smallest_size" in trained_on and min(lr.shape) < trained_on["smallest_size"]:
        warnings.append(f"the size {lr.shape} is below the smallest trained one ({trained_on['smallest_size']} voxels)")
    if "intensity" in trained_on and intensity is not None:
        low, high = trained_on["intensity"]
        if intensity[0] < low or intensity[1] > high:
            warnings.append(
                f"the normalised intensities range from {intensity[0]:.3g} to {intensity[1]:.3g}, outside the trained "
                f"range of {low:g} to {high:g}; look for a few extreme voxels, or choose weights for this kind of image"
            )
    return warnings


def make_record(
    *,
    source: str,
    metadata: Mapping[str, Any],
    weights: str | Path | None,
    lr: Grid,
    sr: Grid,
    scale: Scale,
    intensity: Mapping[str, Any],
    settings: Mapping[str, Any],
    seconds: float,
    tiles: int,
    warnings: list[str],
    provenance: Provenance | None = None,
    formation: Formation | None = None,
    guards: Guards | None = None,
) -> dict[str, Any]:
    """Return a record of all that is needed to understand and to repeat how a result was made, as JSON values.

    Args:
        source: The input file or folder; it is hashed if it exists.
        metadata: The content of the bundle's `metadata.json`.
        weights: The weight file; it is hashed if it exists.
        lr: The grid of the input.
        sr: The grid of the result.
        scale: The scale of each axis, as exact fractions.
        intensity: The offset and the scale of the normalisation.
        settings: The device, the precision and other options of the inferer.
        seconds: The time that the inferer took.
        tiles: The number of tiles.
        warnings: The warnings of the whole run.
        provenance: The provenance of the source, if the image was read from it.
        formation: The formation that the result obeys; None if it obeys none.
        guards: What users look at in the result, measured; None if it was not.
    """
    weight_file = Path(weights) if weights else None
    return {
        "medsr": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "input": input_record(source, provenance),
        "method": {
            "bundle": metadata.get("name", ""),
            "version": metadata.get("version", ""),
            **_weights(weight_file),
        },
        "scale": [str(s) for s in scale],
        "lr_grid": grid_record(lr),
        "sr_grid": grid_record(sr),
        "intensity": dict(intensity),
        "formation": None if formation is None else formation.to_dict(),
        "settings": dict(settings),
        "seconds": round(seconds, 3),
        "tiles": tiles,
        "guards": None if guards is None else guards.to_dict(),
        "versions": versions(),
        "warnings": list(warnings),
        "disclaimer": DISCLAIMER,
    }


def _weights(path: Path | None) -> dict[str, Any]:
    """Return the name and the hash of a weight file, and whether the bundle's list of hashes has the same hash."""
    exists = path is not None and path.exists()
    digest = sha256_of(path) if path and exists else None
    recorded = path is not None and digest is not None and read_hashes(path.parent).get(path.name) == digest
    return {"weights": path.name if path and exists else None, "weights_sha256": digest, "weights_recorded": recorded}
