"""Write a volume with its grid: NIfTI (any affine), NRRD and MetaImage (orthogonal axes)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name everyone uses)
from numpy.typing import ArrayLike, DTypeLike

from medsr.data.formats.itk_files import to_sitk
from medsr.data.formats.nifti import qform_rounding
from medsr.data.volume import one_line
from medsr.errors import OutputError
from medsr.files.atomic import atomic_path, write_json_atomic
from medsr.files.suffixes import NIFTI, split_suffix
from medsr.geometry import largest_corner_distance, orthogonal_affine, spacing_of

__all__ = ["WRITABLE_SUFFIXES", "atomic_path", "write_json_atomic", "write_volume"]

WRITABLE_SUFFIXES = (*NIFTI, ".nrrd", ".mha")
_DTYPES = ("float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32")

# A corner may move by this part of a voxel when the axes are made orthogonal: header rounding, not a shear.
_SHEAR_TOLERANCE = 1e-3

_NIFTI_LARGEST = 32767
_ALIGNED = 2  # NIfTI code "aligned to something", which nibabel writes if nothing is known
_SCANNER = 1


def write_volume(
    path: str | os.PathLike[str],
    array: ArrayLike,
    affine: ArrayLike,
    *,
    dtype: DTypeLike = np.float32,
    like: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    descrip: str = "",
) -> list[str]:
    """Write one volume, complete or not at all.

    NIfTI stores the sform in float32, so positions are exact to about 1e-7 of their size (1e-5 mm at 200 mm). The
    qform, which cannot hold a shear, is written too. If it does not describe the same grid, its code is 0 (unknown).
    NRRD and MetaImage store float64.

    Args:
        path: The file; its name ends in .nii, .nii.gz, .nrrd or .mha.
        array: The values (X, Y, Z), real and finite.
        affine: The affine (4, 4) from voxel index to world coordinates, RAS, mm.
        dtype: The data type in the file. For an integer type values are rounded and clipped, with a warning.
        like: The ``Volume.meta`` of the image that this one derives from. Its sform and qform codes are kept, so that a
            volume in MNI or scanner space still says so.
        overwrite: Whether an existing file is replaced.
        descrip: A text of at most 79 bytes for the NIfTI header.

    Returns:
        A one-line warning if values were rounded, and one if they were clipped.

    Raises:
        OutputError: If the suffix or the dtype is not supported, a value is not finite, the affine is sheared and the
            format is NRRD or MetaImage, or the file cannot be written; no file is left behind.
    """
    path = Path(path).expanduser()
    suffix = split_suffix(path)[1].lower()
    if suffix not in WRITABLE_SUFFIXES:
        raise OutputError(
            f"{path}: expected a name ending in {', '.join(WRITABLE_SUFFIXES)}, got {suffix or 'no suffix'}; "
            "rename the output"
        )
    matrix = np.array(np.asarray(affine), dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise OutputError(f"{path}: expected a finite 4x4 affine, got {matrix.tolist()}; correct it")
    data, warnings = _as_stored(np.asarray(array), dtype, path)
    with atomic_path(path, overwrite=overwrite) as temporary:
        if suffix in NIFTI:
            _write_nifti(temporary, data, matrix, like or {}, descrip, path)
        else:
            _write_itk(temporary, data, matrix, path)
    return warnings


def _as_stored(array: np.ndarray, dtype: DTypeLike, path: Path) -> tuple[np.ndarray, list[str]]:
    """Return the array in the dtype of the file, and warnings on values that were rounded or clipped."""
    target = np.dtype(dtype)
    if target.name not in _DTYPES:
        raise OutputError(f"{path}: expected one of the dtypes {', '.join(_DTYPES)}, got {target.name}; choose one")
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "iufb":
        raise OutputError(
            f"{path}: expected a real array (X, Y, Z) with voxels, got {array.dtype} of shape {array.shape}; give one "
            "3D volume"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise OutputError(
            f"{path}: expected finite values, got {bad} NaN or infinite ones; replace them (numpy.nan_to_num)"
        )
    if target.kind == "f":
        with np.errstate(over="ignore"):
            stored = array.astype(target)
        if array.dtype.itemsize > target.itemsize and not np.isfinite(stored).all():
            raise OutputError(f"{path}: expected values in the range of {target.name}, got larger ones; use float64")
        return stored, []
    warnings = []
    limits = np.iinfo(target)
    rounded = np.rint(array) if array.dtype.kind == "f" else array
    if array.dtype.kind == "f" and (rounded != array).any():
        warnings.append(f"intensities were rounded to whole numbers to store them as {target.name}")
    outside = int(((rounded < limits.min) | (rounded > limits.max)).sum())
    if outside:
        warnings.append(
            f"{outside} of {array.size} voxels were outside [{limits.min}, {limits.max}] "
            f"and were clipped to store them as {target.name}"
        )
    # float64 holds every limit exactly, while float32 would round 2147483647 up and wrap around.
    return np.clip(rounded.astype(np.float64), limits.min, limits.max).astype(target), warnings


def _write_nifti(
    temporary: Path, data: np.ndarray, affine: np.ndarray, like: Mapping[str, Any], descrip: str, path: Path
) -> None:
    sform_code, qform_code = _codes(like)
    if max(data.shape) > _NIFTI_LARGEST:  # nibabel would write a header that only FreeSurfer understands
        raise OutputError(
            f"{path}: expected at most {_NIFTI_LARGEST} voxels on an axis, got {data.shape}; write .nrrd instead"
        )
    try:
        image = nib.Nifti1Image(data, affine)
        header = image.header
        header.set_xyzt_units("mm")
        header["descrip"] = descrip.encode("utf-8")[:79]
        image.set_qform(affine, qform_code, strip_shears=True)
        allowed = _SHEAR_TOLERANCE * min(spacing_of(affine)) + qform_rounding(header, data.shape)
        if largest_corner_distance(header.get_qform(), affine, data.shape) > allowed:
            header["qform_code"] = 0
        image.set_sform(affine, sform_code)
        header.set_zooms(spacing_of(affine))
        nib.save(image, temporary)
    except (nib.spatialimages.HeaderDataError, ValueError) as error:
        raise OutputError(f"{path}: cannot be written as NIfTI: {one_line(error)}; write .nrrd instead") from error


def _codes(like: Mapping[str, Any]) -> tuple[int, int]:
    """Return the sform and qform codes for an image derived from one with this ``Volume.meta``."""
    # MONAI's collation may have turned the values into tensors of one element.
    sform, qform = (int(np.ravel(np.asarray(like.get(key, 0)))[0]) for key in ("sform_code", "qform_code"))
    unknown = _SCANNER if like.get("format") == "dicom" else _ALIGNED
    sform = sform or qform or unknown
    return sform, qform or sform


def _write_itk(temporary: Path, data: np.ndarray, affine: np.ndarray, path: Path) -> None:
    apart = largest_corner_distance(orthogonal_affine(affine), affine, data.shape)
    if apart > _SHEAR_TOLERANCE * min(spacing_of(affine)):
        raise OutputError(
            f"{path}: expected orthogonal axes, got sheared ones (gantry tilt; {apart:.3g} mm at a corner), "
            f"which many {path.suffix} readers do not expect; write .nii.gz instead"
        )
    image = to_sitk(data, affine)
    try:
        sitk.WriteImage(image, str(temporary), useCompression=True)
        # ITK does not check whether closing the file succeeds, which fails on a full disk, so the file is read back.
        complete = np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(temporary))).T, data)
    except RuntimeError as error:
        raise OutputError(f"{path}: cannot be written: {one_line(error)}; check whether the disk is full") from error
    if not complete:
        raise OutputError(
            f"{path}: cannot be written: the file does not hold the values that were written; check whether the disk "
            "is full"
        )
