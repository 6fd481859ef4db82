"""Select the items for training or testing a bundle from the datalists of several datasets, each with its share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsr.datasets.datalists import datalist
from medsr.errors import InputError

Item = dict[str, Any]
_PATHS = ("image", "label", "segmentation")  # the entries of an item that are files


def collect(
    dataset_dir: str | Path,
    section: str,
    manifests: Mapping[str, str] | None = None,
    shares: Mapping[str, float] | None = None,
    where: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> list[Item]:
    """Return the items of one section ("training", "validation", "test") of the datasets below a folder.

    A `datalist.json` in the folder (written by `medsr data datalist`, or by hand in the Decathlon format) is used if
    there is one. Otherwise the manifests are used with their patient-wise splits. All datasets must be there, because
    otherwise a run would silently train on fewer data than it states.

    Args:
        dataset_dir: The folder with a `datalist.json`, or with the datasets that `manifests` names.
        section: The name of the section.
        manifests: A mapping from the name of a manifest to a folder below `dataset_dir`.
        shares: A mapping from the name of a manifest to its share of the training samples; equal by default. Within a
            dataset every item has the same weight, unless the datalist states one.
        where: The values that an item must have to be kept, such as {"resolution": "isotropic"}.
        limit: The largest number of items from each dataset, spread evenly over its list.

    Returns:
        The items with absolute paths (a list of them if several files are the channels of one image), `dataset` and a
        sampling `weight`; all weights sum to one. If the manifest states how a publication prepared the dataset, the
        items have this as `preparation`, plain values for `medsr.transforms.PrepareVolumed`.

    Raises:
        InputError: If a dataset or the section is missing, or an item cannot be used.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise InputError(f"the dataset folder {root} does not exist; give an existing folder as dataset_dir")
    listed = root / "datalist.json"
    if listed.is_file():
        found = {"datalist": _items(listed, section)}
    elif manifests:
        found = {name: _declared(name, root, folder).get(section, []) for name, folder in manifests.items()}
    else:
        raise InputError(f"no datalist.json in {root}; write one with `medsr data datalist`")
    chosen = {name: _chosen(items, where, limit) for name, items in found.items()}
    chosen = {name: items for name, items in chosen.items() if items}
    if not chosen:
        where_text = f" with {', '.join(f'{k} {v}' for k, v in where.items())}" if where else ""
        raise InputError(f"no {section} images{where_text} in {', '.join(found)} below {root}; see `medsr data check`")
    total = sum((shares or {}).get(name, 1.0) for name in chosen)
    return [
        {**_absolute(item, root), "dataset": name, "weight": weight}
        for name, items in chosen.items()
        for item, weight in zip(items, _weights(items, (shares or {}).get(name, 1.0) / total), strict=True)
    ]


def _declared(name: str, root: Path, folder: str) -> Mapping[str, list[Item]]:
    try:
        return datalist(name, root / folder)
    except InputError as error:
        raise InputError(
            f"{error}; or leave the dataset out of `manifests`, or put a datalist.json into {root}"
        ) from error


def _chosen(items: Sequence[Item], where: Mapping[str, Any] | None, limit: int | None) -> list[Item]:
    kept = [item for item in items if all(item.get(k, v) == v for k, v in (where or {}).items())]
    if limit is not None and len(kept) > limit:
        return [kept[k * len(kept) // limit] for k in range(limit)]
    return kept


def _weights(items: Sequence[Item], share: float) -> list[float]:
    """Return the weight of each item, which is its part of the dataset's share."""
    weights = [float(item.get("weight", 1.0)) for item in items]
    if not (min(weights) >= 0 and sum(weights) > 0):
        raise InputError("weights in a datalist must not be negative, nor all zero; correct its 'weight' entries")
    return [share * weight / sum(weights) for weight in weights]


def segmentation_items(items: Sequence[Item]) -> list[Item]:
    """Return the items for a segmentation network, with an `image` and its label map as `label`.

    From the items of `collect`, images (`label`, the HR image) with a label map (`segmentation`) are kept. Items with
    `image` and `label` from a host are not changed.

    Raises:
        InputError: If no image has a label map.
    """
    found = [
        {**item, "image": item["label"], "label": item["segmentation"]} if "segmentation" in item else dict(item)
        for item in items
        if "segmentation" in item or ("image" in item and "label" in item)
    ]
    if not found:
        raise InputError(f"none of the {len(items)} images has a label map; choose datasets with label maps")
    return found


def with_scales(items: Sequence[Item], scales: Sequence[Any]) -> list[Item]:
    """Return every item once for every scale, to evaluate at several scales."""
    return [{**item, "scale": scale} for scale in scales for item in items]


def with_degradations(items: Sequence[Item], degradations: Sequence[Any]) -> list[Item]:
    """Return every item once for every degradation, as its entry `degradation` (validation over several formations)."""
    return [{**item, "degradation": degradation} for degradation in degradations for item in items]


def _items(path: Path, section: str) -> list[Item]:
    """Return one section of a datalist; a path alone is an image without a label, as in Decathlon's test sections."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a JSON datalist: {error}; write it again with `medsr data datalist`") from None
    listed = content.get(section, []) if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise InputError(
            f'{path} is not a datalist: expected {{"{section}": [{{"label": "image.nii.gz"}}, ...]}}; correct it'
        )
    items = [{"image": item} if isinstance(item, str) else item for item in listed]
    for item in items:
        if not isinstance(item, dict) or not (item.get("image") or item.get("label")):
            raise InputError(f"{path}, {section}: expected items with an image or a label, got {item!r}; correct it")
    return items


def _absolute(item: Item, root: Path) -> Item:
    result = dict(item)
    for key in _PATHS:
        value = item.get(key)
        if isinstance(value, str):
            result[key] = str(root / value)
        elif isinstance(value, list):
            result[key] = [str(root / path) for path in value]
    return result
