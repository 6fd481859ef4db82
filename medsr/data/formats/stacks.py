"""Read a folder of grey pictures as one volume, and write a volume as a folder of pictures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from medsr.data.folders import stack_slices
from medsr.data.formats.pictures import LUMINANCE, PictureHeader, as_volume, picture_header, picture_values
from medsr.data.volume import Volume, check_size
from medsr.errors import InputError, OutputError
from medsr.files.atomic import atomic_folder
from medsr.files.suffixes import natural_key, split_suffix

_BITS = {"uint8": 8, "uint16": 16}
_SIZE_UNKNOWN = "pictures state no voxel size: 1 x 1 x 1 mm is assumed, also between slices"


def read_stack(folder: Path, slices: Sequence[Path], max_voxels: int | None = None, luminance: bool = False) -> Volume:
    """Read the slices of a stack like `read_picture`, with slice k at index k of the third axis.

    Args:
        folder: The folder of the pictures.
        slices: The slices in their order, as `stack_slices` returns them.
        max_voxels: See `check_size`; it is checked by the headers before any pixel is read.
        luminance: See `read_picture`.

    Returns:
        The volume (width, height, slices). A spacing of 1 mm is assumed on every axis, and a warning says so.

    Raises:
        InputError: If a picture is damaged or not grey, or the pictures are not slices of one stack; see
            `stack_headers`.
    """
    headers = stack_headers(folder, slices, max_voxels, luminance)
    first = headers[0]
    values = np.empty((len(slices), first.height, first.width), first.dtype)
    for k, (file, header) in enumerate(zip(slices, headers, strict=True)):
        values[k] = picture_values(file, header)
    warnings = [_SIZE_UNKNOWN, *([LUMINANCE] if any(header.colour for header in headers) else [])]
    return as_volume(values, first, folder, warnings)


def stack_headers(
    folder: Path, slices: Sequence[Path], max_voxels: int | None = None, luminance: bool = False
) -> list[PictureHeader]:
    """Check by their headers only that pictures are the slices of one stack.

    Args:
        folder: The folder of the pictures, for messages.
        slices: The slices in their order.
        max_voxels: See `check_size`.
        luminance: See `read_picture`.

    Returns:
        The header of each picture; all have the same size and data type.

    Raises:
        InputError: If a header is damaged or not that of a grey picture, sizes or data types (bit depths) differ, two
            names do not state which slice comes first, or there are more voxels than allowed.
    """
    places: dict[str, Path] = {}
    for file in slices:
        other = places.setdefault(str(natural_key(split_suffix(file)[0])), file)
        if other != file:
            raise InputError(
                f"{file}: expected a different number for each slice of a stack, got that of {other.name}; rename one"
            )
    first = picture_header(slices[0], luminance)
    check_size((first.width, first.height, len(slices)), folder, max_voxels)
    headers = [first, *(picture_header(file, luminance) for file in slices[1:])]
    kinds = [header._replace(colour=False) for header in headers]
    usual = Counter(kinds).most_common(1)[0][0]
    for file, kind in zip(slices, kinds, strict=True):
        if kind != usual:
            raise InputError(
                f"{file}: expected slices of one size and kind, {usual} as {slices[kinds.index(usual)].name}, got "
                f"{kind}; make them alike, or name the pictures one by one to enlarge each on its own"
            )
    return headers


def picture_bits(dtype: str, path: Path | str) -> int:
    """Return the bit depth of the pictures to write, which is that of the pictures that were read.

    Args:
        dtype: The data type of the pictures that were read.
        path: Their file or folder, for the message.

    Raises:
        InputError: If the pictures do not have 8 or 16 bits.
    """
    if dtype not in _BITS:
        what = "a black-and-white one" if dtype == "bool" else f"{dtype} values, which PNG cannot hold"
        raise InputError(f"{path}: expected an 8- or 16-bit picture to write PNG, got {what}; write .nii.gz")
    return _BITS[dtype]


def check_writable(path: Path) -> None:
    """Check by the headers that results of an image can be written as pictures.

    Args:
        path: A picture or a folder with a stack.

    Raises:
        InputError: If `stack_headers` or `picture_bits` raises it.
    """
    header = stack_headers(path, stack_slices(path))[0] if path.is_dir() else picture_header(path)
    picture_bits(header.dtype, path)


def write_stack(
    folder: str | os.PathLike[str],
    array: np.ndarray,
    bits: int,
    *,
    replaceable: Callable[[Path], bool] = lambda folder: False,
) -> int:
    """Write a volume as PNG pictures NAME_0001.png and so on, where NAME is that of the folder; all or none appear.

    Args:
        folder: The folder to create.
        array: The values (X, Y, Z) = columns, rows, slices. They are rounded (halves to even) and clipped to the range
            of the pictures. `read_stack` returns the same array, but with a spacing of 1 mm.
        bits: The bit depth, 8 or 16.
        replaceable: See `atomic_folder`.

    Returns:
        The number of values that were clipped.

    Raises:
        OutputError: If a value is not finite, the array is not 3D or is empty, or the folder cannot be written.
    """
    from PIL import Image

    folder = Path(folder).expanduser()
    if array.ndim != 3 or 0 in array.shape:
        raise OutputError(
            f"{folder}: expected an array (X, Y, Z) with voxels to write pictures, got shape {array.shape}; give one "
            "3D volume"
        )
    largest, clipped = 2**bits - 1, 0
    digits = max(4, len(str(array.shape[2])))
    with atomic_folder(folder, replaceable=replaceable) as hidden:
        for k in range(array.shape[2]):
            values = np.rint(array[:, :, k].T)
            if not np.isfinite(values).all():
                raise OutputError(
                    f"{folder}: expected finite values, got NaN or infinite ones; replace them (numpy.nan_to_num)"
                )
            clipped += int(np.count_nonzero((values < 0) | (values > largest)))
            picture = np.clip(values, 0, largest).astype(f"uint{bits}")
            with (hidden / f"{folder.name}_{k + 1:0{digits}d}.png").open("xb") as file:
                Image.fromarray(np.ascontiguousarray(picture)).save(file, format="PNG")
    return clipped
