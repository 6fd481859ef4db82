"""Read the size of a compressed image from its own header, before a decoder allocates memory for it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_JPEG_START = b"\xff\xd8"
_JPEG2000_START = b"\xff\x4f\xff\x51"  # SOC and SIZ (ISO/IEC 15444-1 A.4.1, A.5.1)
_JP2_BOXES = 1024  # some writers put the boxes of a .jp2 file before the codestream, which violates PS3.5 A.4.4
_JPEG_LS_FRAME = 0xF7
# SOF0 to SOF15 without DHT, JPG and DAC (ISO/IEC 10918-1 table B.1)
_JPEG_FRAMES = {*range(0xC0, 0xD0), _JPEG_LS_FRAME} - {0xC4, 0xC8, 0xCC}
_STANDALONE = {0x01, *range(0xD0, 0xDA)}  # markers without a length


@dataclass(frozen=True)
class Codestream:
    """The size of a compressed image according to its own header.

    Attributes:
        rows: The number of rows; JPEG allows 0 ("stated later"), but DICOM does not.
        columns: The number of columns.
        components: The number of components, 1 for grey values.
        precision: The number of bits per value of the first component.
    """

    rows: int
    columns: int
    components: int
    precision: int


def read_codestream(frame: bytes) -> Codestream | None:
    """Return the size that a JPEG, JPEG-LS or JPEG 2000 image states, None if it is in none of these formats."""
    try:
        if frame.startswith(_JPEG_START):
            return _jpeg(frame)
        start = frame.find(_JPEG2000_START, 0, _JP2_BOXES)
        return None if start < 0 else _jpeg2000(frame, start)
    except struct.error:  # the frame is cut short
        return None


def _jpeg(frame: bytes) -> Codestream | None:
    at = len(_JPEG_START)
    while at < len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1] if at + 1 < len(frame) else 0
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _JPEG_FRAMES:
            precision, rows, columns, components = struct.unpack_from(">BHHB", frame, at + 4)
            return Codestream(rows, columns, components, precision)
        elif marker in _STANDALONE:
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return None


def _jpeg2000(frame: bytes, start: int) -> Codestream:
    # The sizes of the reference grid and the image's offset on it follow SOC, the marker SIZ, its length and Rsiz.
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    components, depth = struct.unpack_from(">HB", frame, start + 40)
    return Codestream(bottom - top, right - left, components, (depth & 0x7F) + 1)  # the highest bit states the sign
