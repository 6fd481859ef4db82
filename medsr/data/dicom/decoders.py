"""Decode the stored values of a DICOM image of any transfer syntax.

pydicom alone decodes uncompressed, deflated and RLE images. The plug-ins of the extra `dicom` decode JPEG 2000 and
JPEG-LS if they are installed. Otherwise, and for JPEG, the GDCM in SimpleITK does.
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

# Given by number, because pydicom 2 lacks the newest names, and its "JPEGLossless" is another syntax.
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
_START = 1024  # the first bytes of a file, which name its transfer syntax
_INFLATED_BYTES = 4 << 30  # the largest deflated data set that is read
_CHUNK = 1 << 20
_V2 = not hasattr(pydicom, "pixels")  # pydicom 2, which MONAI Label 0.8 asks for

_FrameDecoder = Callable[[Dataset], np.ndarray]


def transfer_syntax(header: Any) -> Any:
    """Return the TransferSyntaxUID of a data set, implicit little endian if there is no file meta information."""
    meta = getattr(header, "file_meta", None)
    return uid.ImplicitVRLittleEndian if meta is None else meta.get("TransferSyntaxUID", uid.ImplicitVRLittleEndian)


def decodable_syntaxes() -> list[str]:
    """Return the UIDs of the transfer syntaxes that `stored_frames` can decode here, the uncompressed ones first."""
    known = [*sorted(_BY_PYDICOM), *sorted(_JPEG | _JPEG_LS | _JPEG2000)]
    return [*known, *(sorted(_HTJ2K) if _installed("openjpeg", "pylibjpeg") else ())]


def check_deflated(path: Path) -> None:
    """Refuse a deflated file that would fill the memory, because pydicom inflates the whole file at once.

    Raises:
        InputError: If the inflated file is larger than 4 GiB.
        Exception: If the file is damaged (struct, zlib or value errors).
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
        header: The data set of the file, without pixels.
        frames: The indices of the frames, from 0; a classic image is frame 0.

    Yields:
        The index of the frame and its values (Rows, Columns), integers or floats as in the file.

    Raises:
        InputError: If no decoder here supports the transfer syntax, or the image has another size than the header.
        Exception: If the pixel data are missing, damaged or cut short; it may be of any type.
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
    """Return a function that decodes a compressed frame.

    Raises:
        InputError: If no decoder supports the transfer syntax.
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
    """Decode all frames at once by pydicom."""
    count = int(dataset.get("NumberOfFrames") or 1)
    needed = count * int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
    stored = max((len(dataset[tag].value) for tag in _PIXELS if tag in dataset), default=0)
    ratio = _RLE_RATIO if transfer_syntax(dataset) == uid.RLELossless else 1
    if stored * ratio < needed:  # checked before pydicom reserves memory for the size in the header
        raise ValueError(f"{needed} bytes by the header, {stored} stored")
    if not _V2:
        dataset.pixel_array_options(correct_unused_bits=False)  # `read_pixels` removes and counts them
    array = dataset.pixel_array
    yield from enumerate(array if array.ndim == 3 else array[None])


def _one_by_one(
    path: Path, dataset: Any, frames: Collection[int], decode: _FrameDecoder
) -> Iterator[tuple[int, np.ndarray]]:
    """Decode compressed frames, each as a separate data set with only the tags that a decoder needs."""
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
    """Refuse a compressed image whose size is not that of the header, because decoders reserve memory by the former."""
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
    """Return a data set of the encoded bytes with the smallest BitsAllocated; on wider ones decoders disagree."""
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
    """Decode by a plug-in of pydicom; `plugin` is its name in pydicom 3, and `handler` that in pydicom 2."""
    if _V2:
        frame.convert_pixel_data(handler)
    else:
        frame.pixel_array_options(decoding_plugin=plugin)
    return np.asarray(frame.pixel_array)


def _by_gdcm(frame: Dataset) -> np.ndarray:
    """Decode by GDCM, which needs a file. The file has no rescale tags, so the values are the stored ones."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with tempfile.TemporaryDirectory(prefix="medsr-") as folder:  # mode 0700
        path = Path(folder, "frame.dcm")
        pydicom.dcmwrite(path, frame, **({"write_like_original": False} if _V2 else {"enforce_file_format": True}))
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return np.asarray(array[0] if array.ndim == 3 else array)
