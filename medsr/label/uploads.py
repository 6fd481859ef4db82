"""Files that clients send: which are taken, and which are refused."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from medsr.data.dicom.archives import is_archive
from medsr.data.dicom.reading import is_dicom
from medsr.errors import InputError
from medsr.files.suffixes import METAIMAGE, MGH, NIFTI, NRRD

# Formats with one file per image; .nhdr and .mhd are headers that name another file.
UPLOADS = (*NIFTI, *MGH, NRRD[0], METAIMAGE[0])

# MONAI Label's endpoints write what they receive to `tempfile.NamedTemporaryFile(suffix=...).name`.
_RECEIVED = re.compile(r"tmp[a-z0-9_]{8}(\..*)?", re.DOTALL)
_HEADER_BYTES = 1 << 20

MAX_BYTES = 2**32
MAX_BYTES_VARIABLE = "MEDSR_MAX_UPLOAD_BYTES"  # the environment variable that replaces the limit


def is_received(path: Path) -> bool:
    """Return whether a file is an upload that the server has just received, judged by its folder and name."""
    temporary = Path(tempfile.gettempdir())
    return path.parent in (temporary, temporary.resolve()) and bool(_RECEIVED.fullmatch(path.name))


def check_upload(path: Path) -> None:
    """Refuse an upload that is too large or is not an image in one file.

    The server has already written the file, so the limit only avoids reading it; a proxy in front of the server can
    limit what is received. A header of NRRD or MetaImage that names another file for the voxels is refused because it
    could name any file that the server can read.

    Raises:
        InputError: If the file is too large, of another kind, or a header whose voxels are in another file.
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
    """Return whether the voxels of a NRRD or MetaImage file follow its header in the same file."""
    with path.open("rb") as stream:
        start = stream.read(_HEADER_BYTES)
    if path.name.lower().endswith(METAIMAGE):
        where = re.search(rb"ElementDataFile\s*[=:]\s*(\S+)", start, re.IGNORECASE)  # the last line of the header
        return where is not None and where[1].upper() == b"LOCAL"
    header, blank, _ = start.replace(b"\r\n", b"\n").partition(b"\n\n")
    return bool(blank) and re.search(rb"^\s*data ?file\s*:", header, re.IGNORECASE | re.MULTILINE) is None
