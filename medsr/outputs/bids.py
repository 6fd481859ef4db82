"""Write results as derivatives of the Brain Imaging Data Structure (BIDS).

An SR image is a derivative, so its name carries `desc-sr`; `rec-`, which also occurs, names reconstructions of raw
data. The JSON file beside an image is its sidecar: the entries of BIDS, with capitals, and the record's own.
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
_RAW = "raw"  # under this name a derived dataset refers to its source


def bids_stem(source: str | Path, label: str) -> str:
    """Return the name of a derivative without extension, below the folders that its source has in its dataset.

    Args:
        source: The image with a BIDS name, such as ds/sub-01/anat/sub-01_T1w.nii.gz.
        label: The label of `desc-`; appended to a description that the source has already.

    Returns:
        Such as sub-01/anat/sub-01_desc-sr_T1w; without the folders where the source lies in no BIDS dataset.

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
    """Return the BIDS dataset that a file lies in: the nearest folder above it with a dataset_description.json."""
    return next((folder for folder in Path(path).resolve().parents if (folder / DESCRIPTION).is_file()), None)


def sidecar(
    source: str | Path, directory: str | Path, record: Mapping[str, Any], sources: Sequence[str | Path] = ()
) -> dict[str, Any]:
    """Return what BIDS wants to know about a derived image.

    Args:
        source: Its input.
        directory: The root of the derived dataset.
        record: The record of the run.
        sources: All that it was made from, where its input is one contrast of several.
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
    """Write the dataset_description.json of the derived dataset, unless there is one."""
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
    """Return a BIDS URI of a source in a dataset, else the file's name."""
    root = dataset_root(source)
    if root is None:
        return source.name
    dataset = "" if root == directory.resolve() else _RAW
    return f"bids:{dataset}:{source.resolve().relative_to(root).as_posix()}"


def _skull_stripped(source: Path) -> bool | None:
    """What the source's sidecar says; raw images are not; of others without a word nothing is known."""
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
    except (OSError, ValueError):  # another program's file: what it does not say is not known
        return {}
    return content if isinstance(content, dict) else {}
