"""A dataset folder read through its manifest: which layout it has, and which image belongs to whom."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from medsr.datasets.manifest import FileRecord, Layout, Manifest
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
        segmentation: POSIX path where the label map of this image should be, or None where there is none.
        entities: named groups of the layout's pattern.
        record: what the manifest says about this very file, or None.
    """

    path: str
    subject: str | None
    modality: str
    split: str | None = None
    resolution: str = "isotropic"
    segmentation: str | None = None
    entities: dict[str, str] = field(default_factory=dict)
    record: FileRecord | None = None


@dataclass(frozen=True)
class Folder:
    """A dataset folder as found.

    Attributes:
        root: folder the user named.
        layout: layout that fits.
        cases: images found, by path.
        missing: paths the manifest names, or an image calls for, that are absent.
        unexpected: paths in the dataset's own folders that the manifest does not explain.
        duplicates: pairs of paths that are two copies of one image.
    """

    root: Path
    layout: Layout
    cases: tuple[Case, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    duplicates: tuple[tuple[str, str], ...]

    @property
    def subjects(self) -> set[str]:
        """Names of the subjects found."""
        return {case.subject for case in self.cases if case.subject is not None}


def read_folder(manifest: Manifest, root: str | Path) -> Folder:
    """Read a dataset folder: only names, no file is opened.

    Args:
        manifest: the dataset.
        root: folder that holds it, in any of the manifest's layouts.

    Raises:
        InputError: no such folder, an empty one, or one that fits none of the layouts.
    """
    root = Path(root).expanduser()
    get = f"get it from {manifest.source['urls'][0]}"
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise InputError(f"expected the folder of dataset {manifest.name} at {root}, found {found}; {get}")
    try:
        if not any(root.iterdir()):
            raise InputError(f"expected dataset {manifest.name} in {root}, found an empty folder; {get}")
        for layout in manifest.layouts:
            cases = _listed(manifest, layout, root) if manifest.files else _matched(manifest, layout, root)
            if cases:
                return _folder(manifest, layout, root, cases)
    except OSError as error:
        raise InputError(f"cannot read the folder {root}: {error.strerror or error}") from error
    expected = "; or ".join(_describe(manifest, layout) for layout in manifest.layouts)
    raise InputError(f"no image of dataset {manifest.name} in {root}: expected {expected}; {get}")


def _describe(manifest: Manifest, layout: Layout) -> str:
    """A layout in words, for a message."""
    if manifest.files:
        return f"{len(manifest.files)} files such as {_join(layout, manifest.files[0].path)}"
    return " or ".join(_join(layout, pattern) for pattern in layout.images)


def _join(layout: Layout, path: str) -> str:
    return (Path(layout.root) / path).as_posix()


def _listed(manifest: Manifest, layout: Layout, root: Path) -> list[Case]:
    return [
        Case(
            path=_join(layout, record.path),
            subject=record.subject,
            modality=record.modality,
            resolution=record.resolution,
            segmentation=_join(layout, record.segmentation) if record.segmentation else None,
            record=record,
        )
        for record in manifest.files
        if (root / layout.root / record.path).is_file()
    ]


def _matched(manifest: Manifest, layout: Layout, root: Path) -> list[Case]:
    base = root / layout.root
    paths = {path for pattern in layout.images for path in base.glob(pattern) if path.is_file()}
    cases = []
    for path in sorted(paths):
        relative = path.relative_to(base).as_posix()
        match = re.search(layout.pattern or "", relative)
        if match is None or _ignored(relative, layout):
            continue
        entities = {key: value or "" for key, value in match.groupdict().items()}
        segmentation = layout.segmentation and layout.segmentation.format(file=path.name, **entities)
        cases.append(
            Case(
                path=_join(layout, relative),
                subject=manifest.subjects.subject(entities),
                modality=(layout.modality or {}).get(entities.get("modality", ""), manifest.modality[0]),
                resolution=layout.resolution,
                segmentation=_join(layout, segmentation) if segmentation else None,
                entities=entities,
            )
        )
    return cases


def _folder(manifest: Manifest, layout: Layout, root: Path, cases: list[Case]) -> Folder:
    splits = manifest.split.assign(case.subject for case in cases if case.subject is not None)
    cases = [replace(case, split=splits.get(case.subject or "")) for case in cases]
    images = {case.path for case in cases}
    called_for = {_join(layout, record.path) for record in manifest.files}
    called_for |= {case.segmentation for case in cases if case.segmentation}
    missing = {path for path in called_for - images if not (root / path).is_file()}
    unexpected = sorted(set(_files(root, layout)) - images - called_for)
    return Folder(root, layout, tuple(cases), tuple(sorted(missing)), tuple(unexpected), _duplicates(cases))


def _duplicates(cases: list[Case]) -> tuple[tuple[str, str], ...]:
    first: dict[tuple[tuple[str, str], ...], str] = {}
    pairs = []
    for case in cases:
        if case.entities:
            path = first.setdefault(tuple(sorted(case.entities.items())), case.path)
            if path != case.path:
                pairs.append((path, case.path))
    return tuple(pairs)


def _files(root: Path, layout: Layout) -> Iterator[str]:
    base = root / layout.root
    for folder in layout.folders:
        for directory, _, names in os.walk(base / folder):
            for name in names:
                relative = (Path(directory) / name).relative_to(base).as_posix()
                if not _ignored(relative, layout):
                    yield _join(layout, relative)


def _ignored(relative: str, layout: Layout) -> bool:
    name = relative.rsplit("/", 1)[-1]
    return any(fnmatch.fnmatch(relative, glob) or fnmatch.fnmatch(name, glob) for glob in layout.ignore)
