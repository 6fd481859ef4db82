"""`medsr weights`: list, verify, import and record weight files."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `medsr weights list`, `verify`, `import` and `record` to the command line."""
    parser = subparsers.add_parser(
        "weights",
        help="list, verify and import weight files",
        description="Manage the weight files of bundles, and the public ones that losses and metrics use. Nothing is "
        "downloaded.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list every known file: purpose, terms, source, hash, location")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=run_list)
    verifying = actions.add_parser("verify", help="compare hashes; status 1 if a file does not match")
    verifying.add_argument(
        "names", nargs="*", metavar="NAME", help="files by their listed names, which must be present (default: all)"
    )
    verifying.set_defaults(run=run_verify)
    importing = actions.add_parser("import", help="recognise files by their hashes, and copy them to their places")
    importing.add_argument("files", nargs="*", type=Path, metavar="FILE", help="weight files to import")
    importing.add_argument(
        "--from-directory", type=Path, metavar="DIR", help="import all known .pt and .pth files of this folder"
    )
    importing.set_defaults(run=run_import)
    recording = actions.add_parser("record", help="record the hashes of a bundle's models, for makers of bundles")
    recording.add_argument("bundle", metavar="BUNDLE", help="name or folder of a bundle, or its folder of models")
    recording.set_defaults(run=run_record)


def run_list(arguments: argparse.Namespace) -> int:
    """Print every known file with its state."""
    from medsr.bundle.weight_files import known_weight_files  # imported here because it loads torch

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
    """Compare hashes, and print a line for each file; return 1 if a file does not match, else 0."""
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
    """Copy files to their places, and print these."""
    from medsr.bundle.weight_files import recognise

    folder = arguments.from_directory
    found = recognise([path.expanduser() for path in arguments.files], folder and folder.expanduser())
    for path, file in found.files.items():
        file.place(path)
        print(f"{file.name}: {file.target}")
    if found.others:
        print(f"medsr: ignored {found.others} other file(s) of {folder}", file=sys.stderr)
    return 0


def run_record(arguments: argparse.Namespace) -> int:
    """Write the hashes of a bundle's models, and print the name of the file of hashes."""
    from medsr.bundle.weight_files import write_bundle_hashes

    print(write_bundle_hashes(arguments.bundle))
    return 0
