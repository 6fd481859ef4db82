"""Read grey pictures (PNG, TIFF) as volumes of one slice."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medsr.data.volume import Volume, check_size, describe, to_float32
from medsr.errors import InputError
from medsr.geometry import ras_lps

if TYPE_CHECKING:
    from PIL.Image import Image

# The modes of grey pictures in Pillow. Older versions open a 16-bit PNG as "I"; no PNG has 32 bits.
_DTYPES = {"1": "bool", "L": "uint8", "I": "int32", "F": "float32", "I;16": "uint16", "I;16B": "uint16"}
_DTYPES["I;16L"] = "uint16"
LUMINANCE = "the picture is in colour: its luminance is read"
_DAMAGES = (OSError, ValueError, SyntaxError, KeyError, IndexError, TypeError, EOFError, OverflowError)


class PictureHeader(NamedTuple):
    """The facts in the header of a picture.

    Attributes:
        width: The number of columns.
        height: The number of rows.
        dtype: The data type of the stored values: bool, uint8, uint16, int32 or float32.
        colour: Whether the values are the luminance of a picture in colour.
    """

    width: int
    height: int
    dtype: str
    colour: bool = False

    def __str__(self) -> str:
        return f"{self.width} x {self.height} {self.dtype}"


def read_picture(path: Path, max_voxels: int | None = None, luminance: bool = False) -> Volume:
    """Read a grey ``.png`` or ``.tif`` picture as a volume of one slice.

    Columns run to the patient's left and rows to the back, as in ITK and in viewers. The voxel size is 1 mm, because a
    picture states none that can be trusted.

    Args:
        path: The file.
        max_voxels: See `check_size`.
        luminance: Whether to read Y of Y'CbCr (ITU-R BT.601, 0 to 255) of a colour picture instead of refusing it.

    Returns:
        The volume (width, height, 1). Black-and-white pictures (label maps) have the values 0 and 1.

    Raises:
        InputError: If the file is damaged, in colour, transparent, or holds several pictures.
    """
    header = picture_header(path, luminance)
    check_size((header.width, header.height, 1), path, max_voxels)
    values = picture_values(path, header)
    return as_volume(values[None], header, path, [LUMINANCE] if header.colour else [])


def as_volume(values: np.ndarray, header: PictureHeader, path: Path, warnings: list[str]) -> Volume:
    """Turn values (slices, rows, columns) into a volume (columns, rows, slices) with voxels of 1 mm."""
    meta = describe(filename=str(path), format="picture", original_dtype=header.dtype, units="none", warnings=warnings)
    return Volume(to_float32(values.transpose(2, 1, 0), path, warnings), ras_lps(np.eye(4)), meta)


def picture_header(path: Path, luminance: bool = False) -> PictureHeader:
    """Read the size and the data type of a picture, but not its pixels.

    Raises:
        InputError: If the header is damaged, or the picture is in colour, transparent, or one of several in the file.
    """
    with _opened(path) as picture:
        colour = luminance and picture.mode == "RGB"
        if picture.mode not in _DTYPES and not colour:
            raise InputError(
                f"{path}: expected a grey picture, got mode {picture.mode} (colour or transparency); "
                "save one channel as grey first"
            )
        frames = getattr(picture, "n_frames", 1)
        if frames > 1:
            raise InputError(f"{path}: expected one picture, got {frames}; save them one by one")
        dtype = "uint8" if colour else _DTYPES[picture.mode]
        if picture.format == "PNG" and dtype == "int32":
            dtype = "uint16"
        return PictureHeader(*picture.size, dtype, colour)


def picture_values(path: Path, header: PictureHeader) -> np.ndarray:
    """Read the pixels (rows, columns) of a picture whose header has been read.

    Raises:
        InputError: If the file is damaged or has changed since its header was read.
    """
    with _opened(path) as picture:
        if picture.size != (header.width, header.height):  # the limit was checked for another size
            raise InputError(f"{path}: expected {header}, got {picture.size}: the file has changed; run again")
        return np.asarray(picture.convert("L") if header.colour else picture).astype(header.dtype, copy=False)


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """Open a picture, and turn any error of Pillow on a damaged one into one line.

    Raises:
        InputError: If the picture is damaged or cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            yield picture
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
    except (*_DAMAGES, struct.error, zlib.error, Image.DecompressionBombError) as error:
        what = " ".join(str(error).split())
        raise InputError(f"{path}: expected a readable picture, got a damaged one ({what}); copy it again") from error
