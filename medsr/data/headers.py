"""Read the size and the affine of an image file without its voxels, fast enough for a thousand files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.imageglobals import LoggingOutputSuppressor

from medsr.data.formats.analyze import analyze_grid
from medsr.data.formats.itk_files import ras_affine
from medsr.data.volume import check_affine, one_line
from medsr.errors import InputError
from medsr.files.suffixes import ANALYZE, MGH, NIFTI
from medsr.geometry import largest_corner_distance, spacing_of


@dataclass(frozen=True)
class Header:
    """The grid of an image as its header states it.

    Attributes:
        shape: The voxels per axis; more than three for a time series.
        affine: (4, 4) voxel index -> world, RAS+ mm.
    """

    shape: tuple[int, ...]
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, ...]:
        """The spacing of each spatial axis, mm."""
        return spacing_of(self.affine)[: len(self.shape)]

    def same_grid(self, other: Header, tolerance: float) -> bool:
        """Return whether two headers describe one grid, with all corners within ``tolerance`` mm."""
        return self.shape == other.shape and bool(
            largest_corner_distance(self.affine, other.affine, (*self.shape, 1)[:3]) <= tolerance
        )


def read_header(path: Path) -> Header:
    """Read the header of a NIfTI, MGH or Analyze file, or of any format that ITK reads.

    Args:
        path: The image file. Its voxels are not read, but the length of an uncompressed NIfTI file is checked.

    Raises:
        InputError: If the file is not an image, its header is damaged, or it is uncompressed and cut short.
    """
    if path.name.lower().endswith(NIFTI + MGH):
        return _nibabel_header(path)
    if path.name.lower().endswith(ANALYZE):
        return Header(*analyze_grid(path))
    return _itk_header(path)


def _nibabel_header(path: Path) -> Header:
    with LoggingOutputSuppressor():
        try:
            image: Any = nib.load(path)
        except Exception as error:  # nibabel, gzip and struct errors all mean a damaged file
            raise _damaged(path, error) from error
    if path.suffix.lower() == ".nii":
        needed = image.dataobj.offset + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
        length = path.stat().st_size
        if length < needed:
            raise InputError(f"{path}: expected {needed} bytes, got {length}: cut short; copy it again")
    return Header(tuple(int(n) for n in image.shape), check_affine(image.affine, path, "header"))


def _itk_header(path: Path) -> Header:
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _damaged(path, error) from error
    shape = tuple(int(n) for n in reader.GetSize())
    return Header(shape, check_affine(ras_affine(reader, []), path, "header"))


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: expected a readable image, got a damaged file or another format "
        f"({one_line(error)}); copy or download it again"
    )
