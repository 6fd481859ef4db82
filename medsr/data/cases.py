"""A dataset folder read through its manifest: which layout it has, and which image belongs to whom."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medsr.data.manifests import FileRecord, Layout, Manifest
from medsr.errors import InputError


@dataclass(frozen=True)
class Case:
    """One image of a dataset that exists on disk.

    Attributes:
        path: POSIX path of the image relative to the folder the user named.
        subject: subject, None when the manifest cannot tell.
        split: ``train``, ``val``, ``test`` or None.
        modality: contrast.
        resolution: see ``FileRecord.resolution``.
        segmentation: POSIX path of the label map if there is one on disk, or None.
        segmentation_expected: POSIX path where the label map should be, or None.
        entities: named groups of the layout's pattern.
        record: what the manifest says about this very file, or None.
    """

    path: str
    subject: str | None
    split: str | None
    modality: str
    resolution: str = "isotropic"
    segmentation: str | None = None
    segmentation_expected: str | None = None
    entities: dict[str, str] = field(default_factory=dict)
    record: FileRecord | None = None


@dataclass(frozen=True)
class Folder:
    """A dataset folder as found.

    Attributes:
        root: folder the user named.
        layout: layout that fits.
        cases: images found, by path.
        missing: paths of listed files that are absent.
        unexpected: paths in the dataset's own folders that the manifest does not explain.
    """

    root: Path
    layout: Layout
    cases: tuple[Case, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def read_folder(manifest: Manifest, root: str | Path) -> Folder:
    """Read a dataset folder.

    Args:
        manifest: the dataset.
        root: folder that holds it, in any of the manifest's layouts.

    Raises:
        InputError: no such folder, an empty one, or one that fits none of the layouts.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise InputError(f"expected the folder of dataset {manifest.name} at {root}, found {found} there")
    if not any(root.iterdir()):
        raise InputError(f"{root} is empty; {_get(manifest)}")
    for layout in manifest.layouts:
        base = root / layout.root
        if not base.is_dir():
            continue
        cases = _listed(manifest, layout, root) if manifest.files else _matched(manifest, layout, root)
        if cases:
            return _folder(manifest, layout, root, cases)
    expected = "; ".join(describe_layout(manifest, layout) for layout in manifest.layouts)
    raise InputError(f"no image of dataset {manifest.name} in {root}: expected {expected}; {_get(manifest)}")


def describe_layout(manifest: Manifest, layout: Layout) -> str:
    """A layout in words, for a message."""
    if manifest.files:
        first = (Path(layout.root) / manifest.files[0].path).as_posix()
        return f"{len(manifest.files)} listed files such as {first} ({layout.name})"
    patterns = ", ".join((Path(layout.root) / pattern).as_posix() for pattern in layout.images)
    return f"{patterns} ({layout.name})"


def _get(manifest: Manifest) -> str:
    return f"get it from {manifest.source['urls'][0]}"


def _join(layout: Layout, path: str) -> str:
    return (Path(layout.root) / path).as_posix()


def _listed(manifest: Manifest, layout: Layout, root: Path) -> list[Case]:
    cases = []
    for record in manifest.files:
        path = _join(layout, record.path)
        if not (root / path).is_file():
            continue
        label = _join(layout, record.segmentation) if record.segmentation else None
        cases.append(
            Case(
                path=path,
                subject=record.subject,
                split=manifest.split.split(record.subject),
                modality=record.modality,
                resolution=record.resolution,
                segmentation=label if label and (root / label).is_file() else None,
                segmentation_expected=label,
                record=record,
            )
        )
    return cases


def _matched(manifest: Manifest, layout: Layout, root: Path) -> list[Case]:
    base = root / layout.root
    paths = {path for pattern in layout.images for path in base.glob(pattern) if path.is_file()}
    cases = []
    for path in sorted(paths):
        relative = path.relative_to(base).as_posix()
        if _ignored(relative, layout):
            continue
        match = re.search(layout.pattern, relative) if layout.pattern else None
        if layout.pattern and match is None:
            continue
        entities = {
            key: value for key, value in (match.groupdict() if match else {}).items() if value is not None
        }
        subject = manifest.subjects.subject(entities)
        label = None
        if layout.segmentation:
            label = _join(layout, layout.segmentation.format(file=path.name, **entities))
        cases.append(
            Case(
                path=_join(layout, relative),
                subject=subject,
                split=manifest.split.split(subject) if subject is not None else None,
                modality=(layout.modality or {}).get(entities.get("modality", ""), manifest.modality[0]),
                segmentation=label if label and (root / label).is_file() else None,
                segmentation_expected=label,
                entities=entities,
            )
        )
    return cases


def _ignored(relative: str, layout: Layout) -> bool:
    name = relative.rsplit("/", 1)[-1]
    return any(fnmatch.fnmatch(relative, glob) or fnmatch.fnmatch(name, glob) for glob in layout.ignore)


def _folder(manifest: Manifest, layout: Layout, root: Path, cases: list[Case]) -> Folder:
    explained = {case.path for case in cases}
    explained |= {case.segmentation for case in cases if case.segmentation}
    missing = sorted({case.segmentation_expected for case in cases if case.segmentation_expected} - explained)
    if manifest.files:
        missing += sorted({_join(layout, record.path) for record in manifest.files} - explained)
    unexpected = [path for path in _files(root, layout) if path not in explained]
    return Folder(root, layout, tuple(cases), tuple(missing), tuple(unexpected))


def _files(root: Path, layout: Layout) -> Iterator[str]:
    base = root / layout.root
    for folder in layout.folders:
        for directory, _, names in sorted(os.walk(base / folder)):
            for name in sorted(names):
                relative = (Path(directory) / name).relative_to(base).as_posix()
                if not _ignored(relative, layout):
                    yield _join(layout, relative)
