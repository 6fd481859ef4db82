"""`medsr weights`: which weight files there are, whether they are intact, and how they get to where they belong."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "weights",
        help="list, verify and import weight files",
        description="Weight files of bundles, and public ones that losses and metrics use. Nothing is downloaded.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="every file known: what for, terms, source, hash, where it is")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=run_list)
    verifying = actions.add_parser("verify", help="compare hashes; status 1 if a file is not what it should be")
    verifying.add_argument("names", nargs="*", metavar="NAME", help="as listed; these must be present (default: all)")
    verifying.set_defaults(run=run_verify)
    importing = actions.add_parser("import", help="put files where medsr looks for them, by their hashes")
    importing.add_argument("files", nargs="*", type=Path, metavar="FILE")
    importing.add_argument(
        "--from-directory", type=Path, metavar="DIR", help="all known ones of its .pt and .pth files"
    )
    importing.set_defaults(run=run_import)
    recording = actions.add_parser("record", help="record the hashes of a bundle's models, as their maker")
    recording.add_argument("bundle", metavar="BUNDLE", help="name or folder of a bundle, or its folder of models")
    recording.set_defaults(run=run_record)


def run_list(arguments: argparse.Namespace) -> int:
    """Print every known file; only files that are present are hashed."""
    from medsr.bundle.weight_files import known_weight_files  # loads torch, which `medsr --help` need not wait for

    rows = [file.summary() for file in known_weight_files()]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        print(f"{row['name']}: {row['state']}")
        for key in ("purpose", "terms", "source", "bytes", "sha256", "path"):
            if row.get(key):
                print(f"  {key:<9}{row[key]}")
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    """Compare hashes; a line for each file."""
    from medsr.bundle.weight_files import known_weight_files

    faults = 0
    for file in known_weight_files(arguments.names):
        fault = file.fault(required=bool(arguments.names))
        if fault is not None:
            faults += 1
            print(f"medsr: error: {fault}", file=sys.stderr)
        elif file.present is None:
            print(f"{file.name}: absent, not needed unless asked for")
        else:
            print(f"{file.name}: {'intact' if file.sha256 else 'present, no hash recorded'}")
    return 1 if faults else 0


def run_import(arguments: argparse.Namespace) -> int:
    """Copy files to where they belong."""
    from medsr.bundle.weight_files import recognise

    folder = arguments.from_directory
    found = recognise([path.expanduser() for path in arguments.files], folder and folder.expanduser())
    for path, file in found.files.items():
        file.place(path)
        print(f"{file.name}: {file.target}")
    if found.others:
        print(f"medsr: {found.others} other file(s) of {folder} passed over", file=sys.stderr)
    return 0


def run_record(arguments: argparse.Namespace) -> int:
    """Write the hashes of a bundle's models."""
    from medsr.bundle.weight_files import write_bundle_hashes

    print(write_bundle_hashes(arguments.bundle))
    return 0
