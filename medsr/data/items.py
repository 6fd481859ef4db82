"""The images a bundle is asked to enlarge, as items of a MONAI dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medsr.data.sources import find_images


def inference_items(inputs: str | Path | Sequence[str | Path], series: str | None = None) -> list[dict[str, str]]:
    """One item per image below the inputs: its path as `image` and the name of its results as `stem`.

    Args:
        inputs: an image file, a folder of images, a DICOM folder, a `.zip` of one, a `.txt` list of paths, or several
            of them.
        series: SeriesInstanceUID to read from folders and archives that hold several.

    Raises:
        InputError: nothing was found, or a path is no image.
    """
    return [{"image": str(source.path), "stem": source.stem} for source in find_images(inputs, series=series)]
