"""Find the results that need not be made again, because their record states the same request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from medsr.inferers.between_scales import REFUSE
from medsr.outputs.naming import OutputPaths
from medsr.weights import file_sha256


@dataclass(frozen=True)
class Making:
    """Everything that changes the voxels of a result on purpose, as its record states it.

    Attributes:
        bundle: Its name.
        version: Its version.
        weights_sha256: The SHA-256 of the weight file.
        scale: As asked for; one number where it is the same on every axis.
        spacing: As asked for instead (mm).
        precision: The precision of the network.
        ensemble: Whether flips were averaged.
        back_projection: The number of iterations.
        between_scales: What was to be done at scales that the network was not built for.
        contrasts: How many are channels of one image; 0 for an image of its own.
        channel: The number of this result's contrast among them.
    """

    bundle: str
    version: str
    weights_sha256: str
    scale: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    precision: str
    ensemble: bool
    back_projection: int
    between_scales: str = REFUSE
    contrasts: int = 0
    channel: int | None = None

    @classmethod
    def asked(
        cls, metadata: Mapping[str, Any], weights: str | Path, settings: Mapping[str, Any], contrasts: int = 0
    ) -> Making:
        """Return the making that a request asks for.

        Args:
            metadata: The bundle's.
            weights: The weight file.
            settings: The entries of the bundle's `inference.json`.
            contrasts: How many are channels of one image.
        """
        return cls(
            metadata.get("name", ""),
            metadata.get("version", ""),
            file_sha256(weights),
            _plain(settings["scale"]),
            _plain(settings["spacing"]),
            **{name: settings[name] for name in ("precision", "ensemble", "back_projection")},
            between_scales=settings.get("between_scales", REFUSE),
            contrasts=contrasts,
        )

    @classmethod
    def recorded(cls, path: Path) -> Making | None:
        """Return what a record says; None for one that is none, or is an older program's."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            method, settings = record["method"], record["settings"]
            return cls(
                **{name: method[name] for name in ("bundle", "version", "weights_sha256")},
                scale=_plain(settings["request"]["scale"]),
                spacing=_plain(settings["request"]["spacing"]),
                **{name: settings[name] for name in ("precision", "ensemble", "back_projection")},
                between_scales=settings.get("between_scales", REFUSE),
                contrasts=len(record.get("inputs", ())),
                channel=record.get("channel"),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def is_made(paths: OutputPaths, making: Making, *, consistency: bool = False, channel: int | None = None) -> bool:
    """Tell whether a result was made so, with the maps that are asked for.

    The input's content is not looked at: hashing it takes as long as enlarging a small image.

    Args:
        paths: The paths of the result.
        making: As asked for.
        consistency: Whether the map of consistency must be there too; that of deviations must where flips are averaged.
        channel: The number of the contrast that the result must be, of several.
    """
    maps = [paths.deviation] * making.ensemble + [paths.consistency] * consistency
    if not all(path.exists() for path in (paths.image, *maps)):
        return False
    made = Making.recorded(paths.record)
    return made == replace(making, channel=channel) and (paths.image.is_file() or _is_whole(paths))


def _is_whole(paths: OutputPaths) -> bool:
    """Tell whether a folder has as many images as its record says."""
    record = json.loads(paths.record.read_text(encoding="utf-8"))
    stated = {**record.get("dicom", {}), **record.get("pictures", {})}.get("images")
    return stated == sum(1 for _ in paths.image.iterdir())


def _plain(values: Any) -> tuple[float, ...] | None:
    """Numbers as one where they are all the same: 2 is 2 2 2."""
    if values is None:
        return None
    numbers = tuple(float(Fraction(str(v))) for v in (values if isinstance(values, list | tuple) else [values]))
    return numbers[:1] if len(set(numbers)) == 1 else numbers
