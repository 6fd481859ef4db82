"""The files of the data manifests: where they are, and how one is read and validated.

A manifest says where a dataset comes from, under which licence, how its folder looks, how a file name maps to
a subject, and which subjects train, validate and test. Whatever needs a dataset (checking a download, writing
a datalist, a model card) reads it here, so that a split is written down once.
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

    An installed wheel carries them inside the package, an editable checkout beside it.

    Raises:
        InputError: If neither exists (a broken installation).
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

    A manifest that does not come with medsr is validated against the schema first, for which the extra
    ``manifest`` is needed; those that do are validated by the tests.

    Args:
        name: The dataset name as in ``medsr data list``, or a path that ends in ``.yaml`` or ``.yml``.

    Raises:
        InputError: Unknown name, unreadable file, or a file that is not a valid manifest.
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
    """Return every manifest that can be found, by name."""
    return [load_manifest(path) for path in manifest_paths().values()]


def read_document(path: Path) -> dict[str, Any]:
    """Return the YAML mapping in a manifest file.

    One that `extends` another has that one's entries where it has none of its own; an empty entry takes one away.

    Raises:
        InputError: If the file cannot be read, it is not a YAML mapping, or it extends what is no other manifest.
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
        raise InputError(f"cannot read the manifest {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        raise InputError(f"expected a YAML manifest in {path}, it does not parse: {detail}") from error
    if not isinstance(document, dict):
        raise InputError(f"expected a YAML mapping in {path}, got {type(document).__name__}")
    return document


@lru_cache(maxsize=1)
def manifest_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a manifest."""
    return dict(json.loads((manifest_directory() / SCHEMA_NAME).read_text(encoding="utf-8")))


def validate_document(document: Mapping[str, Any], path: Path) -> None:
    """Check a manifest against the schema.

    Raises:
        InputError: Jsonschema is missing, or the document breaks the schema (the first violation is told).
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
        raise InputError(f"{path}: expected the name {path.stem!r} as in the file name, got {document['name']!r}")
