"""Hold the content of a data manifest as plain objects, and make them from a YAML document."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsr.datasets.subjects import SplitRule, SubjectRule, split_rule, subject_rule
from medsr.errors import InputError


@dataclass(frozen=True)
class ListedFile:
    """The manifest's entry for one file of a dataset whose files are listed one by one.

    Attributes:
        path: The POSIX path relative to the root of the layout.
        subject: The subject of the image.
        modality: The contrast, for example ``T1w``.
        resolution: ``isotropic`` (a target in every direction), ``native`` (a target on its own grid) or
            ``in-plane`` (a target in-plane only, because its publisher interpolated it through-plane).
        segmentation: The path of the label map relative to the root of the layout, or None.
        licence: The licence of this file, if it differs from file to file.
        shape: The number of voxels on each axis.
        spacing: The spacing of each axis, mm.
        sha256: The hash of the file as distributed.
        segmentation_sha256: The hash of the label map as distributed.
    """

    path: str
    subject: str
    modality: str
    resolution: str = "isotropic"
    segmentation: str | None = None
    licence: str | None = None
    shape: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    sha256: str | None = None
    segmentation_sha256: str | None = None


@dataclass(frozen=True)
class Layout:
    """A way in which a dataset is arranged on disk; a folder is read by the first layout of its manifest that fits.

    Attributes:
        name: A short name for messages.
        root: The folder that paths and patterns are relative to, relative to the folder that the user names.
        folders: The folders below ``root`` that belong to this dataset alone. Files there that the manifest does not
            explain are reported as unexpected.
        images: The glob patterns of the images, relative to ``root``; empty if the files are listed.
        pattern: A regular expression on the path of an image relative to ``root``. Its named groups are entities, and
            two images with equal entities are two copies of one.
        modality: A mapping from the value of the entity ``modality`` to the contrast, if a layout has several
            contrasts.
        segmentation: The template of the label map's path, from the entities and ``{file}``, or None.
        ignore: The glob patterns of files to ignore.
        checksums: The list of sha256 hashes beside the manifest that names every file of this layout, or None.
        images_expected: The number of images that makes this layout complete, or None if a part is enough.
        resolution: The resolution of its images, see ``ListedFile.resolution``.
    """

    name: str
    root: str = "."
    folders: tuple[str, ...] = (".",)
    images: tuple[str, ...] = ()
    pattern: str | None = None
    modality: Mapping[str, str] | None = None
    segmentation: str | None = None
    ignore: tuple[str, ...] = ()
    checksums: str | None = None
    images_expected: int | None = None
    resolution: str = "isotropic"


@dataclass(frozen=True)
class Expected:
    """The bounds that every image of the dataset keeps; None means no bound.

    Attributes:
        images: The number of images in a complete copy.
        subjects: The number of subjects in a complete copy.
        shape_min: The smallest number of voxels on each axis.
        shape_max: The largest number of voxels on each axis.
        spacing_min: The smallest spacing of each axis, mm.
        spacing_max: The largest spacing of each axis, mm.
        orientation: The directions of the array axes, such as "LAS".
    """

    images: int | None = None
    subjects: int | None = None
    shape_min: tuple[int, ...] | None = None
    shape_max: tuple[int, ...] | None = None
    spacing_min: tuple[float, ...] | None = None
    spacing_max: tuple[float, ...] | None = None
    orientation: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A dataset, as its YAML file describes it (see ``data_manifests/schema.json`` for every field)."""

    name: str
    title: str
    description: str
    source: Mapping[str, Any]
    licence: Mapping[str, Any]
    citation: tuple[str, ...]
    modality: tuple[str, ...]
    dimensions: int
    layouts: tuple[Layout, ...]
    files: tuple[ListedFile, ...]
    labels: Mapping[int, str]
    subjects: SubjectRule
    split: SplitRule
    expected: Expected
    intensity: str
    degradation: str
    notes: str
    path: Path
    channels: tuple[str, ...] = ()
    preparation: Mapping[str, Any] | None = None
    luminance: bool = False

    @property
    def access(self) -> str:
        """The access to the dataset: ``open`` or ``registration``."""
        return str(self.source["access"])


def parse_manifest(document: Mapping[str, Any], path: Path) -> Manifest:
    """Turn the mapping of a manifest file into a ``Manifest``.

    Args:
        document: The content of the YAML file.
        path: The file, for messages and for the lists of hashes beside it.

    Raises:
        InputError: If a field is missing, unknown or of a wrong type, or a pattern, template or split is wrong.
    """
    try:
        manifest = Manifest(
            name=document["name"],
            title=document["title"],
            description=_words(document["description"]),
            source=document["source"],
            licence=document["licence"],
            citation=tuple(document["citation"]),
            modality=tuple(document["modality"]),
            dimensions=document["dimensions"],
            layouts=tuple(Layout(**_hashable(entry)) for entry in document["layouts"]),
            files=tuple(ListedFile(**_hashable(entry)) for entry in document.get("files", ())),
            labels={int(value): meaning for value, meaning in document.get("labels", {}).items()},
            subjects=subject_rule(document["subject"]),
            split=split_rule(document["split"]),
            expected=Expected(**_hashable(document["expected"])),
            intensity=document["intensity"],
            degradation=document["degradation"],
            notes=_words(document.get("notes", "")),
            path=path,
            channels=tuple(document.get("channels", ())),
            preparation=_plain(document["preparation"]) if "preparation" in document else None,
            luminance=document.get("luminance", False),
        )
        for layout in manifest.layouts:
            _check_layout(layout, manifest)
    except (KeyError, TypeError, AttributeError, ValueError, re.error) as error:
        reason = str(error) if isinstance(error, (InputError, re.error)) else repr(error)
        raise InputError(f"{path} is not a valid manifest: {' '.join(reason.split())}; correct it") from error
    return manifest


def _check_layout(layout: Layout, manifest: Manifest) -> None:
    """Refuse patterns and templates that would fail on the first file."""
    strange = sorted(set(manifest.channels) - set(manifest.modality))
    if strange:
        raise InputError(
            f"channels: no contrast named {', '.join(strange)}, expected some of {', '.join(manifest.modality)}"
        )
    if manifest.files:
        return
    entities = set(re.compile(layout.pattern or "").groupindex)
    if manifest.subjects.entity not in entities:
        raise InputError(f"layout {layout.name!r}: the pattern has no group {manifest.subjects.entity!r}")
    unknown = _fields(manifest.subjects.template) - {"value"}
    unknown |= _fields(layout.segmentation or "") - entities - {"file"}
    if unknown:
        raise InputError(f"layout {layout.name!r}: no entity named {', '.join(sorted(unknown))}")


def _fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def _plain(preparation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preparation as it stands in items: with text as keys, as JSON demands, and without description."""
    values = {key: value for key, value in preparation.items() if key != "description"}
    if "labels" in values:
        values["labels"] = {str(old): new for old, new in values["labels"].items()}
    return values


def _hashable(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


def _words(text: str) -> str:
    return " ".join(text.split())
