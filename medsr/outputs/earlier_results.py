"""Find results that need not be made again because their records state the same request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from medsr.inferers.between_scales import REFUSE
from medsr.inferers.formed import as_asked
from medsr.outputs.naming import OutputPaths
from medsr.weights import file_sha256


@dataclass(frozen=True)
class Making:
    """The options that determine the voxels of a result, as its record states them.

    Attributes:
        bundle: The name of the bundle.
        version: The version of the bundle.
        weights_sha256: The SHA-256 of the weight file.
        scale: The requested scale; one number if it is the same on every axis.
        spacing: The spacing (mm) that was requested instead of a scale.
        precision: The precision of the network.
        ensemble: Whether the results of flipped inputs were averaged.
        formation: The formation as it was asked for.
        safe: Whether the interpolated image was to replace a result that looks worse.
        between_scales: How scales that the network was not built for are treated.
        contrasts: The number of contrasts that are channels of one image; 0 for a single image.
        channel: The index of this result's contrast.
    """

    bundle: str
    version: str
    weights_sha256: str
    scale: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    precision: str
    ensemble: bool
    formation: str = "null"
    safe: bool = False
    between_scales: str = REFUSE
    contrasts: int = 0
    channel: int | None = None

    @classmethod
    def asked(
        cls, metadata: Mapping[str, Any], weights: str | Path, settings: Mapping[str, Any], contrasts: int = 0
    ) -> Making:
        """Return the options of a request.

        Args:
            metadata: The metadata of the bundle.
            weights: The weight file.
            settings: The entries of the bundle's `inference.json`.
            contrasts: The number of contrasts that are channels of one image.
        """
        return cls(
            metadata.get("name", ""),
            metadata.get("version", ""),
            file_sha256(weights),
            _plain(settings["scale"]),
            _plain(settings["spacing"]),
            **{name: settings[name] for name in ("precision", "ensemble")},
            formation=_words(as_asked(settings.get("formation"))),
            safe=bool(settings.get("safe")),
            between_scales=settings.get("between_scales", REFUSE),
            contrasts=contrasts,
        )

    @classmethod
    def recorded(cls, path: Path) -> Making | None:
        """Return the options that a record states, None if the file is not a record or is one of an older version."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            method, settings = record["method"], record["settings"]
            return cls(
                **{name: method[name] for name in ("bundle", "version", "weights_sha256")},
                scale=_plain(settings["request"]["scale"]),
                spacing=_plain(settings["request"]["spacing"]),
                **{name: settings[name] for name in ("precision", "ensemble")},
                formation=_words(settings["formation"]),
                safe=settings["safe"],
                between_scales=settings.get("between_scales", REFUSE),
                contrasts=len(record.get("inputs", ())),
                channel=record.get("channel"),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _words(formation: Any) -> str:
    """Return a formation as text that is the same for the same formation."""
    return json.dumps(formation, sort_keys=True)


def is_made(paths: OutputPaths, making: Making, *, consistency: bool = False, channel: int | None = None) -> bool:
    """Return whether a result exists, was made with the requested options, and has the requested maps.

    The content of the input is not compared, because hashing it takes as long as enlarging a small image.

    Args:
        paths: The paths of the result.
        making: The requested options. If flips are averaged, the map of deviations must exist too.
        consistency: Whether the consistency map must exist too.
        channel: The index that the result's contrast must have, if the image has several.
    """
    maps = [paths.deviation] * making.ensemble + [paths.consistency] * consistency
    if not all(path.exists() for path in (paths.image, *maps)):
        return False
    made = Making.recorded(paths.record)
    return made == replace(making, channel=channel) and (paths.image.is_file() or _is_whole(paths))


def _is_whole(paths: OutputPaths) -> bool:
    """Return whether a folder has as many images as its record states."""
    record = json.loads(paths.record.read_text(encoding="utf-8"))
    stated = {**record.get("dicom", {}), **record.get("pictures", {})}.get("images")
    return stated == sum(1 for _ in paths.image.iterdir())


def _plain(values: Any) -> tuple[float, ...] | None:
    """Return the numbers as a tuple, with one element if they are all equal: (2, 2, 2) is (2,)."""
    if values is None:
        return None
    numbers = tuple(float(Fraction(str(v))) for v in (values if isinstance(values, list | tuple) else [values]))
    return numbers[:1] if len(set(numbers)) == 1 else numbers
