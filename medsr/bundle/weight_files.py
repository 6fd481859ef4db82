"""The weight files of bundles and the public ones: their names, whether they are intact, and where they belong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from medsr.bundle.catalogue import Bundle, find_bundle, list_bundles
from medsr.errors import InputError, MedsrError
from medsr.networks.checkpoints import read_checkpoint
from medsr.weights import (
    EXTERNAL,
    ExternalFile,
    check_hash,
    directory,
    file_sha256,
    locate,
    place_copy,
    read_hashes,
    write_hashes,
)
from medsr.weights.store import check

_PATTERNS = ("[!.]*.pt", "[!.]*.pth")  # hidden files are left out, because they are still being written


@dataclass(frozen=True)
class WeightFile:
    """A weight file that may be on this computer.

    Attributes:
        name: The name, such as recnn3d/model.pt or vgg19-imagenet.
        target: The path where the file belongs.
        present: The path where the file is; None if it is absent.
        sha256: The SHA-256 that the file must have; None if it was not recorded.
        facts: The facts for users: purpose, terms, source, and size in bytes if known.
        entry: The entry in the catalogue of public files; None for a file of a bundle.
    """

    name: str
    target: Path
    present: Path | None
    sha256: str | None
    facts: dict[str, str]
    entry: ExternalFile | None = None

    def summary(self) -> dict[str, str | None]:
        """Return the facts about the file for a table; the file is hashed if it is present."""
        came = file_sha256(self.present) if self.present else None
        states = {None: "absent", self.sha256: "present, as recorded"}
        unlike = "CHANGED, see medsr weights verify" if self.sha256 else "present, no hash recorded"
        return {
            "name": self.name,
            "state": states.get(came, unlike),
            **self.facts,
            "sha256": self.sha256 or came,
            "path": str(self.present or self.target),
        }

    def fault(self, required: bool) -> str | None:
        """Return what is wrong with the file, or None.

        Args:
            required: Whether absence counts as a fault; for a file with a recorded hash in a bundle it always does.
        """
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

    def place(self, source: Path) -> None:
        """Copy a source file to where this weight file belongs, unless it is there already.

        Raises:
            InputError: If the source cannot be read, or is not this weight file.
            OutputError: If the copy cannot be written.
        """
        if self.sha256 is None:
            raise InputError(f"{source}: expected a file whose hash is recorded, got {self.name}; record it first")
        if not (self.target.exists() and self.target.samefile(source)):
            place_copy(source, self.target, self.sha256)


class Recognised(NamedTuple):
    """The known weight files among files on this computer, by their paths, and the number of the other files."""

    files: dict[Path, WeightFile]
    others: int


def known_weight_files(names: Sequence[str] = ()) -> list[WeightFile]:
    """Return the weight files of the installed bundles, then the public ones.

    Args:
        names: The names of the files to return; all by default.

    Raises:
        InputError: If a name is unknown.
    """
    files = {file.name: file for file in (*_of_bundles(), *_public())}
    for name in names:
        if name not in files:
            raise InputError(f"no weight file is called {name!r}; known are {', '.join(files)}")
    return [file for name, file in files.items() if not names or name in names]


def _of_bundles() -> Iterator[WeightFile]:
    for bundle in list_bundles():
        folder = bundle.weights.parent
        recorded = read_hashes(folder)
        present = {path.name for path in folder.glob("[!.]*.pt")} if folder.is_dir() else set()
        facts = _facts(bundle)
        for file in sorted({*recorded, *present, bundle.weights.name}):
            path = folder / file
            name = f"{bundle.name}/{file}"
            yield WeightFile(name, path, path if file in present else None, recorded.get(file), facts)


def _facts(bundle: Bundle) -> dict[str, str]:
    return {
        "purpose": str(bundle.metadata.get("description", "")),
        "terms": str(bundle.metadata.get("licence", "?")),
        "source": f"the release of medsr that has bundle {bundle.name}",
    }


def _public() -> Iterator[WeightFile]:
    for entry in EXTERNAL.values():
        facts = {"purpose": entry.purpose, "terms": entry.terms, "source": entry.source, "bytes": f"{entry.size:,}"}
        yield WeightFile(entry.name, directory() / entry.file, locate(entry), entry.sha256, facts, entry)


def recognise(files: Sequence[Path], folder: Path | None = None) -> Recognised:
    """Find out by their hashes which weight files some files are, whatever their names.

    Args:
        files: The paths of files, each of which must be known.
        folder: A folder, of whose .pt and .pth files the known ones are taken.

    Raises:
        InputError: If neither is given, a file is unknown or cannot be read, or the folder has no known file.
    """
    if not files and folder is None:
        raise InputError("expected files to import, or --from-directory DIR, got neither; give one of them")
    found = _in_folder(folder) if folder is not None else []
    known = {file.sha256: file for file in known_weight_files() if file.sha256}
    chosen: dict[Path, WeightFile] = {}
    for path in (*files, *found):
        match = known.get(file_sha256(path))
        if match is not None:
            chosen[path] = match
        elif path in files:
            raise InputError(_unknown(path, list(known.values())))
    if not chosen:
        raise InputError(f"{folder}: expected a known weight file, got {len(found)} other(s); see medsr weights list")
    return Recognised(chosen, len(found) - sum(path in chosen for path in found))


def _in_folder(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of weight files, got none; check the path")
    return sorted(path for pattern in _PATTERNS for path in folder.glob(pattern) if path.is_file())


def _unknown(path: Path, known: Sequence[WeightFile]) -> str:
    """Return why a file is refused: a file with the name of a known one is damaged, or another version."""
    for file in known:
        if path.name == file.target.name and file.entry is not None:
            return f"{path} is not {file.name}: its hash is another; fetch it again from {file.facts['source']}"
    return (
        f"{path} is not a weight file whose hash medsr knows, see medsr weights list; a network of your own needs "
        "no import: medsr upscale --weights FILE"
    )


def write_bundle_hashes(bundle: str | Path) -> Path:
    """Write the hashes of a bundle's weight files beside them, and return the file of hashes.

    It is for those who make the weights.

    Args:
        bundle: The name or folder of a bundle, or its folder of models.

    Raises:
        InputError: If there is no such bundle, or it has no weight files, or one of them holds something else.
        OutputError: If the file of hashes cannot be written.
    """
    folder = Path(bundle).expanduser()
    if folder.name != "models" or not folder.is_dir():
        folder = find_bundle(bundle).weights.parent
    files = sorted(folder.glob("[!.]*.pt"))
    if not files:
        raise InputError(f"{folder}: expected weight files (*.pt), got none; train the bundle first")
    for file in files:
        read_checkpoint(file)
    return write_hashes(folder, files)
