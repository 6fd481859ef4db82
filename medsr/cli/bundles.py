"""`medsr bundles`: list the installed bundles."""

from __future__ import annotations

import argparse
import json

from medsr.bundle import list_bundles
from medsr.errors import InputError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `medsr bundles` to the command line."""
    parser = subparsers.add_parser("bundles", help="list installed bundles")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the installed bundles.

    Raises:
        InputError: If no bundle is installed.
    """
    rows = [bundle.summary() for bundle in list_bundles()]
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
