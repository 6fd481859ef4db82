"""Read NIfTI and FreeSurfer MGH files with nibabel."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import nibabel as nib
import numpy as np
from nibabel.imageglobals import logger as nibabel_logger
from nibabel.openers import ImageOpener

from medsr.data.acquisition import ACQUISITION, read_sidecar
from medsr.data.volume import (
    SAME_GRID_MM,
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
from medsr.geometry import in_millimetres, largest_corner_distance, spacing_of

# The affine is in mm whatever the header's unit is, as in ITK; "unknown" means mm in practice.
_UNIT_MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}


_GZIP_RATIO = 1032  # the largest ratio of compression that deflate can reach


def read_nifti(path: Path, max_voxels: int | None = None) -> Volume:
    """Read a ``.nii``, ``.nii.gz``, ``.mgz`` or ``.mgh`` file.

    The sform is used if its code is set, else the qform, else only the voxel sizes (the rule of nibabel). scl_slope
    and scl_inter are applied.

    Args:
        path: The file.
        max_voxels: See `check_size`.

    Raises:
        InputError: If the file is not an image of this format, is cut short, or is not one finite 3D volume.
    """
    with _quiet_nibabel():
        try:
            image: Any = _load(path)
            header = _unfixed_header(image, path)
        except PermissionError:
            raise  # the file is not damaged
        except Exception as error:  # nibabel, gzip and struct errors all mean a damaged file
            raise InputError(
                f"{path}: expected a readable NIfTI or MGH image, got a damaged file or another format "
                f"({one_line(error)}); check or copy the file again"
            ) from error
        is_nifti = isinstance(image, nib.Nifti1Image)  # NIfTI-2 is a subclass
        if not is_nifti and not isinstance(image, nib.MGHImage):
            raise InputError(f"{path}: expected a NIfTI or MGH image, got {type(image).__name__}; convert it first")
        shape = spatial_shape(_stated_shape(header) if is_nifti else image.shape, path)
        check_dtype(image.get_data_dtype(), path)
        check_size(shape, path, max_voxels)
        _check_length(path, int(np.prod(shape, dtype=object)) * image.get_data_dtype().itemsize)
        warnings: list[str] = []
        if is_nifti:
            affine, meta = _nifti_affine(header, shape, path, warnings)
        else:
            check_spacing(header.get_zooms()[:3], path, "header (delta)")
            affine, meta = check_affine(image.affine, path, "MGH header"), {"format": "mgh"}
        try:
            array = np.asanyarray(image.dataobj)
        except Exception as error:  # OSError, EOFError, zlib.error, ValueError (mmap) all mean a file that is cut short
            raise InputError(
                f"{path}: expected {int(np.prod(shape))} voxels of {image.get_data_dtype()}, "
                f"got a file that is cut short or damaged ({one_line(error)}); copy the file again"
            ) from error
    data = to_float32(array.reshape(shape, order="F"), path, warnings)
    dtype = str(np.dtype(image.get_data_dtype()).newbyteorder("="))
    acquisition = read_sidecar(path, data.shape, affine)
    if acquisition.facts:
        meta[ACQUISITION] = acquisition
    return Volume(data, affine, describe(filename=str(path), original_dtype=dtype, warnings=warnings, **meta))


@contextmanager
def _quiet_nibabel() -> Iterator[None]:
    """Suppress the messages of nibabel and numpy on a doubtful header, because the reader has its own warnings."""
    level = nibabel_logger.level
    nibabel_logger.setLevel(logging.CRITICAL + 1)
    try:
        with np.errstate(all="ignore"), catch_warnings():
            simplefilter("ignore")
            yield
    finally:
        nibabel_logger.setLevel(level)


def _unfixed_header(image: Any, path: Path) -> Any:
    """Return the header as it stands in the file; nibabel's checks would turn a spacing of 0 into 1, and -2 into 2."""
    with ImageOpener(str(path)) as file:
        return type(image).header_class.from_fileobj(file, check=False)


class _NoExtensions(nib.nifti1.Nifti1Extensions):
    """A list of header extensions that stays empty.

    The extensions are not needed, and nibabel would reserve memory for any length that they state.
    """

    @classmethod
    def from_fileobj(cls, fileobj: Any, size: int, byteswap: bool) -> _NoExtensions:
        return cls()


class _Header1(nib.Nifti1Header):
    exts_klass = _NoExtensions


class _Header2(nib.Nifti2Header):
    exts_klass = _NoExtensions


class _Image1(nib.Nifti1Image):
    header_class = _Header1


class _Image2(nib.Nifti2Image):
    header_class = _Header2


def _load(path: Path) -> Any:
    for kind in (_Image1, _Image2):
        if kind.path_maybe_image(path)[0]:
            return kind.from_filename(path)
    return nib.load(path)


def _check_length(path: Path, needed: int) -> None:
    """Refuse a file that is too short for its voxels, because nibabel reserves memory for what the header states."""
    stored = path.stat().st_size
    packed = path.name.lower().endswith((".gz", ".mgz"))
    if needed > stored * (_GZIP_RATIO if packed else 1):
        raise InputError(
            f"{path}: expected {needed} bytes of voxels, got a file of {stored} bytes: it is cut short; copy it again"
        )


def _stated_shape(header: Any) -> tuple[int, ...]:
    dim = [int(n) for n in header["dim"]]
    return tuple(dim[1 : 1 + dim[0]])


def _nifti_affine(
    header: Any, shape: tuple[int, int, int], path: Path, warnings: list[str]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the affine (mm) and the NIfTI part of ``Volume.meta``; warnings are appended to ``warnings``."""
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    pixdim = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if sform_code > 0:
        affine = check_affine(header.get_sform(), path, "sform")
        spacing = np.array(spacing_of(affine))
        if not np.allclose(pixdim, spacing, rtol=1e-3, atol=0):
            warnings.append(
                f"the voxel size in pixdim ({_mm(pixdim)}) differs from that of the sform ({_mm(spacing)}): "
                "the sform is used"
            )
        if qform_code > 0:
            apart = _distance_to_qform(header, affine, shape)
            if not apart <= SAME_GRID_MM + qform_rounding(header, shape):
                warnings.append(f"sform and qform place the image {apart:.4g} mm apart: the sform is used")
                qform_code = 0
    elif qform_code > 0:
        check_spacing(pixdim, path, "header (pixdim)")
        try:
            affine = check_affine(header.get_qform(), path, "qform")
        except (nib.spatialimages.HeaderDataError, ValueError) as error:
            raise InputError(
                f"{path}: expected a unit quaternion in the qform, got an invalid one ({one_line(error)}); "
                "repair the header"
            ) from error
    else:
        check_spacing(pixdim, path, "header (pixdim)")
        affine = check_affine(header.get_base_affine(), path, "header (pixdim)")
        warnings.append(
            "the header codes neither sform nor qform: the spacing is known, but orientation and position are not "
            "(left and right may be swapped)"
        )
    try:
        units = str(header.get_xyzt_units()[0])
    except KeyError:  # a code outside the standard
        units = "unknown"
    factor = _UNIT_MM.get(units, 1.0)
    if factor != 1.0:
        warnings.append(f"the header gives lengths in {units}: they are converted to mm")
        affine = in_millimetres(affine, factor)
    meta = {"format": "nifti", "sform_code": sform_code, "qform_code": qform_code, "units": units}
    return affine, meta


def _distance_to_qform(header: Any, affine: np.ndarray, shape: tuple[int, int, int]) -> float:
    try:
        return largest_corner_distance(affine, header.get_qform(), shape)
    except (nib.spatialimages.HeaderDataError, ValueError):  # an invalid quaternion or a negative pixdim
        return float("inf")


def qform_rounding(header: Any, shape: tuple[int, ...]) -> float:
    """Return the distance in mm by which the rounding of a qform can move a voxel of the volume.

    NIfTI stores b, c, d of the unit quaternion in float32, and the reader computes a = sqrt(1 - b^2 - c^2 - d^2). An
    error e in a^2 is an error e / 2a in a, so near a half turn (a = 0) it grows to sqrt(e), which is 0.1 mm in a head.
    """
    b, c, d = (float(header[f"quatern_{letter}"]) for letter in "bcd")
    squared = b * b + c * c + d * d  # products of damaged values overflow silently, but powers raise an error
    error = 4 * np.finfo(np.float32).eps
    turned = 2 * min(np.sqrt(error), error / (2 * np.sqrt(max(1 - squared, 1e-12))))
    extent = np.linalg.norm(np.asarray(header["pixdim"][1:4], dtype=np.float64) * shape[:3])
    return float((turned + np.finfo(np.float32).eps) * extent)


def _mm(spacing: np.ndarray) -> str:
    return " x ".join(f"{s:.4g}" for s in spacing) + " mm"
