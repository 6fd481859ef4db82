"""Collate the images of a dataset into a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.data import list_data_collate

from medsr.errors import InputError


def collate_images(items: Sequence[Mapping[str, Any]]) -> Any:
    """Return a batch of items like MONAI's `list_data_collate`, but refuse images that differ in size in one line.

    It is meant for the `collate_fn` of a data loader.

    Args:
        items: The items, each with an `image` (C, *spatial).

    Raises:
        InputError: If the images differ in size or in the number of channels.
    """
    first = items[0]["image"]
    for item in items[1:]:
        image = item["image"]
        if image.shape != first.shape:
            raise InputError(
                f"expected images of one size in a batch, got {tuple(first.shape)} of {_name(first)} and "
                f"{tuple(image.shape)} of {_name(image)} (channels, then voxels); set the batch_size of the data "
                "loader to 1"
            )
    return list_data_collate(items)


def _name(image: Any) -> str:
    return str(getattr(image, "meta", {}).get("filename_or_obj") or "an image in memory")
