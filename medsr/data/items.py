"""The images a bundle is asked to enlarge, as items of a MONAI dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medsr.data.dicom import source_headers
from medsr.data.dicom_derived import check_sources
from medsr.data.sources import find_images
from medsr.errors import InputError

_DERIVED = "dicom"  # the output "extension" of a derived series


def inference_items(
    inputs: str | Path | Sequence[str | Path], series: str | None = None, output_ext: str = ""
) -> list[dict[str, str]]:
    """One item per image below the inputs: its path as `image` and the name of its results as `stem`.

    Args:
        inputs: an image file, a folder of images, a DICOM folder, a `.zip` of one, a `.txt` list of paths, or several
            of them.
        series: SeriesInstanceUID to read from folders and archives that hold several.
        output_ext: of the results; for "dicom" the headers are checked here, before any network runs.

    Raises:
        InputError: nothing was found, a path is no image, or a derived series is asked of what is not a DICOM series
            of modality MR or CT.
    """
    sources = find_images(inputs, series=series)
    if output_ext == _DERIVED:
        for source in sources:
            if not source.is_dicom:
                raise InputError(
                    f"{source.path}: expected a DICOM input to write DICOM, got another format; its headers cannot be "
                    "made up: write .nii.gz"
                )
            check_derivable(source.path, series)
    return [{"image": str(source.path), "stem": source.stem} for source in sources]


def check_derivable(path: str | Path, series: str | None) -> list[Any]:
    """Headers of a series, if a derived one can be made of them.

    Raises:
        InputError: they are not of a series of modality MR or CT, with the path in front: of an archive the files' own
            names say nothing.
    """
    try:
        headers = source_headers(path, series=series)
        check_sources(headers)
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
    return headers
