"""`medsr bundles`: what is installed."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from medsr.errors import InputError

if TYPE_CHECKING:
    from medsr.bundle import Bundle


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("bundles", help="list installed bundles")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    from medsr.bundle import list_bundles  # loads torch, which `medsr --help` need not wait for

    rows = [describe(bundle) for bundle in list_bundles()]
    if not rows:
        raise InputError("no bundle is installed; set MEDSR_BUNDLES to a folder of bundles")
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        print(f"{row['name']} {row['version']}: {row['description']}")
        for key in ("dimensions", "scales", "modality", "licence", "weights", "test"):
            print(f"  {key:<11}{row[key]}")
    return 0


def describe(bundle: Bundle) -> dict[str, Any]:
    """What a user chooses a bundle by."""
    metadata = bundle.metadata
    trained_on = metadata.get("trained_on", {})
    return {
        "name": bundle.name,
        "version": metadata.get("version", "?"),
        "description": metadata.get("description", ""),
        "dimensions": trained_on.get("dimensions", "?"),
        "scales": trained_on.get("scales", "?"),
        "modality": trained_on.get("modality", "?"),
        "licence": metadata.get("licence", "?"),
        "weights": "present" if bundle.weights.is_file() else "absent (train the bundle)",
        "test": metadata.get("test_summary", "not measured"),
        "path": str(bundle.root),
    }
