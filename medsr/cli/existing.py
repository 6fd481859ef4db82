"""Which results need not be made again: those whose record tells of the same request."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsr.outputs import OutputPaths

_SETTINGS = ("precision", "ensemble", "back_projection")  # beside the scale, what changes voxels on purpose


def wanted(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the record of a result must say to be that of this request: bundle, weights, scale or spacing, options.

    Raises:
        InputError: no such bundle or weight file.
    """
    from medsr.bundle import find_bundle
    from medsr.weights import file_sha256

    bundle = find_bundle(arguments.bundle)
    return {
        "contrasts": len(arguments.contrasts or ()),
        "bundle": bundle.metadata.get("name", ""),
        "version": bundle.metadata.get("version", ""),
        "weights_sha256": file_sha256(arguments.weights or bundle.weights),
        "scale": _plain(arguments.scale),
        "spacing": _plain(arguments.spacing),
        **{name: getattr(arguments, name) for name in _SETTINGS},
    }


def is_done(
    paths: OutputPaths, facts: Mapping[str, Any], *, consistency: bool = False, channel: int | None = None
) -> bool:
    """Whether a case has a result made as asked, with the maps that are asked for.

    Of several contrasts it must be the `channel` of the network that it is now. The input's content is not looked at:
    hashing it takes as long as enlarging a small image.
    """
    maps = [paths.deviation] * bool(facts["ensemble"]) + [paths.consistency] * consistency
    if not all(path.exists() for path in (paths.image, *maps)):
        return False
    return _made(paths.record) == {**facts, "channel": channel} and (paths.image.is_file() or _is_whole(paths))


def _is_whole(paths: OutputPaths) -> bool:
    """Whether a folder has as many images as its record says."""
    record = json.loads(paths.record.read_text(encoding="utf-8"))
    stated = {**record.get("dicom", {}), **record.get("pictures", {})}.get("images")
    return stated == sum(1 for _ in paths.image.iterdir())


def _made(path: Path) -> dict[str, Any] | None:
    """What a record says; None for one that is none, or is an older program's."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        method, settings = record["method"], record["settings"]
        request = settings["request"]
        return {
            **{name: method[name] for name in ("bundle", "version", "weights_sha256")},
            "scale": _plain(request["scale"]),
            "spacing": _plain(request["spacing"]),
            **{name: settings[name] for name in _SETTINGS},
            "contrasts": len(record.get("inputs", ())),
            "channel": record.get("channel"),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _plain(values: Any) -> tuple[float, ...] | None:
    """Numbers as one where they are all the same: 2 is 2 2 2."""
    if values is None:
        return None
    numbers = tuple(float(Fraction(str(v))) for v in (values if isinstance(values, list | tuple) else [values]))
    return numbers[:1] if len(set(numbers)) == 1 else numbers
