"""Decode the stored values of a DICOM image of any transfer syntax.

Uncompressed, deflated and RLE images are decoded by pydicom alone. JPEG 2000 and JPEG-LS are decoded by the plug-ins of
the extra `dicom` where they are installed; else, and for JPEG, by the GDCM that SimpleITK carries.
"""

from __future__ import annotations

import importlib.util
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813 (the name everyone uses)
from pydicom import encaps, uid
from pydicom.dataset import Dataset, FileMetaDataset

from medsr.data.dicom.codestreams import Codestream, read_codestream
from medsr.data.dicom.errors import BoundedFile
from medsr.errors import InputError

# By number: pydicom 2 lacks the newest names and means another by "JPEGLossless".
_JPEG = {uid.UID(f"1.2.840.10008.1.2.4.{k}") for k in (50, 51, 57, 70)}
_JPEG_LS = {uid.UID(f"1.2.840.10008.1.2.4.{k}") for k in (80, 81)}
_JPEG2000 = {uid.UID(f"1.2.840.10008.1.2.4.{k}") for k in (90, 91)}
_HTJ2K = {uid.UID(f"1.2.840.10008.1.2.4.{k}") for k in (201, 202, 203)}
_BY_PYDICOM = {
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
}

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_RLE_RATIO = 64  # two bytes stand for 128 at most
_PREAMBLE = 132  # 128 bytes and the magic word
_START = 1024  # bytes of a file within which its transfer syntax is named
_INFLATED_BYTES = 4 << 30  # of the largest deflated data set that is read
_CHUNK = 1 << 20
_V2 = not hasattr(pydicom, "pixels")  # pydicom 2, which MONAI Label 0.8 asks for

_FrameDecoder = Callable[[Dataset], np.ndarray]


def transfer_syntax(header: Any) -> Any:
    """Return the TransferSyntaxUID of a data set; without file meta information it is implicit little endian."""
    meta = getattr(header, "file_meta", None)
    return uid.ImplicitVRLittleEndian if meta is None else meta.get("TransferSyntaxUID", uid.ImplicitVRLittleEndian)


def decodable_syntaxes() -> list[str]:
    """Return the UIDs of the transfer syntaxes that `stored_frames` decodes here, the uncompressed ones first."""
    known = [*sorted(_BY_PYDICOM), *sorted(_JPEG | _JPEG_LS | _JPEG2000)]
    return [*known, *(sorted(_HTJ2K) if _installed("openjpeg", "pylibjpeg") else ())]


def check_deflated(path: Path) -> None:
    """Refuse a deflated file that would fill the memory; pydicom inflates it whole, headers and all.

    Raises:
        InputError: If it does not inflate to the end within 4 GiB.
        Exception: Struct, zlib or value errors of a damaged file.
    """
    with open(path, "rb") as file:
        if uid.DeflatedExplicitVRLittleEndian.encode() not in file.read(_START):
            return
        file.seek(_PREAMBLE)
        group, element, _, _, length = struct.unpack("<HH2sHI", file.read(12))
        if (group, element) != (2, 0):
            raise ValueError("no FileMetaInformationGroupLength where it should be")
        file.seek(length, os.SEEK_CUR)
        inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while block := file.read(_CHUNK):
            while block and size <= _INFLATED_BYTES:
                size += len(inflater.decompress(block, _CHUNK))
                block = inflater.unconsumed_tail
    if size > _INFLATED_BYTES:
        raise InputError(
            f"{path}: expected at most {_INFLATED_BYTES >> 30} GiB in a deflated file, got more; save it uncompressed "
            "if you trust it"
        )


def stored_frames(path: Path, header: Any, frames: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield frames of a file as they are stored, before any rescale, in the order of the file.

    Args:
        path: The file.
        header: Its data set, without pixels.
        frames: Which, from 0; a classic image is its frame 0.

    Yields:
        The frame's number and (Rows, Columns) integers, or floats where the file has them.

    Raises:
        InputError: A transfer syntax that nothing here decodes, or an image of another size than the header says.
        Exception: Anything, from pixel data that are missing, damaged or cut short.
    """
    syntax = transfer_syntax(header)
    decode = None if syntax in _BY_PYDICOM else _frame_decoder(path, syntax)
    with BoundedFile(path) as file:
        dataset = pydicom.dcmread(file, force=True)
    dataset.file_meta.TransferSyntaxUID = syntax
    size = (int(header.Rows), int(header.Columns))
    decoded = _whole(dataset) if decode is None else _one_by_one(path, dataset, frames, decode)
    found = 0
    for k, array in decoded:
        if array.shape != size:
            raise InputError(f"{path}: expected an image of {size} pixels, got {array.shape}; copy the file again")
        if k in frames:
            found += 1
            yield k, array
    if found < len(frames):
        raise ValueError(f"{dataset.get('NumberOfFrames')} frames by the header, {found} stored")


def _frame_decoder(path: Path, syntax: Any) -> _FrameDecoder:
    """Return what decodes a compressed frame here.

    Raises:
        InputError: If nothing does.
    """
    if syntax in _JPEG_LS and _installed("jpeg_ls"):
        return lambda frame: _by_plugin(frame, "pyjpegls", "jpeg_ls")
    if syntax in _JPEG2000 | _HTJ2K and _installed("openjpeg", "pylibjpeg"):
        return lambda frame: _by_plugin(frame, "pylibjpeg", "pylibjpeg")
    if syntax in _JPEG | _JPEG_LS | _JPEG2000:
        return _by_gdcm
    if syntax in _HTJ2K:
        raise InputError(
            f"{path}: expected an installed decoder for {syntax.name} ({syntax}), got none; "
            "run: pip install 'medsr[dicom]'"
        )
    raise InputError(
        f"{path}: expected uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000 pixel data, got transfer "
        f"syntax {syntax.name} ({syntax}); convert the series, e.g. with gdcmconv --raw"
    )


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def _whole(dataset: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Decodes by pydicom, all frames at once."""
    count = int(dataset.get("NumberOfFrames") or 1)
    needed = count * int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
    stored = max((len(dataset[tag].value) for tag in _PIXELS if tag in dataset), default=0)
    ratio = _RLE_RATIO if transfer_syntax(dataset) == uid.RLELossless else 1
    if stored * ratio < needed:  # known before pydicom makes room for what the header says
        raise ValueError(f"{needed} bytes by the header, {stored} stored")
    if not _V2:
        dataset.pixel_array_options(correct_unused_bits=False)  # `dicom_pixels` does, and counts them
    array = dataset.pixel_array
    yield from enumerate(array if array.ndim == 3 else array[None])


def _one_by_one(
    path: Path, dataset: Any, frames: Collection[int], decode: _FrameDecoder
) -> Iterator[tuple[int, np.ndarray]]:
    """Decodes compressed frames, each as a data set of its own that says no more than a decoder must know."""
    for k, encoded in enumerate(_encoded_frames(dataset)):
        if k in frames:
            said = _check_codestream(path, encoded, dataset)
            yield k, decode(_single_frame(dataset, encoded, said.precision))


def _encoded_frames(dataset: Any) -> Iterator[bytes]:
    count = int(dataset.get("NumberOfFrames") or 1)
    if _V2:
        return iter(encaps.generate_pixel_data_frame(dataset.PixelData, count))
    table = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    offsets = table if None not in table else None
    return iter(encaps.generate_frames(dataset.PixelData, number_of_frames=count, extended_offsets=offsets))


def _check_codestream(path: Path, encoded: bytes, dataset: Any) -> Codestream:
    """Refuse a compressed image of another size than its header's: decoders make room by the former."""
    said = read_codestream(encoded)
    if said is None:
        raise ValueError("no JPEG, JPEG-LS or JPEG 2000 image where one should begin")
    expected = (int(dataset.Rows), int(dataset.Columns), 1)
    if (said.rows, said.columns, said.components) != expected:
        raise InputError(
            f"{path}: expected a compressed image of {expected[0]}x{expected[1]} grey pixels, got {said.rows}x"
            f"{said.columns} with {said.components} component(s); copy the file again"
        )
    return said


def _single_frame(dataset: Any, encoded: bytes, precision: int) -> Dataset:
    """Return an image of the encoded bytes, in no wider a header than they need: on that decoders disagree."""
    frame = Dataset()
    frame.SOPClassUID, frame.SOPInstanceUID = uid.SecondaryCaptureImageStorage, uid.UID("2.25.1")
    frame.Modality = "OT"
    frame.SamplesPerPixel, frame.PhotometricInterpretation = 1, "MONOCHROME2"
    frame.Rows, frame.Columns = int(dataset.Rows), int(dataset.Columns)
    frame.PixelRepresentation = int(dataset.PixelRepresentation)
    frame.BitsStored, frame.HighBit = int(dataset.BitsStored), int(dataset.BitsStored) - 1
    frame.BitsAllocated = 8 if max(precision, frame.BitsStored) <= 8 else int(dataset.BitsAllocated)
    frame.PixelData = encaps.encapsulate([encoded])
    frame["PixelData"].VR = "OB"
    frame["PixelData"].is_undefined_length = True
    frame.file_meta = FileMetaDataset()
    frame.file_meta.TransferSyntaxUID = transfer_syntax(dataset)
    frame.file_meta.MediaStorageSOPClassUID = frame.SOPClassUID
    frame.file_meta.MediaStorageSOPInstanceUID = frame.SOPInstanceUID
    if _V2:
        frame.is_little_endian, frame.is_implicit_VR = True, False
    return frame


def _by_plugin(frame: Dataset, plugin: str, handler: str) -> np.ndarray:
    """Decodes by a plug-in of pydicom, named by the word of pydicom 3 and that of pydicom 2."""
    if _V2:
        frame.convert_pixel_data(handler)
    else:
        frame.pixel_array_options(decoding_plugin=plugin)
    return np.asarray(frame.pixel_array)


def _by_gdcm(frame: Dataset) -> np.ndarray:
    """Decodes by GDCM, which wants a file. It finds no rescale in it, so the values are the stored ones."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with tempfile.TemporaryDirectory(prefix="medsr-") as folder:  # mode 0700
        path = Path(folder, "frame.dcm")
        pydicom.dcmwrite(path, frame, **({"write_like_original": False} if _V2 else {"enforce_file_format": True}))
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return np.asarray(array[0] if array.ndim == 3 else array)
