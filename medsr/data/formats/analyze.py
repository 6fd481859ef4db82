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

# Field `orient` of the header: what array axes 0, 1, 2 run along (world axis, sign in RAS+). The first voxel is the
# patient's rightmost one by the format's convention; programs that wrote the left first did not say so.
_AXES = {
    0: ((0, -1), (1, 1), (2, 1)),  # transverse
    1: ((0, -1), (2, 1), (1, 1)),  # coronal
    2: ((1, 1), (2, 1), (0, -1)),  # sagittal
}
_ORIENT = 252  # byte of the header
_NAMES = {0: "transverse", 1: "coronal", 2: "sagittal"}


@dataclass(frozen=True)
class _Pair:
    """Both files, their header read.

    Attributes:
        shape: The voxels per axis.
        affine: (4, 4), RAS+ mm.
        voxels: The .img file.
        dtype: The data type of its voxels.
        offset: The bytes before them.
        slope: SPM's scale factor; 0 where there is none.
        orientation: How the slices lie, in words for a note.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    voxels: Path
    dtype: np.dtype
    offset: int
    slope: float
    orientation: str


def analyze_grid(path: Path) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return the size and the affine (RAS+, mm) of a pair without reading a voxel.

    Args:
        path: Either file of the pair; the other one lies beside it.

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
                f"{path}: expected the pair {header_path.name} and {image_path.name}; {part.name} is missing"
            )
    raw = header_path.read_bytes()[:348]
    if raw[344:347] in (b"ni1", b"n+1"):
        raise InputError(f"{path}: expected an Analyze 7.5 pair, got a NIfTI pair; convert it to .nii.gz")
    try:
        header = nib.AnalyzeHeader.from_fileobj(BytesIO(raw), check=False)  # checks would repair what is wrong
        stated, dtype = header.get_data_shape(), header.get_data_dtype()
        offset, slope = int(header["vox_offset"]), float(header["funused1"])
        zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    except Exception as error:  # whatever nibabel or numpy say of such bytes
        raise InputError(
            f"{path}: expected a readable Analyze header, got a damaged one ({one_line(error)}); copy it again"
        ) from error
    shape = spatial_shape(tuple(int(n) for n in stated), path)
    check_dtype(dtype, path)
    spacing = check_spacing(zooms, path, "header (pixdim)")
    axes = _AXES.get(raw[_ORIENT], _AXES[0])
    steps = [np.eye(3)[world] * (sign * length) + 0.0 for (world, sign), length in zip(axes, spacing, strict=True)]
    affine = centred_affine(steps, shape)  # the format has no origin: the middle is at 0
    orientation = _NAMES.get(raw[_ORIENT], f"transverse (the header's {raw[_ORIENT]} means nothing)")
    return _Pair(shape, check_affine(affine, path, "header"), image_path, dtype, offset, slope, orientation)


def read_analyze(path: Path, max_voxels: int | None = None) -> Volume:
    """Read an Analyze 7.5 pair.

    The format states in which plane the slices were stored, not which end of them is left: the patient's right first
    is its convention, and a warning says that it was taken. A scale factor that SPM put into the header is applied.

    Args:
        path: Either file of the pair.
        max_voxels: See `check_size`.

    Raises:
        InputError: As for `analyze_grid`, or the files are cut short or not one finite 3D volume.
    """
    pair = _open(path)
    check_size(pair.shape, path, max_voxels)
    count = int(np.prod(pair.shape, dtype=object))
    stored, needed = pair.voxels.stat().st_size, pair.offset + count * pair.dtype.itemsize
    if pair.offset < 0 or stored < needed:
        raise InputError(f"{path}: expected {needed} bytes in the .img file, got {stored}: cut short; copy it again")
    array = np.fromfile(pair.voxels, pair.dtype, count, offset=pair.offset).reshape(pair.shape, order="F")
    warnings = [
        f"an Analyze header knows no left and right: {pair.orientation} slices, "
        "the patient's right first, are taken as its convention has it"
    ]
    if np.isfinite(pair.slope) and pair.slope not in (0.0, 1.0):
        warnings.append(f"SPM's scale factor {pair.slope:g} in the header is applied")
        array = array * pair.slope
    original = str(pair.dtype.newbyteorder("="))
    meta = describe(filename=str(path), format="analyze", original_dtype=original, warnings=warnings)
    return Volume(to_float32(array, path, warnings), pair.affine, meta)


def _like(suffix: str, wanted: str) -> str:
    return wanted.upper() if suffix.isupper() else wanted
