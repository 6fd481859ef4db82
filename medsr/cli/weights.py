"""`medsr weights`: which weight files there are, whether they are intact, and how they get to where they belong."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsr.errors import InputError, MedsrError

if TYPE_CHECKING:  # imported where needed: they load torch, which `medsr --help` need not wait for
    from medsr.bundle import Bundle
    from medsr.weights import ExternalFile

_PATTERNS = ("*.pt", "*.pth")


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


@dataclass(frozen=True)
class Known:
    """A weight file that may be on this computer.

    Attributes:
        name: such as recnn3d/model.pt or vgg19-imagenet.
        target: where it belongs.
        present: where it is.
        sha256: that it must have; None for one that nobody recorded.
        facts: for people.
        entry: of the catalogue, if it is no bundle's.
    """

    name: str
    target: Path
    present: Path | None
    sha256: str | None
    facts: dict[str, str]
    entry: ExternalFile | None = None

    def fault(self, required: bool) -> str | None:
        """What is wrong with it, or None."""
        from medsr.weights import check_hash
        from medsr.weights.store import check

        if self.present is None:
            expected = required or (self.entry is None and self.sha256 is not None)
            how = f"get it from {self.facts['source']}, then run: medsr weights import FILE"
            return f"{self.name}: {self.target} is missing; {how}" if expected else None
        try:
            if self.entry is not None:
                check(self.entry, self.present)
            else:
                check_hash(self.present)
        except MedsrError as error:
            return f"{self.name}: {error}"
        return None


def known_files() -> Iterator[Known]:
    """Files of the installed bundles, then the public ones."""
    from medsr.bundle import list_bundles
    from medsr.weights import EXTERNAL, directory, locate

    for bundle in list_bundles():
        yield from _of_bundle(bundle)
    for entry in EXTERNAL.values():
        facts = {"purpose": entry.purpose, "terms": entry.terms, "source": entry.source, "bytes": f"{entry.size:,}"}
        yield Known(entry.name, directory() / entry.file, locate(entry), entry.sha256, facts, entry)


def _of_bundle(bundle: Bundle) -> Iterator[Known]:
    from medsr.weights import read_hashes

    folder = bundle.weights.parent
    recorded = read_hashes(folder)
    present = {path.name for path in folder.glob("*.pt")} if folder.is_dir() else set()
    facts = {
        "purpose": str(bundle.metadata.get("description", "")),
        "terms": str(bundle.metadata.get("licence", "?")),
        "source": f"the release of medsr that has bundle {bundle.name}",
    }
    for file in sorted({*recorded, *present, bundle.weights.name}):
        path = folder / file
        yield Known(f"{bundle.name}/{file}", path, path if file in present else None, recorded.get(file), facts)


def run_list(arguments: argparse.Namespace) -> int:
    """Print every known file; only files that are present are hashed."""
    rows = [_row(file) for file in known_files()]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        print(f"{row['name']}: {row['state']}")
        for key in ("purpose", "terms", "source", "bytes", "sha256", "path"):
            if row.get(key):
                print(f"  {key:<9}{row[key]}")
    return 0


def _row(file: Known) -> dict[str, Any]:
    from medsr.weights import file_sha256

    came = file_sha256(file.present) if file.present else None
    states = {None: "absent", file.sha256: "present, as recorded"}
    state = states.get(came, "CHANGED, see medsr weights verify" if file.sha256 else "present, no hash recorded")
    path = file.present or file.target
    return {"name": file.name, "state": state, **file.facts, "sha256": file.sha256 or came, "path": str(path)}


def run_verify(arguments: argparse.Namespace) -> int:
    """Compare hashes; a line for each file."""
    files = {file.name: file for file in known_files()}
    unknown = [name for name in arguments.names if name not in files]
    if unknown:
        raise InputError(f"no weight file is called {unknown[0]!r}; known are {', '.join(files)}")
    faults = 0
    for name, file in files.items():
        if arguments.names and name not in arguments.names:
            continue
        fault = file.fault(required=bool(arguments.names))
        if fault is not None:
            faults += 1
            print(f"medsr: error: {fault}", file=sys.stderr)
        elif file.present is None:
            print(f"{name}: absent, not needed unless asked for")
        else:
            print(f"{name}: {'intact' if file.sha256 else 'present, no hash recorded'}")
    return 1 if faults else 0


def run_import(arguments: argparse.Namespace) -> int:
    """Copy files to where they belong."""
    from medsr.weights import file_sha256, place_copy

    files = [Path(file).expanduser() for file in arguments.files]
    folder = arguments.from_directory
    found = _weight_files(Path(folder).expanduser()) if folder else []
    if not files and not folder:
        raise InputError("expected files to import, or --from-directory DIR; got neither")
    known = {file.sha256: file for file in known_files() if file.sha256}
    chosen: dict[Path, Known] = {}
    for path in (*files, *found):
        match = known.get(file_sha256(path))
        if match is not None:
            chosen[path] = match
        elif path in files:
            raise InputError(_unknown(path, list(known.values())))
    if not chosen:
        raise InputError(f"{folder}: expected a known weight file, got {len(found)} other(s); see medsr weights list")
    for path, file in chosen.items():
        assert file.sha256 is not None  # it was found by it
        if not (file.target.exists() and file.target.samefile(path)):
            place_copy(path, file.target, file.sha256)
        print(f"{file.name}: {file.target}")
    passed = len(found) - sum(path in chosen for path in found)
    if passed:
        print(f"medsr: {passed} other file(s) of {folder} passed over", file=sys.stderr)
    return 0


def _weight_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of weight files, got none; check the path")
    return sorted(path for pattern in _PATTERNS for path in folder.glob(pattern) if path.is_file())


def _unknown(path: Path, known: list[Known]) -> str:
    """Why a file is refused: one that has the name of a known one is damaged, or another version."""
    for file in known:
        if path.name == file.target.name and file.entry is not None:
            return f"{path} is not {file.name}: its hash is another; fetch it again from {file.facts['source']}"
    return (
        f"{path} is no weight file that medsr knows by its hash, see medsr weights list; a network of your own needs "
        "no import: medsr upscale --weights FILE"
    )


def run_record(arguments: argparse.Namespace) -> int:
    """Write the hashes of a bundle's models."""
    from medsr.bundle import find_bundle
    from medsr.networks.checkpoints import read_checkpoint
    from medsr.weights import write_hashes

    folder = Path(arguments.bundle).expanduser()
    if folder.name != "models" or not folder.is_dir():
        folder = find_bundle(arguments.bundle).weights.parent
    files = sorted(folder.glob("*.pt"))
    if not files:
        raise InputError(f"{folder}: expected weight files (*.pt), got none; train the bundle first")
    for file in files:
        read_checkpoint(file)
    print(write_hashes(folder, files))
    return 0
