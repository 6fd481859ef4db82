"""File names: which suffix means which format, and what is left of a name without it."""

from __future__ import annotations

import os
import re
from pathlib import Path

NIFTI = (".nii.gz", ".nii")
MGH = (".mgz", ".mgh")
NRRD = (".nrrd", ".nhdr")
METAIMAGE = (".mha", ".mhd")
DICOM = (".dcm", ".dicom", ".ima")

ANALYZE = (".img", ".hdr")
PICTURE = (".png", ".tif", ".tiff")

IMAGE_SUFFIXES = NIFTI + MGH + NRRD + METAIMAGE
_OTHERS = (".jpg", ".jpeg", ".bmp", ".npy", ".npz", ".pt")  # of results and of others' images, which we do not read


def split_suffix(path: str | os.PathLike[str]) -> tuple[str, str]:
    """Split a file name (no folders) into stem and suffix: "a.b.nii.gz" -> ("a.b", ".nii.gz").

    A suffix that is not an image's is what follows the last dot. Case is kept.
    """
    name = Path(path).name
    for suffix in (*IMAGE_SUFFIXES, *DICOM, *PICTURE):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    return Path(name).stem, Path(name).suffix


def without_suffix(name: str) -> str:
    """Return a file name without its suffix, if that is an image's: a DICOM folder may be called 1.2.840.113619.2."""
    stem, suffix = split_suffix(name)
    return stem if suffix.lower() in (*IMAGE_SUFFIXES, *DICOM, *ANALYZE, *PICTURE, *_OTHERS) else name


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which "slice2" comes before "slice10", whatever the case."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part.lower()) for part in parts]
