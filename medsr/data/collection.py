"""The items a bundle trains or is tested on: datalists of several datasets below one folder, each with its share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsr.data.datalists import datalist
from medsr.errors import InputError

Item = dict[str, Any]


def collect(
    dataset_dir: str | Path,
    section: str,
    manifests: Mapping[str, str] | None = None,
    shares: Mapping[str, float] | None = None,
    where: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> list[Item]:
    """Items of one section ("training", "validation", "test") of every dataset found below a folder.

    A `datalist.json` in the folder (written by `medsr data datalist`, or by hand in the Decathlon format) is taken
    as it is. Otherwise the manifests are used, with the patient-wise splits they declare.

    Args:
        dataset_dir: folder with a `datalist.json`, or with the datasets that `manifests` names.
        section: which part.
        manifests: manifest name -> folder below `dataset_dir`.
        shares: manifest name -> share of the training samples; equal by default. Within a dataset every item has
            the same weight.
        where: keep only items that have these values, e.g. {"resolution": "isotropic"}.
        limit: at most this many items of each dataset, spread evenly over its list.

    Returns:
        Items with absolute paths, `dataset` and a sampling `weight` (the weights of the result sum to one).

    Raises:
        InputError: nothing was found.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise InputError(f"the dataset folder {root} does not exist; give an existing folder as dataset_dir")
    listed = root / "datalist.json"
    if listed.is_file():
        found = {"datalist": _read(listed).get(section, [])}
    elif manifests:
        found = {name: datalist(name, root / folder).get(section, []) for name, folder in manifests.items()}
    else:
        raise InputError(f"no datalist.json in {root}; write one with `medsr data datalist`")
    total = sum((shares or {}).get(name, 1.0) for name in found)
    items: list[Item] = []
    for name, section_items in found.items():
        chosen = [i for i in section_items if all(i.get(k, v) == v for k, v in (where or {}).items())]
        if limit is not None and len(chosen) > limit:
            chosen = [chosen[k * len(chosen) // limit] for k in range(limit)]
        weight = (shares or {}).get(name, 1.0) / total / max(len(chosen), 1)
        items += [{**_absolute(item, root), "dataset": name, "weight": weight} for item in chosen]
    if not items:
        raise InputError(f"no {section} images of {', '.join(found)} below {root}; see `medsr data check`")
    return items


def with_scales(items: Sequence[Item], scales: Sequence[Any]) -> list[Item]:
    """Every item once for every scale (evaluation at several scales)."""
    return [{**item, "scale": scale} for scale in scales for item in items]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a JSON datalist: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a datalist: expected sections such as 'training', got a {type(content)}")
    return content


def _absolute(item: Item, root: Path) -> Item:
    paths = {k: str(root / item[k]) for k in ("image", "label", "segmentation") if isinstance(item.get(k), str)}
    return {**item, **paths}
