"""The images a bundle is asked to enlarge, as items of a MONAI dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medsr.data.contrasts import contrast_groups
from medsr.data.formats.stacks import check_writable
from medsr.data.input_images import InputImage, find_images
from medsr.errors import InputError

# In place of an extension: results that are folders.
DICOM = "dicom"  # a derived series
PNG = "png"  # pictures

# What is said of inputs that cannot become them.
NOT_DICOM = "expected a DICOM input to write DICOM, got another format; its headers cannot be made up: write .nii.gz"
NO_PICTURE = (
    "expected a picture or a stack of pictures to write PNG, got another format; its orientation and units would be "
    "lost: write .nii.gz"
)


def inference_items(
    inputs: str | Path | Sequence[str | Path],
    series: str | None = None,
    output_ext: str = "",
    contrasts: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return one item per image below the inputs: its path as `image` and the name of its results as `stem`.

    Where contrasts are the channels of an image, one item per case, in which both are lists; see `contrast_groups`.

    Args:
        inputs: An image file, a folder of images, a folder of slices (pictures), a DICOM folder, a `.zip` of one, a
            `.txt` list of paths, or several of them.
        series: The SeriesInstanceUID to read from folders and archives that hold several.
        output_ext: The format of the results; for "dicom" and "png" the format of the inputs is checked here. Whether a
            series can be derived is checked when an image has been read, before the network runs on it.
        contrasts: The contrasts, in the order of the network's channels, as they stand in the names of files.

    Raises:
        InputError: If nothing was found, a path is no image, a derived series is asked of what is not DICOM, pictures
            are asked of what is no 8- or 16-bit picture, or see `contrast_groups`.
    """
    images = find_images(inputs, series=series)
    if contrasts is not None:
        if output_ext in (DICOM, PNG):
            raise InputError(f"Multi-contrast results cannot be written as {output_ext}; use .nii.gz")
        groups = contrast_groups(images, contrasts)
        return [{"image": [str(s.path) for s in group], "stem": [s.stem for s in group]} for group in groups]
    for image in images:
        check_format(image, output_ext)
        if output_ext == PNG:
            check_writable(image.path)
    return [{"image": str(image.path), "stem": image.stem} for image in images]


def check_format(image: InputImage, output_ext: str) -> None:
    """Refuse a format of results that only inputs of the same format can have.

    Raises:
        InputError: "dicom" for what is not DICOM, or "png" for what is no picture.
    """
    if output_ext == DICOM and not image.is_dicom:
        raise InputError(f"{image.path}: {NOT_DICOM}")
    if output_ext == PNG and not image.is_picture:
        raise InputError(f"{image.path}: {NO_PICTURE}")
