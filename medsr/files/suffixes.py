"""Map the suffixes of file names to formats, and remove them from names."""

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
_OTHERS = (
    ".jpg",
    ".jpeg",
    ".bmp",
    ".npy",
    ".npz",
    ".pt",
)  # suffixes of results, and of images that medsr does not read


def split_suffix(path: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the stem and the suffix of a file, without folders: "a.b.nii.gz" gives ("a.b", ".nii.gz").

    If the suffix is not that of an image, it begins at the last dot. Upper and lower case are kept.
    """
    name = Path(path).name
    for suffix in (*IMAGE_SUFFIXES, *DICOM, *PICTURE):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    return Path(name).stem, Path(name).suffix


def without_suffix(name: str) -> str:
    """Return a file name without the suffix of an image; other suffixes stay, as in the folder 1.2.840.113619.2."""
    stem, suffix = split_suffix(name)
    return stem if suffix.lower() in (*IMAGE_SUFFIXES, *DICOM, *ANALYZE, *PICTURE, *_OTHERS) else name


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts "slice2" before "slice10" and ignores case."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part.lower()) for part in parts]
