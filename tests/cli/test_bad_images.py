"""Images that cannot be used, through both doors: one line, no file, no success.

Every bad image is made here; what the line must say is given beside it. For bad requests and outputs see
test_bad_requests.py.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

SHAPE = (9, 8, 7)
HTJ2K = "1.2.840.10008.1.2.4.201"

Maker = Callable[[Any], Path]
BAD: dict[str, tuple[Maker, str]] = {}


def bad(words: str) -> Callable[[Maker], Maker]:
    """Register a maker of a bad input and what the error must say."""

    def register(maker: Maker) -> Maker:
        BAD[maker.__name__] = (maker, words)
        return maker

    return register


@bad("got nothing there")
def missing_file(kit: Any) -> Path:
    return kit.folder / "absent.nii.gz"


@bad("empty folder")
def empty_folder(kit: Any) -> Path:
    return kit.folder


@bad("got other files")
def folder_without_images(kit: Any) -> Path:
    (kit.folder / "notes.md").write_text("no image")
    return kit.folder


@bad("damaged")
def truncated_compressed_nifti(kit: Any) -> Path:
    path = kit.nifti()
    path.write_bytes(path.read_bytes()[:-200])
    return path


@bad("cut short or damaged")
def truncated_nifti(kit: Any) -> Path:
    path = kit.nifti(name="x.nii")
    path.write_bytes(path.read_bytes()[:-50])
    return path


@bad("damaged or incomplete")
def truncated_nrrd(kit: Any) -> Path:
    path = kit.itk("x.nrrd")
    path.write_bytes(path.read_bytes()[:-50])
    return path


@bad("the file is cut short")
def truncated_metaimage(kit: Any) -> Path:
    path = kit.itk("x.mha")
    path.write_bytes(path.read_bytes()[:-50])
    return path


@bad("damaged file or another format")
def text_named_as_an_image(kit: Any) -> Path:
    path = kit.folder / "x.nii.gz"
    path.write_bytes(gzip.compress(b"not an image"))
    return path


@bad("another kind of file")
def document(kit: Any) -> Path:
    path = kit.folder / "x.pdf"
    path.write_bytes(b"%PDF-1.4")
    return path


@bad("expected a readable picture")
def picture(kit: Any) -> Path:
    path = kit.folder / "x.png"
    path.write_bytes(b"\x89PNG\r\n")
    return path


@bad("0 bytes")
def empty_file(kit: Any) -> Path:
    path = kit.folder / "x.nii.gz"
    path.write_bytes(b"")
    return path


@bad("the image is empty")
def zero_size(kit: Any) -> Path:
    path = kit.nifti(name="x.nii")
    raw = bytearray(path.read_bytes())
    raw[44:46] = b"\0\0"  # dim[2]
    path.write_bytes(bytes(raw))
    return path


@bad("expected a 3D image, got 4D")
def four_dimensions(kit: Any) -> Path:
    return kit.nifti(np.stack([kit.volume, kit.volume], axis=-1))


@bad(r"colour \(R/G/B\)")
def colour_nifti(kit: Any) -> Path:
    return kit.nifti(np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


@bad("expected one number per voxel, got 3")
def colour_metaimage(kit: Any) -> Path:
    return kit.itk("x.mha", np.zeros((*SHAPE, 3), np.uint8), vector=True)


@bad("expected one number per voxel, got 2")
def two_channels(kit: Any) -> Path:
    return kit.itk("x.nrrd", np.stack([kit.volume, kit.volume], axis=-1), vector=True)


@bad("1 of 504 voxels that are not")
def not_a_number(kit: Any) -> Path:
    values = kit.volume.astype(np.float32)
    values[1, 2, 3] = np.nan
    return kit.nifti(values)


@bad("1 infinite")
def infinity(kit: Any) -> Path:
    values = kit.volume.astype(np.float32)
    values[1, 2, 3] = np.inf
    return kit.itk("x.mha", values)


@bad("constant")
def constant(kit: Any) -> Path:
    return kit.nifti(np.full(SHAPE, 7, np.int16))


@bad("single voxel")
def one_slice(kit: Any) -> Path:
    return kit.nifti(kit.volume[:, :, :1])


@bad("spacing above 0 mm")
def zero_spacing(kit: Any) -> Path:
    path = kit.nifti(name="x.nii")
    raw = bytearray(path.read_bytes())
    raw[80:92] = np.array([1, 0, 1], "<f4").tobytes()  # pixdim[1:4]
    raw[252:256] = b"\0\0\0\0"  # qform_code, sform_code
    path.write_bytes(bytes(raw))
    return path


@bad("expected ElementSpacing in the header, got none")
def missing_spacing_metaimage(kit: Any) -> Path:
    path = kit.itk("x.mha")
    path.write_bytes(re.sub(rb"ElementSpacing = [^\n]*\n", b"", path.read_bytes()))
    return path


@bad("'space directions' or 'spacings'")
def missing_spacing_nrrd(kit: Any) -> Path:
    path = kit.itk("x.nrrd")
    path.write_bytes(re.sub(rb"space directions: [^\n]*\n", b"", path.read_bytes()))
    return path


@bad("singular affine")
def axes_in_one_plane(kit: Any) -> Path:
    affine = np.eye(4)
    affine[:3, 2] = affine[:3, 1]
    image = nib.Nifti1Image(kit.volume, None)
    image.header.set_sform(affine, 1)
    path = kit.folder / "x.nii"
    nib.save(image, path)
    return path


@bad("expected one DICOM series, got 2")
def two_series(kit: Any) -> Path:
    def change(k: int, image: Any) -> None:
        image.SeriesInstanceUID = f"1.2.3.{k % 2}"

    return kit.dicom(change)


@bad("1 slice is missing")
def missing_slice(kit: Any) -> Path:
    return kit.dicom(lambda k, image: k != 3)


@bad("unevenly spaced")
def uneven_gaps(kit: Any) -> Path:
    def change(k: int, image: Any) -> None:
        image.ImagePositionPatient = [float(v) * (1 + 0.02 * k) for v in image.ImagePositionPatient]

    return kit.dicom(change)


@bad("High-Throughput JPEG 2000 .*cannot be decoded")
def unsupported_compression(kit: Any) -> Path:
    def change(k: int, image: Any) -> None:
        from pydicom.encaps import encapsulate

        image.file_meta.TransferSyntaxUID = HTJ2K
        image.PixelData = encapsulate([image.PixelData])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True

    return kit.dicom(change)


@bad("cannot be decoded")
def damaged_compression(kit: Any) -> Path:
    def change(k: int, image: Any) -> None:
        from pydicom.encaps import encapsulate

        image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"  # JPEG 2000
        image.PixelData = encapsulate([b"\0" * 64])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True

    return kit.dicom(change)


@bad(r"grey values \(MONOCHROME2 or MONOCHROME1\), got RGB")
def colour_dicom(kit: Any) -> Path:
    def change(k: int, image: Any) -> None:
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
        image.BitsAllocated = image.BitsStored = 8
        image.HighBit = 7
        image.PixelData = np.zeros((image.Rows, image.Columns, 3), np.uint8).tobytes()

    return kit.dicom(change)


@bad("3 numbers in ImagePositionPatient, got none")
def dicom_without_position(kit: Any) -> Path:
    def change(k: int, image: Any) -> None:
        del image.ImagePositionPatient

    return kit.dicom(change)


@bad("damaged file")
def truncated_dicom(kit: Any) -> Path:
    path = kit.dicom()
    first = path / "000.dcm"
    first.write_bytes(first.read_bytes()[:140])
    return path


@pytest.mark.parametrize("name", BAD)
def test_bad_image_by_command(doors: Any, kit: Any, name: str) -> None:
    make, words = BAD[name]
    given = make(kit)
    words = f"^medsr: error: {re.escape(str(given))}.*{words}"
    doors.refuse_by_command(words, given, "--scale", "2", "--bundle", doors.root)


@pytest.mark.parametrize("name", BAD)
def test_bad_image_by_bundle(doors: Any, kit: Any, name: str) -> None:
    make, words = BAD[name]
    given = make(kit)
    doors.refuse_by_bundle(f"^medsr: error: {re.escape(str(given))}.*{words}", given, scale=2)
