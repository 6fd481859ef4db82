"""Damaged files: a finite volume or one line, whatever the bytes; no crash, no hang, no room for what is not there.

`HYPOTHESIS_PROFILE=explore` searches much longer.
"""

from __future__ import annotations

import gzip
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from medsr.data.dicom.archives import unpacked
from medsr.data.dicom.reading import source_headers
from medsr.data.readers import read_volume
from medsr.errors import MedsrError

SECONDS = 30  # far more than any example takes, on a busy machine too
MEMORY = 1 << 30  # bytes beyond what the process has; the images are of a few kilobytes
SHAPE = (34, 33, 3)


class Files(dict[str, bytes]):
    """Whole files by name."""

    def __repr__(self) -> str:
        return f"Files({sorted(self)})"


class HangError(BaseException):
    """Raised by the clock; no `except Exception` takes it for a damaged file."""


@contextmanager
def watched() -> Iterator[None]:
    """Limits time, and on Linux memory, so that a request for gigabytes fails instead of succeeding by chance."""

    def ring(number: int, frame: Any) -> None:
        raise HangError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    limits = None
    if sys.platform == "linux":
        import resource

        limits = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    try:
        yield
    finally:
        if limits is not None:
            resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check(content: bytes, name: str) -> None:
    """What every file must give: a finite volume, or one line that is not about memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", ResourceWarning)  # nobody sees it: Python does not show it by itself
            try:
                with watched():
                    volume = read_volume(path)
            except MedsrError as error:
                check_line(error, path)
                volume = None
        assert not said, f"remarks of libraries besides the one line: {[str(w.message) for w in said]}"
        if volume is not None:
            assert volume.data.dtype == np.float32
            assert np.isfinite(volume.data).all()
            assert np.isfinite(volume.affine).all()
            assert abs(np.linalg.det(volume.affine[:3, :3])) > 0


def check_line(error: BaseException, path: Path) -> None:
    text = str(error)
    assert "\n" not in text
    assert text.startswith(str(path))
    assert "unprintable" not in text
    cause: BaseException | None = error
    while cause is not None:
        assert not isinstance(cause, MemoryError), text
        assert "bad_alloc" not in str(cause), text
        cause = cause.__cause__


numbers = st.sampled_from([0, 1, 2, -1, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1])
floats = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-40, 1e38, -1e38, float("nan"), float("inf"), float("-inf"), 0.5])
words = st.one_of(
    numbers.map(lambda n: struct.pack("<H", n & 0xFFFF)),
    numbers.map(lambda n: struct.pack("<I", n & 0xFFFFFFFF)),
    numbers.map(lambda n: struct.pack(">I", n & 0xFFFFFFFF)),
    floats.map(lambda v: struct.pack("<f", v)),
    floats.map(lambda v: struct.pack("<d", v)),
    st.binary(min_size=1, max_size=8),
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes, header: int) -> bytes:
    """Content with some of its bytes replaced, left out or repeated, most of them in the header, and perhaps cut."""
    data = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        end = header if draw(st.booleans()) else len(data)
        at = draw(st.integers(0, max(min(end, len(data)) - 1, 0)))
        kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "repeat", "insert"]))
        if kind == "replace":
            word = draw(words)
            data[at : at + len(word)] = word
        elif kind == "insert":
            data[at:at] = draw(words)
        else:
            piece = slice(at, at + draw(st.integers(1, 64)))
            data[piece] = b"" if kind == "remove" else bytes(data[piece]) * 2
    if draw(st.integers(0, 3)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


@pytest.fixture(scope="module")
def nifti_files(tmp_path_factory: pytest.TempPathFactory, phantom: Callable[..., np.ndarray]) -> Files:
    folder = tmp_path_factory.mktemp("nifti")
    affine = np.array([[0.9, 0.1, 0, -20], [-0.1, 0.9, 0, 5], [0, 0, 2.5, 7], [0, 0, 0, 1]])
    image = nib.Nifti1Image(phantom(SHAPE), affine)
    image.header.set_slope_inter(2, 1)
    image.to_filename(folder / "a.nii")
    nib.Nifti2Image(phantom(SHAPE).astype(np.float64), affine).to_filename(folder / "b.nii")
    nib.MGHImage(phantom(SHAPE).astype(np.float32), affine).to_filename(folder / "c.mgh")
    return Files((path.name, path.read_bytes()) for path in folder.iterdir())


@pytest.fixture(scope="module")
def dicom_files(
    tmp_path_factory: pytest.TempPathFactory,
    phantom: Callable[..., np.ndarray],
    write_dicom: Callable[..., None],
    write_enhanced: Callable[..., Any],
) -> Files:
    folder = tmp_path_factory.mktemp("dicom")
    write_dicom(folder, phantom((*SHAPE[:2], 1)), np.diag([1.0, 2, 3, 1]))
    (folder / "000.dcm").rename(folder / "classic.dcm")
    write_enhanced(folder / "enhanced.dcm", phantom(SHAPE), np.diag([1.0, 2, 3, 1]))
    for syntax in ("RLELossless", "JPEGLSLossless", "JPEG2000Lossless"):
        image = pydicom.dcmread(folder / "enhanced.dcm")
        image.compress(getattr(pydicom.uid, syntax), generate_instance_uid=False)
        image.save_as(folder / f"{syntax}.dcm")
    for name, syntax in (("implicit", "ImplicitVRLittleEndian"), ("deflated", "DeflatedExplicitVRLittleEndian")):
        image = pydicom.dcmread(folder / "enhanced.dcm")
        image.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        kind = {"implicit_vr": True, "little_endian": True} if name == "implicit" else {}
        pydicom.dcmwrite(folder / f"{name}.dcm", image, enforce_file_format=True, **kind)
    if shutil.which("dcmcjpeg"):
        subprocess.run(["dcmcjpeg", "+e1", folder / "classic.dcm", folder / "JPEGLossless.dcm"], check=True)
    return Files((path.name, path.read_bytes()) for path in folder.iterdir())


@given(st.data())
def test_damaged_nifti(nifti_files: Files, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(nifti_files)))
    content = data.draw(damaged(nifti_files[name], header=560 if name == "b.nii" else 352))
    if data.draw(st.booleans(), label="packed"):
        name, content = {"c.mgh": "c.mgz"}.get(name, f"{name}.gz"), gzip.compress(content, 1)
        if data.draw(st.integers(0, 3)) == 0:
            content = data.draw(damaged(content, header=20))
    check(content, name)


NIFTI_FIELDS = sorted(nib.Nifti1Header.template_dtype.names)


@given(st.data())
def test_odd_values_in_a_nifti_header(nifti_files: Files, data: st.DataObject) -> None:
    raw = bytearray(nifti_files["a.nii"])
    for field in data.draw(st.lists(st.sampled_from(NIFTI_FIELDS), min_size=1, max_size=3)):
        dtype, at = nib.Nifti1Header.template_dtype.fields[field][:2]
        base = dtype.base
        count = dtype.itemsize // base.itemsize
        place = at + base.itemsize * data.draw(st.integers(0, count - 1))
        if base.kind == "f":
            struct.pack_into("<f", raw, place, data.draw(floats))
        else:
            word = data.draw(numbers).to_bytes(8, "little", signed=True)[: base.itemsize]
            raw[place : place + base.itemsize] = word
    check(bytes(raw), "a.nii")


@given(st.data())
def test_damaged_dicom(dicom_files: Files, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(dicom_files)))
    check(data.draw(damaged(dicom_files[name], header=1200)), name)


TAGS = """
    SOPClassUID SOPInstanceUID SeriesInstanceUID SeriesNumber SeriesDescription Modality ImageType NumberOfFrames
    SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation
    PixelPaddingValue PixelPaddingRangeLimit RescaleSlope RescaleIntercept ModalityLUTSequence PixelSpacing
    SliceThickness SpacingBetweenSlices ImagePositionPatient ImageOrientationPatient PixelMeasuresSequence
    PlanePositionSequence PlaneOrientationSequence PixelValueTransformationSequence FrameContentSequence StackID
    PerFrameFunctionalGroupsSequence SharedFunctionalGroupsSequence FrameType SpecificCharacterSet PixelData
    ExtendedOffsetTable ExtendedOffsetTableLengths
"""
raw_values = st.one_of(
    st.sampled_from([b"", b"0 ", b"1 ", b"-1", b"1e400 ", b"NaN ", b"inf ", b"1e-320", b"abc ", b"\\\\", b"1\\2\\3 "]),
    st.sampled_from([b"1\\0\\0\\0\\1\\0 ", b"999999999999", b"LOCALIZER ", b"MONOCHROME1 ", b"1.2.840.10008.1.2.4.90"]),
    words,
)


@given(st.data())
def test_odd_values_in_a_dicom_header(dicom_files: Files, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(set(dicom_files) - {"deflated.dcm"})))
    image = pydicom.dcmread(pydicom.filebase.DicomBytesIO(dicom_files[name]))
    implicit = name == "implicit.dcm"
    places = [image, *(item for _, item in zip(range(3), nested(image), strict=False))]
    for word in data.draw(st.lists(st.sampled_from(TAGS.split()), min_size=1, max_size=3)):
        place, tag = data.draw(st.sampled_from(places)), Tag(word)
        if data.draw(st.integers(0, 4)) == 0:
            place.pop(tag, None)
            continue
        value, vr = data.draw(raw_values), dictionary_VR(tag).split(" ")[-1]
        if vr not in ("SQ", "OW", "OV"):  # what pydicom writes as it is
            place[tag] = RawDataElement(tag, vr, len(value), value, 0, implicit, True)
    written = pydicom.filebase.DicomBytesIO()
    try:
        pydicom.dcmwrite(written, image)
    except Exception:  # pydicom does not write everything that it reads
        return
    check(written.getvalue(), name)


def nested(image: Any) -> Iterator[Any]:
    """The data sets inside sequences, at any depth."""
    for element in image:
        if element.VR == "SQ":
            for item in element.value:
                yield item
                yield from nested(item)


@given(st.data())
def test_damaged_files_in_a_series(dicom_files: Files, data: st.DataObject) -> None:
    """The folder and its headers: other code looks at them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for k in range(data.draw(st.integers(1, 3))):
            content = dicom_files["classic.dcm"].replace(b"1.2.3.4.1", b"1.2.3.4.%d" % (k + 1))
            (folder / f"{k}.dcm").write_bytes(data.draw(damaged(content, header=1200)))
        for read in (read_volume, source_headers):
            try:
                with watched():
                    read(folder)
            except MedsrError as error:
                check_line(error, folder)


@given(st.data())
def test_damaged_archive(dicom_files: Files, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "a.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("study/a.dcm", dicom_files["classic.dcm"])
            archive.writestr("study/readme.txt", b"hello")
        content = path.read_bytes()
        end = len(content) if data.draw(st.booleans()) else 60
        path.write_bytes(data.draw(damaged(content[-200:] if end == 60 else content, header=end)))
        try:
            with watched(), unpacked(path):
                pass
            with watched():
                read_volume(path)
        except MedsrError as error:
            check_line(error, path)
        assert [p.name for p in Path(name).iterdir()] == ["a.zip"]


@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_command_leaves_no_half_files(
    nifti_files: Files,
    dicom_files: Files,
    medsr_command: Callable[..., Any],
    tiny_bundle: Path,
    data: st.DataObject,
) -> None:
    files = Files({**nifti_files, **dicom_files})
    name = data.draw(st.sampled_from(sorted(files)))
    content = data.draw(damaged(files[name], header=560))
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, name), Path(folder, "out")
        path.write_bytes(content)
        with watched():
            done = medsr_command("upscale", path, "-o", out, "--bundle", tiny_bundle, "--scale", 1.5, 1, 1)
        found = sorted(p.name for p in out.rglob("*")) if out.exists() else []
        stem = path.name.split(".")[0]
        if done.status == 0:
            assert found in (
                [f"{stem}_sr.json", f"{stem}_sr.nii.gz"],
                [f"{stem}_sr.json", f"{stem}_sr.nii.gz", f"{stem}_sr.png"],
            )
        else:
            assert found == []
            assert "Traceback" not in done.err
            assert len([line for line in done.err.splitlines() if line.startswith("medsr: error:")]) == 1
