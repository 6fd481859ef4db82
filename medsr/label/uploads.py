"""Files that clients send: what they are, and what they must not lead to."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from medsr.data.dicom.archives import is_archive
from medsr.data.dicom.reading import is_dicom
from medsr.errors import InputError
from medsr.files.suffixes import METAIMAGE, MGH, NIFTI, NRRD

# One file is one image; .nhdr and .mhd are headers that name another file.
UPLOADS = (*NIFTI, *MGH, NRRD[0], METAIMAGE[0])

# MONAI Label's endpoints write what they receive to `tempfile.NamedTemporaryFile(suffix=...).name`.
_RECEIVED = re.compile(r"tmp[a-z0-9_]{8}(\..*)?", re.DOTALL)
_HEADER_BYTES = 1 << 20

MAX_BYTES = 2**32
MAX_BYTES_VARIABLE = "MEDSR_MAX_UPLOAD_BYTES"  # environment variable that replaces it


def is_received(path: Path) -> bool:
    """Return whether a file is one that the server has received for this request, by its folder and name."""
    temporary = Path(tempfile.gettempdir())
    return path.parent in (temporary, temporary.resolve()) and bool(_RECEIVED.fullmatch(path.name))


def check_upload(path: Path) -> None:
    """Refuse what is no image in one file, or is too large.

    The server has written a file when this is asked: the limit spares reading it, and the file is removed. What is
    received at all, a proxy before the server limits. A NRRD or MetaImage header can name another file as the one with
    the voxels: any file that the server may read.

    Raises:
        InputError: Another kind of file, a header whose voxels are elsewhere, or more bytes than are allowed.
    """
    name = path.name.lower()
    allowed = int(os.environ.get(MAX_BYTES_VARIABLE, MAX_BYTES))
    if path.stat().st_size > allowed:
        raise InputError(
            f"{path}: expected at most {allowed} bytes, got {path.stat().st_size}; send a smaller image, or start the "
            "server with a larger --conf max_upload_bytes"
        )
    if not (name.endswith(UPLOADS) or is_archive(path) or is_dicom(path)):
        raise InputError(
            f"{path}: expected {', '.join(UPLOADS)}, a DICOM file or a .zip of a series, got another kind of file; "
            "convert it"
        )
    if name.endswith(NRRD + METAIMAGE) and not _holds_its_voxels(path):
        raise InputError(f"{path}: expected header and voxels in one file, got a header that names another; merge them")


def _holds_its_voxels(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(_HEADER_BYTES)
    if path.name.lower().endswith(METAIMAGE):
        where = re.search(rb"ElementDataFile\s*[=:]\s*(\S+)", start, re.IGNORECASE)  # the last line of the header
        return where is not None and where[1].upper() == b"LOCAL"
    header, blank, _ = start.replace(b"\r\n", b"\n").partition(b"\n\n")
    return bool(blank) and re.search(rb"^\s*data ?file\s*:", header, re.IGNORECASE | re.MULTILINE) is None
