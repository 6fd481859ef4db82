"""Grey pictures (PNG, TIFF) as volumes of one slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medsr.data.volume import RAS_TO_LPS, Volume, check_size, describe, to_float32
from medsr.errors import InputError

_GREY_MODES = ("1", "L", "I", "I;16", "I;16B", "I;16L", "F")


def read_picture(path: Path, max_voxels: int | None = None, luminance: bool = False) -> Volume:
    """Reads a grey ``.png`` or ``.tif``: columns run to the patient's left, rows to the back, as in ITK and viewers.

    A picture states no voxel size that could be trusted: 1 mm is taken.

    Args:
        path: the file.
        max_voxels: see `check_size`.
        luminance: of a picture in colour take Y of Y'CbCr (ITU-R BT.601, 0 to 255) instead of refusing it.

    Returns:
        The volume (width, height, 1). Black-and-white pictures (label maps) have the values 0 and 1.

    Raises:
        InputError: the file is damaged, in colour, transparent, or holds several pictures.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            check_size((*picture.size, 1), path, max_voxels)
            colour = luminance and picture.mode == "RGB"
            if picture.mode not in _GREY_MODES and not colour:
                raise InputError(
                    f"{path}: expected a grey picture, got mode {picture.mode} (colour or transparency); "
                    "save one channel as grey first"
                )
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                raise InputError(f"{path}: expected one picture, got {frames}; save them one by one")
            values = np.asarray(picture.convert("L") if colour else picture)
    except InputError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: expected a readable picture, got a damaged one ({error}); copy it again") from error
    warnings: list[str] = ["the luminance of a picture in colour is taken"] if colour else []
    meta = describe(
        filename=str(path), format="picture", original_dtype=str(values.dtype), units="none", warnings=warnings
    )
    return Volume(to_float32(values.T[:, :, None], path, warnings), RAS_TO_LPS.copy(), meta)
