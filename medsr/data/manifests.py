"""Data manifests: one YAML file a dataset, found, read, checked and turned into plain objects.

A manifest says where a dataset comes from, under which licence, how its folder looks, how a file name maps to
a subject, and which subjects train, validate and test. Everything that needs a dataset (checking a download,
writing a datalist, a model card) reads it here, so that a split is written down once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from medsr.data.subjects import SplitRule, SubjectRule, split_rule, subject_rule
from medsr.errors import InputError

SCHEMA_NAME = "schema.json"
ENVIRONMENT_VARIABLE = "MEDSR_MANIFESTS"


@dataclass(frozen=True)
class FileRecord:
    """What is known in advance about one file of a dataset that is listed file by file.

    Attributes:
        path: POSIX path relative to the root of the layout.
        subject: subject the image belongs to.
        modality: contrast, for example ``T1w``.
        resolution: ``isotropic`` (a target in every direction), ``native`` (a target on its own grid) or
            ``in-plane`` (interpolated through-plane by whoever prepared it: a target in-plane only).
        segmentation: path of the label map relative to the root of the layout, or None.
        licence: licence of this one file where it differs from file to file.
        shape: voxels per axis.
        spacing: mm per axis.
        sha256: digest of the file as distributed.
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


@dataclass(frozen=True)
class Layout:
    """One way a dataset lies on disk. A folder is read by the first layout of its manifest that fits.

    Attributes:
        name: short name used in messages.
        root: folder, relative to the one the user names, that paths and patterns start from.
        folders: folders below ``root`` that belong to this dataset alone: what lies there and is not
            explained by the manifest is reported as unexpected.
        images: glob patterns of the images, relative to ``root``. Empty when the files are listed.
        pattern: regular expression on the image path relative to ``root``; its named groups are entities.
        modality: entity value of ``modality`` to contrast name, when one layout holds several contrasts.
        segmentation: template of the label map's path, from the entities plus ``{file}``, or None.
        ignore: glob patterns of files that are known and of no interest.
        checksums: name of a sha256 list beside the manifest that names every file of this layout, or None.
        images_expected: number of images in a complete copy, or None when it is not known.
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


@dataclass(frozen=True)
class Expected:
    """Bounds that every image of the dataset keeps; None where nothing is claimed.

    Attributes:
        images: number of images in a complete copy.
        subjects: number of subjects in a complete copy.
        shape_min: least voxels per axis.
        shape_max: most voxels per axis.
        spacing_min: least spacing per axis, mm.
        spacing_max: greatest spacing per axis, mm.
    """

    images: int | None = None
    subjects: int | None = None
    shape_min: tuple[int, ...] | None = None
    shape_max: tuple[int, ...] | None = None
    spacing_min: tuple[float, ...] | None = None
    spacing_max: tuple[float, ...] | None = None


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
    files: tuple[FileRecord, ...]
    labels: Mapping[int, str]
    subjects: SubjectRule
    split: SplitRule
    expected: Expected
    intensity: str
    degradation: str
    notes: str
    path: Path

    @property
    def access(self) -> str:
        """``open`` or ``registration``."""
        return str(self.source["access"])


def manifest_directory() -> Path:
    """The folder of the manifests that come with medsr.

    An installed wheel carries them inside the package, an editable checkout beside it.

    Raises:
        InputError: neither exists (a broken installation).
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_manifests", package.parent / "data_manifests"):
        if (folder / SCHEMA_NAME).is_file():
            return folder
    raise InputError(
        f"expected the data manifests in {package / '_manifests'} or {package.parent / 'data_manifests'}, "
        "found neither; reinstall medsr"
    )


def manifest_paths() -> dict[str, Path]:
    """Name to YAML file of every manifest; those of ``MEDSR_MANIFESTS`` go before the ones of medsr.

    Raises:
        InputError: a folder named in the environment variable does not exist.
    """
    folders = []
    for entry in filter(None, os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep)):
        folder = Path(entry).expanduser()
        if not folder.is_dir():
            raise InputError(
                f"{ENVIRONMENT_VARIABLE} names {folder}, which is not a folder; correct or unset it"
            )
        folders.append(folder)
    found: dict[str, Path] = {}
    for folder in (*folders, manifest_directory()):
        for path in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def load_manifest(name: str | Path) -> Manifest:
    """Read one manifest by its name, or by the path of its YAML file.

    A manifest that does not come with medsr is validated against the schema first; those that do are
    validated by the tests, so that reading them needs no extra package but PyYAML.

    Args:
        name: dataset name as in ``medsr data list``, or a path that ends in ``.yaml`` or ``.yml``.

    Raises:
        InputError: unknown name, unreadable file, or a file that is not a valid manifest.
    """
    if str(name).endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
    else:
        known = manifest_paths()
        if str(name) not in known:
            raise InputError(
                f"unknown dataset {str(name)!r}: expected one of {', '.join(known) or 'none'}, "
                "or the path of a .yaml manifest"
            )
        path = known[str(name)]
    document = read_document(path)
    if path.resolve().parent != manifest_directory():
        validate_document(document, path)
    return _manifest(document, path)


def list_manifests() -> list[Manifest]:
    """Every manifest that can be found, by name."""
    return [load_manifest(path) for path in manifest_paths().values()]


def read_document(path: Path) -> dict[str, Any]:
    """The YAML mapping in a manifest file.

    Raises:
        InputError: PyYAML is missing, the file cannot be read, or it is not a YAML mapping.
    """
    try:
        import yaml
    except ImportError as error:
        raise InputError(
            "reading a data manifest needs PyYAML; run: pip install 'medsr[manifest]'"
        ) from error
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the manifest {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        raise InputError(f"expected a YAML manifest in {path}, it does not parse: {detail}") from error
    if not isinstance(document, dict):
        raise InputError(f"expected a YAML mapping in {path}, got {type(document).__name__}")
    return document


@lru_cache(maxsize=1)
def manifest_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a manifest."""
    return dict(json.loads((manifest_directory() / SCHEMA_NAME).read_text(encoding="utf-8")))


def validate_document(document: Mapping[str, Any], path: Path) -> None:
    """Check a manifest against the schema.

    Raises:
        InputError: jsonschema is missing, or the document breaks the schema (the first violation is told).
    """
    try:
        import jsonschema
    except ImportError as error:
        raise InputError(
            f"validating the manifest {path} needs jsonschema; run: pip install 'medsr[manifest]'"
        ) from error
    validator = jsonschema.Draft202012Validator(manifest_schema())
    violation = jsonschema.exceptions.best_match(validator.iter_errors(document))
    if violation is not None:
        where = "/".join(str(part) for part in violation.absolute_path) or "top level"
        raise InputError(f"{path} is not a valid manifest, at {where}: {' '.join(violation.message.split())}")
    if document["name"] != path.stem:
        raise InputError(
            f"{path}: expected the name {path.stem!r} as in the file name, got {document['name']!r}"
        )


def _tuple(values: Iterable[Any] | None) -> Any:
    return None if values is None else tuple(values)


def _manifest(document: Mapping[str, Any], path: Path) -> Manifest:
    try:
        expected = dict(document.get("expected", {}))
        bounds = {key: _tuple(value) if isinstance(value, list) else value for key, value in expected.items()}
        files = tuple(
            FileRecord(
                **{**entry, "shape": _tuple(entry.get("shape")), "spacing": _tuple(entry.get("spacing"))}
            )
            for entry in document.get("files", ())
        )
        layouts = tuple(
            Layout(
                **{key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
            )
            for entry in document["layouts"]
        )
        return Manifest(
            name=document["name"],
            title=document["title"],
            description=" ".join(document["description"].split()),
            source=document["source"],
            licence=document["licence"],
            citation=tuple(document["citation"]),
            modality=tuple(document["modality"]),
            dimensions=document["dimensions"],
            layouts=layouts,
            files=files,
            labels=document.get("labels", {}),
            subjects=subject_rule(document["subject"]),
            split=split_rule(document["split"]),
            expected=Expected(**bounds),
            intensity=document["intensity"],
            degradation=document["degradation"],
            notes=" ".join(document.get("notes", "").split()),
            path=path,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a valid manifest: {error!r}; see {SCHEMA_NAME} beside it") from error
