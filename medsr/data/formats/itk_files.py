"""Read NRRD and MetaImage files with SimpleITK."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name everyone uses)

from medsr.data.volume import (
    Volume,
    check_affine,
    check_size,
    check_spacing,
    describe,
    one_line,
    spatial_shape,
    to_float32,
)
from medsr.errors import InputError
from medsr.files.suffixes import METAIMAGE, split_suffix
from medsr.geometry import affine_of_axes, directions_of, in_millimetres, origin_of, ras_lps, spacing_of

_HEADER_BYTES = 1 << 16  # a header is a text of about a kilobyte before the voxels
_COMPLEX = (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)
_ANATOMICAL_SPACES = {"left-posterior-superior", "right-anterior-superior", "left-anterior-superior"}
_ANATOMICAL_SPACES |= {"lps", "ras", "las"}
_UNIT_MM = {"mm": 1.0, "millimeter": 1.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "cm": 10.0, "m": 1e3}
_ELEMENT_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}


def read_itk(path: Path, max_voxels: int | None = None) -> Volume:
    """Read a ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd`` file.

    SimpleITK assumes a spacing of 1 if a header has none, so the header is checked here too.

    Args:
        path: The file.
        max_voxels: See `check_size`.

    Raises:
        InputError: If the file is not an image of this format, is cut short, states no spacing, or is not one
            finite 3D volume.
    """
    warnings: list[str] = []
    if split_suffix(path)[1].lower() in METAIMAGE:
        kind, units, factor = "metaimage", "mm", 1.0
        _check_metaimage(path)
    else:
        kind = "nrrd"
        units, factor = _check_nrrd(path, warnings)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK prints its warnings to stderr, not through Python
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        shape = spatial_shape(reader.GetSize(), path)
        _check_voxels(reader, path)
        check_size(shape, path, max_voxels)
        image = reader.Execute()
    except InputError:
        raise
    except RuntimeError as error:
        raise InputError(
            f"{path}: expected a readable {split_suffix(path)[1]} image, got a damaged or incomplete one "
            f"({one_line(error)}); check or copy the file again"
        ) from error
    array = sitk.GetArrayFromImage(image).T  # the array of ITK is (Z, Y, X)
    affine = in_millimetres(check_affine(ras_affine(image, warnings), path, "header"), factor)
    meta = describe(filename=str(path), format=kind, original_dtype=str(array.dtype), units=units, warnings=warnings)
    return Volume(to_float32(array.reshape(shape, order="F"), path, warnings), affine, meta)


def _check_voxels(reader: Any, path: Path) -> None:
    if reader.GetNumberOfComponents() > 1 and reader.GetPixelID() not in _COMPLEX:
        raise InputError(
            f"{path}: expected one number per voxel, got {reader.GetNumberOfComponents()} (colour or "
            "vectors); save one component as a grey image first"
        )
    if reader.GetPixelID() in _COMPLEX:
        raise InputError(f"{path}: expected real voxel values, got complex ones; save the magnitude first")


def ras_affine(image: Any, warnings: list[str]) -> np.ndarray:
    """Return the RAS affine (4, 4) of the first three axes of a SimpleITK image; a 2D image adds a warning."""
    ndim = image.GetDimension()
    used = min(ndim, 3)
    steps = (np.array(image.GetDirection()).reshape(ndim, ndim) * np.array(image.GetSpacing())).T[:used, :used]
    if ndim == 2:
        warnings.append("the image is 2D: its slice thickness is unknown and assumed to be 1 mm")
    return ras_lps(affine_of_axes(list(steps), image.GetOrigin()[:used]))


def _header_fields(path: Path, separator: str) -> tuple[dict[str, str], int]:
    """Return the fields of a text header, with keys in lower case, and its length in bytes."""
    try:
        with open(path, "rb") as file:
            raw = file.read(_HEADER_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
    fields: dict[str, str] = {}
    used = 0
    for line in raw.split(b"\n"):
        used += len(line) + 1
        text = line.decode("utf-8", errors="replace").strip()
        key, found, value = text.partition(separator)
        if found:
            fields[key.strip().lower()] = value.strip()
        # The voxels follow an empty line (NRRD) or the line ElementDataFile (MetaImage).
        if not text or key.strip().lower() == "elementdatafile":
            break
    return fields, used


def _check_metaimage(path: Path) -> None:
    """Refuse a MetaImage file whose header has no spacing or whose voxels are not complete.

    For incomplete voxels ITK reports "No such file or directory" and prints to stderr.

    Raises:
        InputError: If the file is refused.
    """
    fields, used = _header_fields(path, "=")
    if "ndims" not in fields or "elementdatafile" not in fields:
        raise InputError(f"{path}: expected a MetaImage header, got something else; check or copy the file again")
    stated = fields.get("elementspacing", fields.get("elementsize"))
    if stated is None:
        raise InputError(f"{path}: expected ElementSpacing in the header, got none; add the voxel size in mm")
    check_spacing(_numbers(stated), path, "header (ElementSpacing)")
    name = fields["elementdatafile"]
    data = path if name.upper() == "LOCAL" else path.parent / name
    if name.upper().startswith("LIST") or "%" in name:
        return  # there is one file per slice, and ITK names one that is missing
    _check_exists(path, data.name if data == path else name)
    stored = data.stat().st_size - (used if data == path else 0)
    if fields.get("compresseddata", "False").lower() == "true":
        needed = int(fields.get("compresseddatasize", 0))
    else:
        bytes_each = _ELEMENT_BYTES.get(re.sub(r"^MET_U?|_ARRAY$", "", fields.get("elementtype", "")), 0)
        channels = int(fields.get("elementnumberofchannels", 1))
        needed = int(np.prod(_numbers(fields.get("dimsize", "0")))) * bytes_each * channels
    if stored < needed:
        raise InputError(
            f"{path}: expected {needed} bytes of voxels, got {stored}: the file is cut short; copy it again"
        )


def _check_nrrd(path: Path, warnings: list[str]) -> tuple[str, float]:
    """Check that a NRRD header has a usable spacing, and return its unit of length and the length of that in mm.

    Raises:
        InputError: If the file is not NRRD, its spacing is missing or unusable, or its voxels are missing.
    """
    fields, _ = _header_fields(path, ":")
    with open(path, "rb") as file:
        if file.read(4) != b"NRRD":
            raise InputError(f"{path}: expected a NRRD header, got something else; check or copy the file again")
    if "space directions" in fields:
        vectors = re.findall(r"\(([^)]*)\)", fields["space directions"])
        spacing = [float(np.linalg.norm(_numbers(vector))) for vector in vectors]
        check_spacing(spacing, path, "header (space directions)")
    elif "spacings" in fields:
        # In NRRD, NaN marks an axis that is not spatial. A first axis of colours is refused later anyway.
        check_spacing(_numbers(fields["spacings"]), path, "header (spacings)")
    else:
        raise InputError(
            f"{path}: expected 'space directions' or 'spacings' in the header, got none; add the voxel size in mm"
        )
    detached = fields.get("data file", fields.get("datafile", "LIST"))
    if not detached.upper().startswith("LIST") and "%" not in detached:
        _check_exists(path, detached)
    space = fields.get("space", "").lower()
    if space not in _ANATOMICAL_SPACES:
        warnings.append(
            f"the header names {space or 'no space'}: position and orientation are assumed to be "
            "left-posterior-superior"
        )
    units = re.findall(r'"([^"]*)"', fields.get("space units", ""))
    unit = units[0].lower() if units else "mm"
    if unit not in _UNIT_MM:
        warnings.append(f"the header gives lengths in '{unit}', which is unknown: they are assumed to be mm")
    elif _UNIT_MM[unit] != 1.0:
        warnings.append(f"the header gives lengths in {unit}: they are converted to mm")
    return unit, _UNIT_MM.get(unit, 1.0)


def _check_exists(header: Path, name: str) -> None:
    if not (header.parent / name).exists():
        raise InputError(f"{header}: expected its voxels in {name}, got no such file; copy both files together")


def _numbers(text: str) -> list[float]:
    """Return the numbers of a header value; other words become NaN, which every check refuses."""
    values = []
    for word in text.replace(",", " ").split():
        try:
            values.append(float(word))
        except ValueError:
            values.append(float("nan"))
    return values


def to_sitk(data: np.ndarray, affine: np.ndarray) -> Any:
    """Make a SimpleITK image from an array (X, Y, Z) and its RAS affine, whose axes must be perpendicular."""
    lps = ras_lps(affine)
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
    image.SetSpacing(list(spacing_of(affine)))
    image.SetDirection(directions_of(lps).ravel().tolist())
    image.SetOrigin(origin_of(lps).tolist())
    return image


def from_sitk(image: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the array (X, Y, Z) and the RAS affine of a 3D SimpleITK image."""
    return sitk.GetArrayFromImage(image).T, ras_affine(image, [])
