"""Stored values through every transfer syntax and width, against the values that were written."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom import uid

from medsr.data.dicom import decoders as dicom_decoders
from medsr.data.dicom.codestreams import Codestream, read_codestream
from medsr.data.readers import read_volume
from medsr.errors import InputError

SHAPE = (40, 36, 2)  # columns, rows, slices
TYPES = [("u1", 8), ("i1", 8), ("u2", 8), ("u2", 12), ("i2", 12), ("u2", 16), ("i2", 16)]
COMPRESSED = ["RLELossless", "JPEGLSLossless", "JPEG2000Lossless"]
DCMTK = shutil.which("dcmcjpeg")

Write = Callable[..., Any]


def stored_values(dtype: str, bits: int) -> np.ndarray:
    """Values that reach both ends of what the bits hold, smooth enough to compress."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if dtype[0] == "i" else (0, (1 << bits) - 1)
    x, y, z = np.meshgrid(*(np.linspace(0, 3, n) for n in SHAPE), indexing="ij")
    wave = (np.sin(x + z) * np.cos(y) + 1) / 2
    values = (low + wave * (high - low)).round().astype(dtype)
    values[0, 0], values[1, 0] = low, high
    return values


def retype(values: np.ndarray, bits: int, **tags: Any) -> Callable[[int, Any], None]:
    """A `change` for `write_dicom` that stores these values, slope 2 and intercept -7."""

    def change(k: int, image: Any) -> None:
        image.BitsAllocated, image.BitsStored, image.HighBit = 8 * values.itemsize, bits, bits - 1
        image.PixelRepresentation = int(values.dtype.kind == "i")
        image.RescaleSlope, image.RescaleIntercept = 2, -7
        image.PixelData = np.ascontiguousarray(values[:, :, k].T).tobytes()
        image["PixelData"].VR = "OB" if values.itemsize == 1 else "OW"
        for name, value in tags.items():
            setattr(image, name, value)

    return change


def compress(folder: Path, syntax: str, **options: Any) -> None:
    for file in folder.iterdir():
        image = pydicom.dcmread(file)
        image.compress(getattr(uid, syntax), generate_instance_uid=False, **options)
        image.save_as(file)


def without_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_decoders, "_installed", lambda *modules: False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "series"


@pytest.mark.parametrize(("dtype", "bits"), TYPES)
def test_every_width_and_sign_through_every_codec(
    folder: Path, oblique_affine: np.ndarray, write_dicom: Write, dtype: str, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = stored_values(dtype, bits)
    expected = values.astype(np.float32) * 2 - 7
    write_dicom(folder, values, oblique_affine, retype(values, bits))
    plain = read_volume(folder)
    np.testing.assert_array_equal(plain.data, expected)
    assert plain.meta["original_dtype"] == f"{'int' if dtype[0] == 'i' else 'uint'}{8 if bits == 8 else 16}"
    syntaxes = [s for s in COMPRESSED if s != "RLELossless" or bits >= 8 * values.itemsize - 4]  # pydicom cannot write
    for syntax in syntaxes:
        shutil.copytree(folder, folder.parent / syntax)
        compress(folder.parent / syntax, syntax)
        np.testing.assert_array_equal(read_volume(folder.parent / syntax).data, expected, err_msg=syntax)
    without_plugins(monkeypatch)
    for syntax in syntaxes:
        np.testing.assert_array_equal(read_volume(folder.parent / syntax).data, expected, err_msg=f"{syntax}, GDCM")


@pytest.mark.skipif(DCMTK is None, reason="needs DCMTK's dcmcjpeg (Debian package dcmtk) to encode JPEG")
@pytest.mark.parametrize(
    ("option", "dtype", "bits"),  # Process 14, selection value 1 and any
    [*(("+e1", *kind) for kind in TYPES), ("+el", "i2", 12)],
)
def test_jpeg_lossless(
    folder: Path, oblique_affine: np.ndarray, write_dicom: Write, option: str, dtype: str, bits: int
) -> None:
    values = stored_values(dtype, bits)
    write_dicom(folder, values, oblique_affine, retype(values, bits))
    for file in folder.iterdir():
        subprocess.run([str(DCMTK), option, file, file], check=True, capture_output=True)
        assert pydicom.dcmread(file).file_meta.TransferSyntaxUID in (uid.JPEGLossless, uid.JPEGLosslessSV1)
    np.testing.assert_array_equal(read_volume(folder).data, values.astype(np.float32) * 2 - 7)


@pytest.mark.skipif(DCMTK is None, reason="needs DCMTK's dcmcjpeg (Debian package dcmtk) to encode JPEG")
@pytest.mark.parametrize(("option", "dtype", "bits"), [("+eb", "u1", 8), ("+ee", "u2", 12)])
def test_lossy_jpeg_is_close(
    folder: Path, oblique_affine: np.ndarray, write_dicom: Write, option: str, dtype: str, bits: int
) -> None:
    values = stored_values(dtype, bits)
    values[0, 0] = values[1, 0] = values[2, 0]  # no jumps
    write_dicom(folder, values, oblique_affine, retype(values, bits))
    for file in folder.iterdir():
        subprocess.run([str(DCMTK), option, "+q", "98", file, file], check=True, capture_output=True)
    error = np.abs(read_volume(folder).data - (values.astype(np.float32) * 2 - 7))
    assert 0 < error.max() < 0.02 * 2 * 2**bits


@pytest.mark.parametrize("plugins", [True, False])
@pytest.mark.parametrize(
    ("syntax", "options"), [("JPEG2000", {"j2k_psnr": [70]}), ("JPEGLSNearLossless", {"jls_error": 3})]
)
def test_lossy_is_close(
    folder: Path,
    oblique_affine: np.ndarray,
    write_dicom: Write,
    syntax: str,
    options: dict[str, Any],
    plugins: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = stored_values("u2", 12)
    write_dicom(folder, values, oblique_affine, retype(values, 12))
    compress(folder, syntax, **options)
    if not plugins:
        without_plugins(monkeypatch)
    error = np.abs(read_volume(folder).data - (values.astype(np.float32) * 2 - 7)) / 2
    assert error.max() <= (3 if "jls_error" in options else 30)
    assert error.max() > 0


@pytest.mark.parametrize("plugins", [True, False])
@pytest.mark.parametrize("syntax", [*COMPRESSED, "DeflatedExplicitVRLittleEndian"])
def test_enhanced_image_through_every_codec(
    tmp_path: Path,
    phantom: Callable[..., np.ndarray],
    oblique_affine: np.ndarray,
    write_enhanced: Write,
    syntax: str,
    plugins: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = phantom((34, 33, 4))
    image = write_enhanced(tmp_path / "a.dcm", volume, oblique_affine, order=[2, 0, 3, 1])
    if syntax.startswith("Deflated"):
        image.file_meta.TransferSyntaxUID = getattr(uid, syntax)
    else:
        image = pydicom.dcmread(tmp_path / "a.dcm")
        image.compress(getattr(uid, syntax), generate_instance_uid=False)
    pydicom.dcmwrite(tmp_path / "a.dcm", image, enforce_file_format=True)
    if not plugins:
        without_plugins(monkeypatch)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").data, volume)


def test_deflated_and_big_endian(folder: Path, oblique_affine: np.ndarray, write_dicom: Write) -> None:
    values = stored_values("i2", 16)

    def deflate(k: int, image: Any) -> None:
        retype(values, 16)(k, image)
        image.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian

    def big(k: int, image: Any) -> None:
        retype(values, 16)(k, image)
        image.PixelData = np.ascontiguousarray(values[:, :, k].T).astype(">i2").tobytes()
        image.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian

    for name, change in (("deflated", deflate), ("big", big)):
        write_dicom(folder / name, values, oblique_affine, change)
        np.testing.assert_array_equal(read_volume(folder / name).data, values.astype(np.float32) * 2 - 7)


def test_bits_beyond_the_stored_ones_are_left_out(folder: Path, oblique_affine: np.ndarray, write_dicom: Write) -> None:
    """Old files kept an overlay in them; a short sign is repeated."""
    values = stored_values("i2", 12)
    unsigned = stored_values("u2", 12)
    with_overlay = unsigned | np.uint16(0x8000)
    cases = {
        "sign": (values & 0x0FFF, values, {"PixelRepresentation": 1}),
        "overlay": (with_overlay, unsigned, {}),
        "high": (unsigned << 2, unsigned, {"HighBit": 13}),
    }
    for name, (written, expected, tags) in cases.items():
        write_dicom(folder / name, values, oblique_affine, retype(written.astype("u2"), 12, **tags))
        read = read_volume(folder / name)
        np.testing.assert_array_equal(read.data, expected.astype(np.float32) * 2 - 7, err_msg=name)
        assert ("bits set beyond BitsStored" in "".join(read.meta["warnings"])) == (name == "overlay")
    write_dicom(folder / "odd", values, oblique_affine, retype(values, 12, HighBit=3))
    with pytest.raises(InputError, match="12 bits stored up to bit 3 of 16"):
        read_volume(folder / "odd")


def test_monochrome1_keeps_its_values(folder: Path, oblique_affine: np.ndarray, write_dicom: Write) -> None:
    values = stored_values("i2", 12)
    write_dicom(folder, values, oblique_affine, retype(values, 12, PhotometricInterpretation="MONOCHROME1"))
    read = read_volume(folder)
    np.testing.assert_array_equal(read.data, values.astype(np.float32) * 2 - 7)
    assert read.meta["photometric"] == "MONOCHROME1"
    assert "MONOCHROME1" in read.meta["warnings"][0]


@pytest.mark.parametrize("limit", [None, -1995])
@pytest.mark.parametrize("implicit", [True, False])
def test_padding_is_counted_and_kept(
    folder: Path, oblique_affine: np.ndarray, write_dicom: Write, limit: int | None, implicit: bool
) -> None:
    values = stored_values("i2", 16) // 32
    values[:3, :3], values[4, 4] = -2000, -1997

    def change(k: int, image: Any) -> None:
        retype(values, 16, PixelPaddingValue=-2000)(k, image)
        if limit is not None:
            image.PixelPaddingRangeLimit = limit
        if implicit:
            image.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian

    write_dicom(folder, values, oblique_affine, change)
    read = read_volume(folder)
    np.testing.assert_array_equal(read.data, values.astype(np.float32) * 2 - 7)
    within = values == -2000 if limit is None else (values >= -2000) & (values <= limit)
    assert f"{int(within.sum())} of {values.size} voxels hold PixelPaddingValue" in read.meta["warnings"][0]


def test_large_integers_are_rounded_with_a_note(folder: Path, oblique_affine: np.ndarray, write_dicom: Write) -> None:
    values = np.full(SHAPE, 2**24 + 1, dtype="u4")

    def change(k: int, image: Any) -> None:
        retype(values, 32)(k, image)
        del image.RescaleSlope, image.RescaleIntercept

    write_dicom(folder, values, oblique_affine, change)
    read = read_volume(folder)
    assert "integers above 2^24 are rounded" in read.meta["warnings"][0]
    assert read.meta["original_dtype"] == "uint32"


def test_kinds_that_are_no_slices(folder: Path, oblique_affine: np.ndarray, write_dicom: Write) -> None:
    values = stored_values("u2", 12)
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "capture": ({"SOPClassUID": uid.SecondaryCaptureImageStorage}, "got a secondary capture"),
        "colour": ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "expected grey values .* got RGB"),
        "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "got PALETTE COLOR"),
        "localizer": ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "got 2 localizer images"),
        "empty": ({"Rows": 0}, "0 rows"),
        "lut": ({"ModalityLUTSequence": [pydicom.Dataset()]}, "Modality LUT"),
        "infinite": ({"RescaleSlope": "1e400"}, "a number in RescaleSlope"),
    }
    for name, (tags, words) in cases.items():
        write_dicom(folder / name, values, oblique_affine, retype(values, 12, **tags))
        with pytest.raises(InputError, match=words) as caught:
            read_volume(folder / name)
        assert "\n" not in str(caught.value)


def test_decoders_that_are_missing_are_named(
    folder: Path, oblique_affine: np.ndarray, write_dicom: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = stored_values("u2", 12)
    write_dicom(folder, values, oblique_affine, retype(values, 12))
    compress(folder, "JPEG2000Lossless")
    for file in folder.iterdir():
        image = pydicom.dcmread(file)
        image.file_meta.TransferSyntaxUID = uid.UID("1.2.840.10008.1.2.4.201")  # high-throughput JPEG 2000
        image.save_as(file)
    without_plugins(monkeypatch)
    with pytest.raises(InputError, match=r"pip install 'medsr\[dicom\]'"):
        read_volume(folder)


@pytest.mark.parametrize("syntax", ["JPEGLSLossless", "JPEG2000Lossless", "RLELossless"])
def test_size_inside_the_codestream_is_checked_first(
    folder: Path, oblique_affine: np.ndarray, write_dicom: Write, syntax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes may claim gigabytes; no decoder is asked to make room for them."""
    values = stored_values("u2", 12)
    write_dicom(folder, values, oblique_affine, retype(values, 12))
    compress(folder, syntax)
    for file in folder.iterdir():
        image = pydicom.dcmread(file)
        if syntax == "RLELossless":
            image.Rows = image.Columns = 30000
        else:
            size = {"JPEGLSLossless": struct.pack(">HH", 36, 40), "JPEG2000Lossless": struct.pack(">II", 40, 36)}
            assert image.PixelData.count(size[syntax]) >= 1
            image.PixelData = image.PixelData.replace(size[syntax], b"\xfa" * len(size[syntax]), 1)
        image.save_as(file)

    def never(*arguments: Any) -> None:
        raise AssertionError("a decoder was asked")

    for name in ("_by_plugin", "_by_gdcm"):
        monkeypatch.setattr(dicom_decoders, name, never)
    monkeypatch.setattr(pydicom.Dataset, "pixel_array", property(never))
    with pytest.raises(InputError, match=r"compressed image of 36x40 grey pixels, got|bytes by the header"):
        read_volume(folder, max_voxels=2**40)


def test_codestream_headers() -> None:
    jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc3\x00\x0b\x10\x00\x07\x00\x09\x01"
    assert read_codestream(jpeg) == Codestream(7, 9, 1, 16)
    assert read_codestream(jpeg[:12]) is None
    assert read_codestream(b"\xff\xd8garbage") is None
    assert read_codestream(b"") is None
    siz = b"\xff\x4f\xff\x51\x00\x29\x00\x00" + struct.pack(">8IHB", 30, 40, 10, 20, 30, 40, 0, 0, 3, 0x8B)
    assert read_codestream(b"a .jp2 box" + siz) == Codestream(20, 20, 3, 12)
    assert read_codestream(siz[:20]) is None


def test_deflated_bomb(
    folder: Path, oblique_affine: np.ndarray, write_dicom: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.zeros(SHAPE, dtype="u2")

    def deflate(k: int, image: Any) -> None:
        retype(values, 16)(k, image)
        image.PixelData = bytes(4 << 20)
        image.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian

    write_dicom(folder, values, oblique_affine, deflate)
    monkeypatch.setattr(dicom_decoders, "_INFLATED_BYTES", 3 << 20)
    with pytest.raises(InputError, match="in a deflated file, got more"):
        read_volume(folder)


@pytest.mark.parametrize("name", ["CT", "MR"])
def test_monai_and_simpleitk_read_the_same(
    folder: Path, phantom: Callable[..., np.ndarray], oblique_affine: np.ndarray, write_dicom: Write, name: str
) -> None:
    from monai.data import PydicomReader

    def change(k: int, image: Any) -> None:
        image.Modality, image.InstanceNumber = name, k + 1
        image.SOPClassUID = uid.CTImageStorage if name == "CT" else uid.MRImageStorage
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID

    write_dicom(folder, phantom((9, 8, 6)), oblique_affine, change)
    read = read_volume(folder)
    reader = PydicomReader()
    array, meta = reader.get_data(reader.read(str(folder)))
    np.testing.assert_array_equal(read.data, array)
    np.testing.assert_allclose(read.affine, meta["affine"], atol=1e-5)
    series = sitk.ImageSeriesReader()
    series.SetFileNames(series.GetGDCMSeriesFileNames(str(folder)))
    image = series.Execute()
    np.testing.assert_array_equal(read.data, sitk.GetArrayFromImage(image).T)
    place = np.array([-1, -1, 1]) * image.TransformIndexToPhysicalPoint((8, 7, 5))
    np.testing.assert_allclose((read.affine @ [8, 7, 5, 1])[:3], place, atol=1e-5)


def test_limit_on_voxels(
    folder: Path, oblique_affine: np.ndarray, write_dicom: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = stored_values("u2", 12)
    write_dicom(folder, values, oblique_affine, retype(values, 12))
    assert read_volume(folder, max_voxels=values.size).data.size == values.size
    with pytest.raises(InputError, match=r"at most 2879 voxels, got 2880 \(40 x 36 x 2\)"):
        read_volume(folder, max_voxels=values.size - 1)
    monkeypatch.setenv("MEDSR_MAX_VOXELS", "100")
    with pytest.raises(InputError, match="at most 100 voxels, got 2880"):
        read_volume(folder)
    monkeypatch.setenv("MEDSR_MAX_VOXELS", "many")
    with pytest.raises(InputError, match="MEDSR_MAX_VOXELS, got 'many'"):
        read_volume(folder)
