"""Decodes the pixels of one DICOM image into the units its header declares."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813 (the name everyone uses)
from pydicom import uid

from medsr.data.volume import one_line
from medsr.errors import InputError

# pydicom decodes these with numpy alone.
_BY_PYDICOM = {
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
}
# GDCM, which SimpleITK carries, decodes these; pydicom would need plug-ins.
_BY_GDCM = {
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
}


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keeps pydicom's remarks on odd but harmless values off the screen."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def decode(path: Path, header: Any) -> np.ndarray:
    """Returns the image of a single-frame DICOM file in its real units (HU, scanner units).

    Args:
        path: the file.
        header: its data set, at least transfer syntax, size and rescale tags.

    Returns:
        (Rows, Columns) float64: stored values times RescaleSlope plus RescaleIntercept (PS3.3 C.11.1.1.2).

    Raises:
        InputError: a transfer syntax that cannot be decoded here, or pixel data that are missing or cut
            short.
    """
    syntax = header.file_meta.get("TransferSyntaxUID", uid.ImplicitVRLittleEndian)
    try:
        if syntax in _BY_PYDICOM:
            with quiet_pydicom():
                stored = pydicom.dcmread(path, force=True)
                stored.file_meta.TransferSyntaxUID = syntax
                array = stored.pixel_array.astype(np.float64) * _slope(header) + _intercept(header)
        elif syntax in _BY_GDCM:
            sitk.ProcessObject.SetGlobalWarningDisplay(False)
            # GDCM rescales on its own, by the same two tags.
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float64)[0]
        else:
            raise InputError(
                f"{path}: expected uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000 pixel data, got transfer "
                f"syntax {syntax.name} ({syntax}); convert the series, e.g. with gdcmconv --raw"
            )
    except InputError:
        raise
    except Exception as error:  # the decoders raise anything from AttributeError to RuntimeError
        raise InputError(
            f"{path}: expected complete {syntax.name} pixel data, got data that cannot be decoded "
            f"({one_line(error)}); copy the file again or convert the series"
        ) from error
    expected = (int(header.Rows), int(header.Columns))
    if array.shape != expected:
        raise InputError(f"{path}: expected an image of {expected} pixels, got {array.shape}; copy the file again")
    return array


def _slope(header: Any) -> float:
    return float(header.get("RescaleSlope") or 1.0)


def _intercept(header: Any) -> float:
    return float(header.get("RescaleIntercept") or 0.0)
