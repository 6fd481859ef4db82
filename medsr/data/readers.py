"""Read every image file: by ``read_volume``, or by ``VolumeReader`` in MONAI's ``LoadImaged``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple

from medsr.data.acquisition import ACQUISITION, Acquisition
from medsr.data.dicom.archives import is_archive
from medsr.data.dicom.reading import is_dicom, read_dicom
from medsr.data.folders import stack_slices
from medsr.data.formats.analyze import read_analyze
from medsr.data.formats.itk_files import read_itk
from medsr.data.formats.nifti import read_nifti
from medsr.data.formats.pictures import read_picture
from medsr.data.formats.stacks import read_stack
from medsr.data.input_images import InputImage, find_images
from medsr.data.provenance import PROVENANCE, Provenance, stamps
from medsr.data.volume import CHANNEL_FILES, SAME_GRID_MM, Volume
from medsr.errors import InputError
from medsr.files.suffixes import ANALYZE, DICOM, IMAGE_SUFFIXES, METAIMAGE, MGH, NIFTI, NRRD, PICTURE
from medsr.geometry import largest_corner_distance

__all__ = ["InputImage", "Volume", "VolumeReader", "find_images", "read_volume"]

_LOGGER = logging.getLogger(__name__)


def read_volume(
    path: PathLike, *, series: str | None = None, max_voxels: int | None = None, luminance: bool = False
) -> Volume:
    """Read one 3D image.

    Args:
        path: A NIfTI, MGH, NRRD or MetaImage file, either file of an Analyze pair, a grey PNG or TIFF picture, a
            folder of such pictures (a stack of slices, see `stack_slices`), a folder or .zip with a DICOM series, or
            one DICOM file (enhanced multi-frame, or one slice).
        series: The SeriesInstanceUID to read from a DICOM folder that holds several series; if it is None, the
            environment variable ``MEDSR_DICOM_SERIES`` decides.
        max_voxels: The largest number of voxels that the image may have; if it is None, the environment variable
            ``MEDSR_MAX_VOXELS`` decides, and without that the limit is 2^30.
        luminance: Whether to read the luminance of a colour picture, which is refused otherwise.

    Returns:
        The volume: float32 intensities in the units of the file, the RAS affine in mm, and facts about the file.

    Raises:
        InputError: If the file is missing, unreadable or not one finite 3D image; the message is one line.

    Examples:
        >>> import nibabel, numpy
        >>> from medsr.data.readers import read_volume
        >>> nibabel.save(nibabel.Nifti1Image(numpy.ones((4, 5, 6), "int16"), numpy.diag([2, 2, 3, 1])), "a.nii.gz")
        >>> volume = read_volume("a.nii.gz")
        >>> volume.data.shape, volume.data.dtype.name, volume.meta["original_dtype"]
        ((4, 5, 6), 'float32', 'int16')
        >>> volume.affine.diagonal().tolist()
        [2.0, 2.0, 3.0, 1.0]
    """
    path = Path(path).expanduser()
    name = path.name.lower()
    try:
        if not path.exists():
            raise InputError(f"{path}: expected an image file or a DICOM folder, got nothing there; check the path")
        if path.is_dir():
            slices = stack_slices(path)
            if slices:
                return read_stack(path, slices, max_voxels, luminance)
            return read_dicom(path, series, max_voxels)
        if path.stat().st_size == 0:
            raise InputError(f"{path}: expected an image, got an empty file (0 bytes); copy the file again")
        if name.endswith(NIFTI + MGH):
            return read_nifti(path, max_voxels)
        if name.endswith(NRRD + METAIMAGE):
            return read_itk(path, max_voxels)
        if name.endswith(ANALYZE):
            return read_analyze(path, max_voxels)
        if name.endswith(PICTURE):
            return read_picture(path, max_voxels, luminance)
        if is_archive(path) or is_dicom(path):
            return read_dicom(path, series, max_voxels)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}; check its permissions") from error
    raise InputError(
        f"{path}: expected {', '.join(IMAGE_SUFFIXES + PICTURE)} or DICOM ({', '.join(DICOM)}, a folder or .zip), "
        f"got {'a damaged DICOM file' if name.endswith(DICOM) else 'another kind of file'}; convert it first"
    )


class VolumeReader(ImageReader):
    """A reader for ``monai.transforms.LoadImaged`` that reads and checks files like ``read_volume``.

    Use it by name: ``LoadImaged(keys="image", reader="medsr.data.readers.VolumeReader",
    ensure_channel_first=True)`` returns a MetaTensor (1, X, Y, Z) float32 with a float64 RAS affine. Several
    files for one key become channels and must have the same grid.

    ``LoadImage`` catches all errors of ``read`` and then tries MONAI's own readers, which would read some of the files
    that this one refuses (two DICOM series, a missing slice). Therefore ``read`` only returns the paths, and
    ``get_data``, whose errors MONAI does not catch, reads the files.

    Args:
        series: See ``read_volume``.
        max_voxels: See ``read_volume``.
        luminance: See ``read_volume``.
    """

    def __init__(self, series: str | None = None, max_voxels: int | None = None, luminance: bool = False) -> None:
        self.series = series
        self.max_voxels = max_voxels
        self.luminance = luminance

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Return True for every name, because `get_data` refuses files that cannot be read."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[Path]:
        """Return the paths; no file is opened yet."""
        return [Path(str(name)) for name in ensure_tuple(data)]

    def get_data(self, img: Sequence[Path]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the files.

        Returns:
            The array, (X, Y, Z) for one file and (C, X, Y, Z) for several, and MONAI's metadata: ``affine``,
            ``original_affine``, ``spatial_shape``, ``original_channel_dim``, ``space``; the entries of
            ``Volume.meta`` of the first file, with ``warnings`` joined to one string (lists of different
            lengths cannot be collated); for several files also their paths as ``channel_files``; and the
            `Provenance` of each file.

        Raises:
            InputError: If ``read_volume`` raises it, the files of one case have different grids, or a file has changed
                while it was read.
        """
        volumes, provenance = [], []
        for path in img:
            before = stamps(path.expanduser())
            volume = read_volume(path, series=self.series, max_voxels=self.max_voxels, luminance=self.luminance)
            provenance.append(Provenance(path.expanduser(), before, volume.headers))
            provenance[-1].check_unchanged()
            volumes.append(volume)
        first = volumes[0]
        for path, volume in zip(img[1:], volumes[1:], strict=True):
            if volume.data.shape != first.data.shape:
                raise InputError(
                    f"{path}: expected the size of the first channel {first.data.shape}, "
                    f"got {volume.data.shape}; resample the channels of one case to one grid"
                )
            apart = largest_corner_distance(volume.affine, first.affine, first.data.shape)
            if apart > SAME_GRID_MM:
                raise InputError(
                    f"{path}: expected the grid of the first channel, got one {apart:.4g} mm away; "
                    "resample the channels of one case to one grid"
                )
        for path, volume in zip(img, volumes, strict=True):
            for note in volume.meta["warnings"]:
                _LOGGER.warning("%s: %s", path, note)
        notes = list(dict.fromkeys(note for volume in volumes for note in volume.meta["warnings"]))
        meta: dict[str, Any] = {key: value for key, value in first.meta.items() if key != "warnings"}
        meta.update(
            affine=first.affine.copy(),
            original_affine=first.affine.copy(),
            spatial_shape=np.asarray(first.data.shape),
            original_channel_dim="no_channel" if len(volumes) == 1 else 0,
            space="RAS",
            warnings="; ".join(notes),
            **{ACQUISITION: Acquisition.of(first.meta), PROVENANCE: provenance},
        )
        if len(volumes) > 1:
            meta[CHANNEL_FILES] = [str(path) for path in img]
        array = first.data if len(volumes) == 1 else np.stack([volume.data for volume in volumes])
        return array, meta
