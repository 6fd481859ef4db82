"""Find, read and validate the files of the data manifests.

A manifest states where a dataset comes from, its licence, how its folder is arranged, how a file name maps to a
subject, and which subjects train, validate and test. All code that needs a dataset (to check a download, to write a
datalist or a model card) reads the manifest here, so that a split is defined only once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from medsr.datasets.manifest import Manifest, parse_manifest
from medsr.errors import InputError

SCHEMA_NAME = "schema.json"
ENVIRONMENT_VARIABLE = "MEDSR_MANIFESTS"


def manifest_directory() -> Path:
    """Return the folder of the manifests that come with medsr.

    They are inside the package in an installed wheel, and beside it in an editable checkout.

    Raises:
        InputError: If neither folder exists (a broken installation).
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
    """Return the YAML file of every manifest by name; those of ``MEDSR_MANIFESTS`` take precedence over medsr's own.

    Raises:
        InputError: If a folder named in the environment variable does not exist.
    """
    folders = []
    for entry in filter(None, os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep)):
        folder = Path(entry).expanduser()
        if not folder.is_dir():
            raise InputError(f"{ENVIRONMENT_VARIABLE} names {folder}, which is not a folder; correct or unset it")
        folders.append(folder)
    found: dict[str, Path] = {}
    for folder in (*folders, manifest_directory()):
        for path in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def load_manifest(name: str | Path) -> Manifest:
    """Read one manifest by its name, or by the path of its YAML file.

    A manifest that is not part of medsr is first validated against the schema, which needs the extra ``manifest``. The
    tests validate those that are part of medsr.

    Args:
        name: The name of the dataset as in ``medsr data list``, or a path that ends in ``.yaml`` or ``.yml``.

    Raises:
        InputError: If the name is unknown, the file cannot be read, or it is not a valid manifest.
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
    return parse_manifest(document, path)


def list_manifests() -> list[Manifest]:
    """Return every manifest that can be found, sorted by name."""
    return [load_manifest(path) for path in manifest_paths().values()]


def read_document(path: Path) -> dict[str, Any]:
    """Return the YAML mapping in a manifest file.

    A manifest that `extends` another one inherits all entries that it does not have itself; an empty entry removes an
    inherited one.

    Raises:
        InputError: If the file cannot be read, it is not a YAML mapping, or it extends a manifest that does not exist
            or that it has already extended.
    """
    document = _read_mapping(path)
    seen = [document.get("name")]
    while "extends" in document:
        parent = document.pop("extends")
        known = manifest_paths()
        if parent in seen or parent not in known:
            raise InputError(f"{path} extends {parent!r}: expected the name of another manifest; correct it")
        seen.append(parent)
        document = {**_read_mapping(known[parent]), **document}
    return {key: value for key, value in document.items() if value is not None}


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the manifest {path}: {error.strerror or error}; check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        raise InputError(f"expected a YAML manifest in {path}, but it does not parse: {detail}; correct it") from error
    if not isinstance(document, dict):
        raise InputError(f"expected a YAML mapping in {path}, got {type(document).__name__}; correct it")
    return document


@lru_cache(maxsize=1)
def manifest_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a manifest."""
    return dict(json.loads((manifest_directory() / SCHEMA_NAME).read_text(encoding="utf-8")))


def validate_document(document: Mapping[str, Any], path: Path) -> None:
    """Check a manifest against the schema.

    Raises:
        InputError: If jsonschema is not installed, or the document violates the schema; the message states one
            violation.
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
        raise InputError(
            f"{path} is not a valid manifest, at {where}: {' '.join(violation.message.split())}; correct it"
        )
    if document["name"] != path.stem:
        raise InputError(
            f"{path}: expected the name {path.stem!r} as in the file name, got {document['name']!r}; rename one of them"
        )
