"""The content of a data manifest as plain objects, and how a YAML document becomes them."""

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
    """What is known in advance about one file of a dataset that is listed file by file.

    Attributes:
        path: POSIX path relative to the root of the layout.
        subject: The subject the image belongs to.
        modality: Contrast, for example ``T1w``.
        resolution: ``isotropic`` (a target in every direction), ``native`` (a target on its own grid) or
            ``in-plane`` (interpolated through-plane by whoever prepared it: a target in-plane only).
        segmentation: The path of the label map relative to the root of the layout, or None.
        licence: The licence of this one file where it differs from file to file.
        shape: The voxels per axis.
        spacing: Mm per axis.
        sha256: Digest of the file as distributed.
        segmentation_sha256: Digest of the label map as distributed.
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
    """One way a dataset lies on disk. A folder is read by the first layout of its manifest that fits.

    Attributes:
        name: Short name used in messages.
        root: The folder, relative to the one the user names, that paths and patterns start from.
        folders: Folders below ``root`` that belong to this dataset alone: what lies there and is not
            explained by the manifest is reported as unexpected.
        images: Glob patterns of the images, relative to ``root``. Empty when the files are listed.
        pattern: Regular expression on the image path relative to ``root``; its named groups are entities,
            and two images with equal entities are two copies of one.
        modality: The value of the entity ``modality`` to contrast, when one layout holds several contrasts.
        segmentation: Template of the label map's path, from the entities plus ``{file}``, or None.
        ignore: Glob patterns of files that are known and of no interest.
        checksums: Sha256 list beside the manifest that names every file of this layout, or None.
        images_expected: The number of images that makes this layout complete, or None when a part will do.
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
    """Bounds that every image of the dataset keeps; None where nothing is claimed.

    Attributes:
        images: The number of images in a complete copy.
        subjects: The number of subjects in a complete copy.
        shape_min: Least voxels per axis.
        shape_max: Most voxels per axis.
        spacing_min: Least spacing per axis, mm.
        spacing_max: Greatest spacing per axis, mm.
        orientation: Where the array axes point, such as "LAS".
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
        """``open`` or ``registration``."""
        return str(self.source["access"])


def parse_manifest(document: Mapping[str, Any], path: Path) -> Manifest:
    """Turn the mapping of a manifest file into a ``Manifest``.

    Args:
        document: What the YAML file holds.
        path: The file, for messages and for the checksum lists beside it.

    Raises:
        InputError: If a field is missing, of a wrong kind or unknown; or a pattern, template or split is wrong.
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
        raise InputError(f"{path} is not a valid manifest: {' '.join(reason.split())}") from error
    return manifest


def _check_layout(layout: Layout, manifest: Manifest) -> None:
    """Refuse patterns and templates that would fail on the first file."""
    strange = sorted(set(manifest.channels) - set(manifest.modality))
    if strange:
        raise InputError(f"channels: no contrast named {', '.join(strange)}")
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
    """As it stands in items: JSON has no numbers as keys, and the description is for people."""
    values = {key: value for key, value in preparation.items() if key != "description"}
    if "labels" in values:
        values["labels"] = {str(old): new for old, new in values["labels"].items()}
    return values


def _hashable(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


def _words(text: str) -> str:
    return " ".join(text.split())
