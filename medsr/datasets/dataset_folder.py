"""Read a dataset folder by its manifest: find its layout, its images and the subject of each image."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from medsr.datasets.manifest import Layout, ListedFile, Manifest
from medsr.errors import InputError


@dataclass(frozen=True)
class DatasetImage:
    """An image of a dataset that exists on disk.

    Attributes:
        path: The POSIX path of the image, relative to the folder that the user names.
        subject: The subject, None if the manifest does not define it.
        split: The split: ``train``, ``val``, ``test`` or None.
        modality: The contrast.
        resolution: See ``ListedFile.resolution``.
        segmentation: The POSIX path where the label map of this image should be, None if it has none.
        entities: The named groups of the layout's pattern.
        listed: The manifest's entry for this file, or None.
    """

    path: str
    subject: str | None
    modality: str
    split: str | None = None
    resolution: str = "isotropic"
    segmentation: str | None = None
    entities: dict[str, str] = field(default_factory=dict)
    listed: ListedFile | None = None


@dataclass(frozen=True)
class Folder:
    """The content of a dataset folder.

    Attributes:
        root: The folder that the user names.
        layout: The layout that fits.
        images: The images, sorted by path.
        missing: The paths that the manifest names, or an image needs, and that do not exist.
        unexpected: The paths in the dataset's own folders that the manifest does not explain.
        duplicates: The pairs of paths that are two copies of one image.
    """

    root: Path
    layout: Layout
    images: tuple[DatasetImage, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    duplicates: tuple[tuple[str, str], ...]

    @property
    def subjects(self) -> set[str]:
        """The names of all subjects in the folder."""
        return {image.subject for image in self.images if image.subject is not None}


def read_folder(manifest: Manifest, root: str | Path) -> Folder:
    """Read the names in a dataset folder; no file is opened.

    Args:
        manifest: The manifest of the dataset.
        root: The folder with the dataset, in any of the manifest's layouts.

    Raises:
        InputError: If the folder does not exist, is empty, or fits none of the layouts.
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
            images = _listed(manifest, layout, root) if manifest.files else _matched(manifest, layout, root)
            if images:
                return _folder(manifest, layout, root, images)
    except OSError as error:
        raise InputError(f"cannot read the folder {root}: {error.strerror or error}; check its permissions") from error
    expected = "; or ".join(_describe(manifest, layout) for layout in manifest.layouts)
    raise InputError(f"no image of dataset {manifest.name} in {root}: expected {expected}; {get}")


def _describe(manifest: Manifest, layout: Layout) -> str:
    """Return a description of a layout for a message."""
    if manifest.files:
        return f"{len(manifest.files)} files such as {_join(layout, manifest.files[0].path)}"
    return " or ".join(_join(layout, pattern) for pattern in layout.images)


def _join(layout: Layout, path: str) -> str:
    return (Path(layout.root) / path).as_posix()


def _listed(manifest: Manifest, layout: Layout, root: Path) -> list[DatasetImage]:
    return [
        DatasetImage(
            path=_join(layout, listed.path),
            subject=listed.subject,
            modality=listed.modality,
            resolution=listed.resolution,
            segmentation=_join(layout, listed.segmentation) if listed.segmentation else None,
            listed=listed,
        )
        for listed in manifest.files
        if (root / layout.root / listed.path).is_file()
    ]


def _matched(manifest: Manifest, layout: Layout, root: Path) -> list[DatasetImage]:
    base = root / layout.root
    paths = {path for pattern in layout.images for path in base.glob(pattern) if path.is_file()}
    images = []
    for path in sorted(paths):
        relative = path.relative_to(base).as_posix()
        match = re.search(layout.pattern or "", relative)
        if match is None or _ignored(relative, layout):
            continue
        entities = {key: value or "" for key, value in match.groupdict().items()}
        segmentation = layout.segmentation and layout.segmentation.format(file=path.name, **entities)
        images.append(
            DatasetImage(
                path=_join(layout, relative),
                subject=manifest.subjects.subject(entities),
                modality=(layout.modality or {}).get(entities.get("modality", ""), manifest.modality[0]),
                resolution=layout.resolution,
                segmentation=_join(layout, segmentation) if segmentation else None,
                entities=entities,
            )
        )
    return images


def _folder(manifest: Manifest, layout: Layout, root: Path, images: list[DatasetImage]) -> Folder:
    splits = manifest.split.assign(image.subject for image in images if image.subject is not None)
    images = [replace(image, split=splits.get(image.subject or "")) for image in images]
    paths = {image.path for image in images}
    called_for = {_join(layout, listed.path) for listed in manifest.files}
    called_for |= {image.segmentation for image in images if image.segmentation}
    missing = {path for path in called_for - paths if not (root / path).is_file()}
    unexpected = sorted(set(_files(root, layout)) - paths - called_for)
    return Folder(root, layout, tuple(images), tuple(sorted(missing)), tuple(unexpected), _duplicates(images))


def _duplicates(images: list[DatasetImage]) -> tuple[tuple[str, str], ...]:
    first: dict[tuple[tuple[str, str], ...], str] = {}
    pairs = []
    for image in images:
        if image.entities:
            path = first.setdefault(tuple(sorted(image.entities.items())), image.path)
            if path != image.path:
                pairs.append((path, image.path))
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
