"""Read Analyze 7.5 pairs (.hdr, .img) with nibabel; OASIS-1 is distributed in this format."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np

from medsr.data.volume import (
    Volume,
    check_affine,
    check_dtype,
    check_size,
    check_spacing,
    describe,
    one_line,
    spatial_shape,
    to_float32,
)
from medsr.errors import InputError
from medsr.geometry import centred_affine

# For each value of the header's field `orient`: the world axis and the sign (RAS+) of array axes 0, 1 and 2. By the
# format's convention the first voxel is the patient's rightmost one. Programs that wrote the left one first did not say
# so.
_AXES = {
    0: ((0, -1), (1, 1), (2, 1)),  # transverse
    1: ((0, -1), (2, 1), (1, 1)),  # coronal
    2: ((1, 1), (2, 1), (0, -1)),  # sagittal
}
_ORIENT = 252  # the byte of the header with the field `orient`
_NAMES = {0: "transverse", 1: "coronal", 2: "sagittal"}


@dataclass(frozen=True)
class _Pair:
    """A pair of files whose header has been read.

    Attributes:
        shape: The number of voxels on each axis.
        affine: The affine (4, 4), RAS+ mm.
        voxels: The .img file.
        dtype: The data type of the voxels.
        offset: The number of bytes before the voxels.
        slope: The scale factor of SPM, 0 if there is none.
        orientation: The orientation of the slices in words, for a warning.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    voxels: Path
    dtype: np.dtype
    offset: int
    slope: float
    orientation: str


def analyze_grid(path: Path) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return the size and the affine (RAS+, mm) of a pair without reading its voxels.

    Args:
        path: Either file of the pair; the other one must be beside it.

    Raises:
        InputError: If a file is missing, its header is damaged, or it is a NIfTI pair.
    """
    pair = _open(path)
    return pair.shape, pair.affine


def _open(path: Path) -> _Pair:
    header_path, image_path = (path.with_suffix(_like(path.suffix, suffix)) for suffix in (".hdr", ".img"))
    for part in (header_path, image_path):
        if not part.is_file():
            raise InputError(
                f"{path}: expected the pair {header_path.name} and {image_path.name}, but {part.name} is missing; copy "
                "it to the same folder"
            )
    raw = header_path.read_bytes()[:348]
    if raw[344:347] in (b"ni1", b"n+1"):
        raise InputError(f"{path}: expected an Analyze 7.5 pair, got a NIfTI pair; convert it to .nii.gz")
    try:
        header = nib.AnalyzeHeader.from_fileobj(BytesIO(raw), check=False)  # the checks would repair wrong values
        stated, dtype = header.get_data_shape(), header.get_data_dtype()
        offset, slope = int(header["vox_offset"]), float(header["funused1"])
        zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    except Exception as error:  # nibabel and numpy raise many kinds of errors on damaged bytes
        raise InputError(
            f"{path}: expected a readable Analyze header, got a damaged one ({one_line(error)}); copy it again"
        ) from error
    shape = spatial_shape(tuple(int(n) for n in stated), path)
    check_dtype(dtype, path)
    spacing = check_spacing(zooms, path, "header (pixdim)")
    axes = _AXES.get(raw[_ORIENT], _AXES[0])
    steps = [np.eye(3)[world] * (sign * length) + 0.0 for (world, sign), length in zip(axes, spacing, strict=True)]
    affine = centred_affine(steps, shape)  # the format has no origin, so the centre is placed at 0
    orientation = _NAMES.get(raw[_ORIENT], f"transverse (the header's code {raw[_ORIENT]} is unknown)")
    return _Pair(shape, check_affine(affine, path, "header"), image_path, dtype, offset, slope, orientation)


def read_analyze(path: Path, max_voxels: int | None = None) -> Volume:
    """Read an Analyze 7.5 pair.

    The header states the plane of the slices, but not which of their sides is left. By the format's convention the
    patient's right comes first; a warning says that this is assumed. If SPM wrote a scale factor into the header, it is
    applied.

    Args:
        path: Either file of the pair.
        max_voxels: See `check_size`.

    Raises:
        InputError: If `analyze_grid` raises it, or the files are cut short or not one finite 3D volume.
    """
    pair = _open(path)
    check_size(pair.shape, path, max_voxels)
    count = int(np.prod(pair.shape, dtype=object))
    stored, needed = pair.voxels.stat().st_size, pair.offset + count * pair.dtype.itemsize
    if pair.offset < 0 or stored < needed:
        raise InputError(f"{path}: expected {needed} bytes in the .img file, got {stored}: cut short; copy it again")
    array = np.fromfile(pair.voxels, pair.dtype, count, offset=pair.offset).reshape(pair.shape, order="F")
    warnings = [
        f"an Analyze header does not distinguish left from right: {pair.orientation} slices with the patient's right "
        "first are assumed, which is the convention"
    ]
    if np.isfinite(pair.slope) and pair.slope not in (0.0, 1.0):
        warnings.append(f"the header has a scale factor of SPM ({pair.slope:g}), which is applied")
        array = array * pair.slope
    original = str(pair.dtype.newbyteorder("="))
    meta = describe(filename=str(path), format="analyze", original_dtype=original, warnings=warnings)
    return Volume(to_float32(array, path, warnings), pair.affine, meta)


def _like(suffix: str, wanted: str) -> str:
    return wanted.upper() if suffix.isupper() else wanted
