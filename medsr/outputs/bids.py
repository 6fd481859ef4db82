"""Write results as derivatives of the Brain Imaging Data Structure (BIDS).

An SR image is a derivative, so its name contains `desc-sr`; `rec-`, which also occurs, names reconstructions of raw
data. The JSON file beside an image is its sidecar. It holds the entries of BIDS, whose names begin with capitals, and
those of the record.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsr.errors import InputError
from medsr.files.atomic import write_json_atomic
from medsr.files.suffixes import split_suffix
from medsr.version import __version__

VERSION = "1.10.0"  # of BIDS
DESCRIPTION = "dataset_description.json"
_NAME = re.compile(r"sub-[A-Za-z0-9+]+(_[a-z]+-[A-Za-z0-9+]+)*_[A-Za-z0-9]+")
_RAW = "raw"  # the name under which a derived dataset refers to its source


def bids_stem(source: str | Path, label: str) -> str:
    """Return the path of a derivative without its extension, relative to the root of the dataset.

    Args:
        source: An image with a BIDS name, such as ds/sub-01/anat/sub-01_T1w.nii.gz.
        label: The value of `desc-`; it is appended to the description of a source that already has one.

    Returns:
        A path such as sub-01/anat/sub-01_desc-sr_T1w; without folders if the source is not in a BIDS dataset.

    Raises:
        InputError: If the source has no BIDS name.
    """
    path = Path(source)
    name = path.name if path.is_dir() else split_suffix(path)[0]
    if not _NAME.fullmatch(name):
        raise InputError(f"{path}: expected a BIDS name such as sub-01_ses-1_T1w.nii.gz, got {path.name}; rename it")
    *entities, suffix = name.split("_")
    plain = re.sub(r"[^A-Za-z0-9]", "", label) or "sr"
    described = [entity for entity in entities if entity.startswith("desc-")]
    description = f"{described[0]}{plain.upper()}" if described else f"desc-{plain}"
    kept = [entity for entity in entities if not entity.startswith("desc-")]
    root = dataset_root(path)
    folder = path.resolve().parent.relative_to(root) if root else Path()
    return (folder / "_".join([*kept, description, suffix])).as_posix()


def dataset_root(path: str | Path) -> Path | None:
    """Return the root of a file's BIDS dataset: the nearest parent folder with a dataset_description.json."""
    return next((folder for folder in Path(path).resolve().parents if (folder / DESCRIPTION).is_file()), None)


def sidecar(
    source: str | Path, directory: str | Path, record: Mapping[str, Any], sources: Sequence[str | Path] = ()
) -> dict[str, Any]:
    """Return the entries of the BIDS sidecar of a derived image.

    Args:
        source: The input image.
        directory: The root of the derived dataset.
        record: The record of the run.
        sources: All input images, if the input is one of several contrasts.
    """
    method = record["method"]
    facts: dict[str, Any] = {
        "Description": f"Super-resolution by {method['bundle']} {method['version']}. {record['disclaimer']}",
        "Sources": [_uri(Path(one), Path(directory)) for one in sources or [source]],
        "GeneratedBy": [_generator(method)],
    }
    stripped = _skull_stripped(Path(source))
    if stripped is not None:
        facts["SkullStripped"] = stripped
    return facts


def describe_dataset(source: str | Path, directory: str | Path, record: Mapping[str, Any]) -> None:
    """Write the dataset_description.json of the derived dataset, unless it exists.

    Args:
        source: The input image.
        directory: The root of the derived dataset.
        record: The record of the run.

    Raises:
        OutputError: If the file cannot be written.
    """
    directory = Path(directory)
    if (directory / DESCRIPTION).exists():
        return
    description: dict[str, Any] = {
        "Name": "Super-resolved images",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [_generator(record["method"])],
    }
    root = dataset_root(source)
    if root is not None:
        description["DatasetLinks"] = {_RAW: Path(os.path.relpath(root, directory.resolve())).as_posix()}
    write_json_atomic(directory / DESCRIPTION, description)


def _generator(method: Mapping[str, Any]) -> dict[str, str]:
    weights = method.get("weights_sha256")
    what = f"bundle {method['bundle']} {method['version']}" + (f", weights sha256 {weights}" if weights else "")
    return {"Name": "medsr", "Version": __version__, "Description": what}


def _uri(source: Path, directory: Path) -> str:
    """Return the BIDS URI of a source that is in a dataset, else the name of its file."""
    root = dataset_root(source)
    if root is None:
        return source.name
    dataset = "" if root == directory.resolve() else _RAW
    return f"bids:{dataset}:{source.resolve().relative_to(root).as_posix()}"


def _skull_stripped(source: Path) -> bool | None:
    """Return whether the skull was removed from an image: None if it is not known.

    The sidecar of the source decides. Without an entry there, the images of a raw dataset are not stripped.
    """
    said = _read(source.with_name(f"{split_suffix(source)[0]}.json")).get("SkullStripped")
    if isinstance(said, bool):
        return said
    root = dataset_root(source)
    if root is None:
        return None
    return False if _read(root / DESCRIPTION).get("DatasetType", "raw") == "raw" else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the file is another program's, and a missing entry means "not known"
        return {}
    return content if isinstance(content, dict) else {}
