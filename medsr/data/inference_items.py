"""Turn the images that a bundle is to enlarge into items of a MONAI dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medsr.data.contrasts import contrast_groups
from medsr.data.formats.stacks import check_writable
from medsr.data.input_images import InputImage, find_images
from medsr.errors import InputError

# Formats of results that are folders; they stand in place of an extension.
DICOM = "dicom"  # a derived series
PNG = "png"  # pictures

# Error messages for inputs that cannot be written in these formats.
NOT_DICOM = (
    "expected a DICOM input to write DICOM, got another format, which has no headers for a derived series; "
    "write .nii.gz"
)
NO_PICTURE = (
    "expected a picture or a stack of pictures to write PNG, got another format, whose orientation and units would be "
    "lost; write .nii.gz"
)


def inference_items(
    inputs: str | Path | Sequence[str | Path],
    series: str | None = None,
    output_ext: str = "",
    contrasts: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return one item per image, with its path as `image` and the name of its results as `stem`.

    If contrasts are the channels of an image, there is one item per case, and both are lists; see `contrast_groups`.

    Args:
        inputs: An image file, a folder of images, a folder of slices (pictures), a DICOM folder, a `.zip` of one, a
            `.txt` list of paths, or several of them.
        series: The SeriesInstanceUID to read from folders and archives that hold several series.
        output_ext: The format of the results. For "dicom" and "png" the format of the inputs is checked here. Whether a
            series can be derived is checked after an image has been read and before the network runs on it.
        contrasts: The contrasts in the order of the network's channels, as they stand in the names of the files.

    Raises:
        InputError: If no image is found, a path is not an image, an input does not have the format of the results
            ("dicom" needs DICOM, "png" needs 8- or 16-bit pictures), or `contrast_groups` raises it.
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
    """Refuse a format of results that needs inputs of the same format.

    Raises:
        InputError: If the format is "dicom" and the image is not DICOM, or it is "png" and the image is not a picture.
    """
    if output_ext == DICOM and not image.is_dicom:
        raise InputError(f"{image.path}: {NOT_DICOM}")
    if output_ext == PNG and not image.is_picture:
        raise InputError(f"{image.path}: {NO_PICTURE}")
