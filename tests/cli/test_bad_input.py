"""Bad input through both doors, `medsr upscale` and `python -m monai.bundle run`: one line, no file, no success.

Every bad input is made here. What the line must say is given beside it.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

Command = Callable[..., Any]
SHAPE = (9, 8, 7)
HTJ2K = "1.2.840.10008.1.2.4.201"


@dataclass(frozen=True)
class Kit:
    """What the makers of bad inputs need."""

    folder: Path
    volume: np.ndarray
    affine: np.ndarray
    write_dicom: Callable[..., None]

    def nifti(self, array: np.ndarray | None = None, name: str = "x.nii.gz", affine: np.ndarray | None = None) -> Path:
        path = self.folder / name
        data = self.volume if array is None else array
        nib.save(nib.Nifti1Image(data, self.affine if affine is None else affine), path)
        return path

    def itk(self, name: str, array: np.ndarray | None = None, vector: bool = False) -> Path:
        path = self.folder / name
        data = self.volume if array is None else array
        sitk.WriteImage(sitk.GetImageFromArray(data, isVector=vector), str(path))
        return path

    def dicom(self, change: Callable[[int, Any], Any] = lambda k, image: None) -> Path:
        path = self.folder / "series"
        self.write_dicom(path, self.volume, self.affine, change)
        return path


@pytest.fixture
def kit(
    tmp_path: Path, phantom: Callable[..., np.ndarray], oblique_affine: np.ndarray, write_dicom: Callable[..., None]
) -> Kit:
    folder = tmp_path / "in"
    folder.mkdir()
    return Kit(folder, phantom(SHAPE), oblique_affine, write_dicom)


Maker = Callable[[Kit], Path]
BAD: dict[str, tuple[Maker, str]] = {}


def bad(words: str) -> Callable[[Maker], Maker]:
    """Register a maker of a bad input and what the error must say."""

    def register(maker: Maker) -> Maker:
        BAD[maker.__name__] = (maker, words)
        return maker

    return register


@bad("got nothing there")
def missing_file(kit: Kit) -> Path:
    return kit.folder / "absent.nii.gz"


@bad("empty folder")
def empty_folder(kit: Kit) -> Path:
    return kit.folder


@bad("got other files")
def folder_without_images(kit: Kit) -> Path:
    (kit.folder / "notes.md").write_text("no image")
    return kit.folder


@bad("damaged")
def truncated_compressed_nifti(kit: Kit) -> Path:
    path = kit.nifti()
    path.write_bytes(path.read_bytes()[:-200])
    return path


@bad("cut short or damaged")
def truncated_nifti(kit: Kit) -> Path:
    path = kit.nifti(name="x.nii")
    path.write_bytes(path.read_bytes()[:-50])
    return path


@bad("damaged or incomplete")
def truncated_nrrd(kit: Kit) -> Path:
    path = kit.itk("x.nrrd")
    path.write_bytes(path.read_bytes()[:-50])
    return path


@bad("the file is cut short")
def truncated_metaimage(kit: Kit) -> Path:
    path = kit.itk("x.mha")
    path.write_bytes(path.read_bytes()[:-50])
    return path


@bad("damaged file or another format")
def text_named_as_an_image(kit: Kit) -> Path:
    path = kit.folder / "x.nii.gz"
    path.write_bytes(gzip.compress(b"not an image"))
    return path


@bad("another kind of file")
def picture(kit: Kit) -> Path:
    path = kit.folder / "x.png"
    path.write_bytes(b"\x89PNG\r\n")
    return path


@bad("0 bytes")
def empty_file(kit: Kit) -> Path:
    path = kit.folder / "x.nii.gz"
    path.write_bytes(b"")
    return path


@bad("the image is empty")
def zero_size(kit: Kit) -> Path:
    path = kit.nifti(name="x.nii")
    raw = bytearray(path.read_bytes())
    raw[44:46] = b"\0\0"  # dim[2]
    path.write_bytes(bytes(raw))
    return path


@bad("expected a 3D image, got 4D")
def four_dimensions(kit: Kit) -> Path:
    return kit.nifti(np.stack([kit.volume, kit.volume], axis=-1))


@bad(r"colour \(R/G/B\)")
def colour_nifti(kit: Kit) -> Path:
    return kit.nifti(np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


@bad("expected one number per voxel, got 3")
def colour_metaimage(kit: Kit) -> Path:
    return kit.itk("x.mha", np.zeros((*SHAPE, 3), np.uint8), vector=True)


@bad("expected one number per voxel, got 2")
def two_channels(kit: Kit) -> Path:
    return kit.itk("x.nrrd", np.stack([kit.volume, kit.volume], axis=-1), vector=True)


@bad("1 of 504 voxels that are not")
def not_a_number(kit: Kit) -> Path:
    values = kit.volume.astype(np.float32)
    values[1, 2, 3] = np.nan
    return kit.nifti(values)


@bad("1 infinite")
def infinity(kit: Kit) -> Path:
    values = kit.volume.astype(np.float32)
    values[1, 2, 3] = np.inf
    return kit.itk("x.mha", values)


@bad("constant")
def constant(kit: Kit) -> Path:
    return kit.nifti(np.full(SHAPE, 7, np.int16))


@bad("single voxel")
def one_slice(kit: Kit) -> Path:
    return kit.nifti(kit.volume[:, :, :1])


@bad("spacing above 0 mm")
def zero_spacing(kit: Kit) -> Path:
    path = kit.nifti(name="x.nii")
    raw = bytearray(path.read_bytes())
    raw[80:92] = np.array([1, 0, 1], "<f4").tobytes()  # pixdim[1:4]
    raw[252:256] = b"\0\0\0\0"  # qform_code, sform_code
    path.write_bytes(bytes(raw))
    return path


@bad("expected ElementSpacing in the header, got none")
def missing_spacing_metaimage(kit: Kit) -> Path:
    path = kit.itk("x.mha")
    path.write_bytes(re.sub(rb"ElementSpacing = [^\n]*\n", b"", path.read_bytes()))
    return path


@bad("'space directions' or 'spacings'")
def missing_spacing_nrrd(kit: Kit) -> Path:
    path = kit.itk("x.nrrd")
    path.write_bytes(re.sub(rb"space directions: [^\n]*\n", b"", path.read_bytes()))
    return path


@bad("singular affine")
def axes_in_one_plane(kit: Kit) -> Path:
    affine = np.eye(4)
    affine[:3, 2] = affine[:3, 1]
    image = nib.Nifti1Image(kit.volume, None)
    image.header.set_sform(affine, 1)
    path = kit.folder / "x.nii"
    nib.save(image, path)
    return path


@bad("expected one DICOM series, got 2")
def two_series(kit: Kit) -> Path:
    def change(k: int, image: Any) -> None:
        image.SeriesInstanceUID = f"1.2.3.{k % 2}"

    return kit.dicom(change)


@bad("1 slice is missing")
def missing_slice(kit: Kit) -> Path:
    return kit.dicom(lambda k, image: k != 3)


@bad("unevenly spaced")
def uneven_gaps(kit: Kit) -> Path:
    def change(k: int, image: Any) -> None:
        image.ImagePositionPatient = [float(v) * (1 + 0.02 * k) for v in image.ImagePositionPatient]

    return kit.dicom(change)


@bad(r"transfer syntax .*High-Throughput JPEG 2000.* \(1\.2\.840\.10008\.1\.2\.4\.201\)")
def unsupported_compression(kit: Kit) -> Path:
    def change(k: int, image: Any) -> None:
        from pydicom.encaps import encapsulate

        image.file_meta.TransferSyntaxUID = HTJ2K
        image.PixelData = encapsulate([image.PixelData])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True

    return kit.dicom(change)


@bad("cannot be decoded")
def damaged_compression(kit: Kit) -> Path:
    def change(k: int, image: Any) -> None:
        from pydicom.encaps import encapsulate

        image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"  # JPEG 2000
        image.PixelData = encapsulate([b"\0" * 64])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True

    return kit.dicom(change)


@bad("MONOCHROME2 grey values, got RGB")
def colour_dicom(kit: Kit) -> Path:
    def change(k: int, image: Any) -> None:
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
        image.BitsAllocated = image.BitsStored = 8
        image.HighBit = 7
        image.PixelData = np.zeros((image.Rows, image.Columns, 3), np.uint8).tobytes()

    return kit.dicom(change)


@bad("3 numbers in ImagePositionPatient, got none")
def dicom_without_position(kit: Kit) -> Path:
    def change(k: int, image: Any) -> None:
        del image.ImagePositionPatient

    return kit.dicom(change)


@bad("damaged file")
def truncated_dicom(kit: Kit) -> Path:
    path = kit.dicom()
    first = path / "000.dcm"
    first.write_bytes(first.read_bytes()[:140])
    return path


# request, as both doors take it -> what the error must say; the image is a good one
REQUESTS: dict[str, tuple[str, list[float] | float, str]] = {
    "scale-below-one": ("scale", 0.5, "must be at least 1 on every axis, got 0.5x0.5x0.5"),
    "scale-below-one-on-an-axis": ("scale", [2, 2, 0.9], "got 2x2x0.9"),
    "scale-zero": ("scale", 0, "must be positive, got 0"),
    "scale-negative": ("scale", -2, "must be positive, got -2"),
    "scale-of-two-numbers": ("scale", [2, 2], "one per axis (3), got 2"),
    "too-many-voxels": ("scale", 200, "above the limit of 1,073,741,824"),
    "coarser-spacing": ("spacing", 3, "is coarser than the input's 0.9x1.1x2.5 mm"),
    "spacing-zero": ("spacing", 0, "must be a positive number of mm"),
    "spacing-of-two-numbers": ("spacing", [1, 1], "one per axis (3), got 2"),
}


def nothing_written(folder: Path) -> bool:
    return not folder.exists() or not [path for path in folder.rglob("*") if path.is_file()]


def check_command(done: Any, words: str) -> None:
    """One line that begins `medsr: error:`; besides it only which bundle runs."""
    assert done.status in (1, 2), done.err
    lines = [line for line in done.err.splitlines() if not re.match(r"medsr: \w+ on \w+: 1 image", line)]
    assert len(lines) == 1, done.err
    assert lines[0].startswith("medsr: error: ")
    assert re.search(words, lines[0]), lines[0]
    assert done.out == ""


def check_bundle(status: int, err: str, words: str) -> None:
    """The last line is ours and the only one; no traceback, no log of the engine's error."""
    assert status != 0
    lines = [line for line in err.splitlines() if line.strip()]
    assert lines[-1].startswith("medsr: error: "), err
    assert re.search(words, lines[-1]), lines[-1]
    assert len([line for line in lines if line.startswith("medsr: error: ")]) == 1
    assert "Traceback" not in err
    assert "ERROR" not in err


def bundle_options(tiny_bundle: Path, given: Path, out: Path) -> dict[str, Any]:
    return {"config_file": tiny_bundle / "configs" / "inference.json", "dataset_dir": given, "output_dir": out}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_by_command(medsr_command: Command, tiny_bundle: Path, kit: Kit, tmp_path: Path, name: str) -> None:
    make, words = BAD[name]
    given = make(kit)
    done = medsr_command("upscale", given, "-o", tmp_path / "out", "--scale", "2", "--bundle", tiny_bundle)
    check_command(done, f"^medsr: error: {re.escape(str(given))}.*{words}")
    assert f"{given}: {given}" not in done.err
    assert nothing_written(tmp_path / "out")


@pytest.mark.parametrize("name", BAD)
def test_bad_images_by_bundle(monai_bundle: Command, tiny_bundle: Path, kit: Kit, tmp_path: Path, name: str) -> None:
    make, words = BAD[name]
    given = make(kit)
    done = monai_bundle("run", **bundle_options(tiny_bundle, given, tmp_path / "out"), scale=2)
    check_bundle(done.status, done.err, f"{re.escape(str(given))}.*{words}")
    assert nothing_written(tmp_path / "out")


@pytest.mark.parametrize("name", REQUESTS)
def test_bad_requests_by_command(
    medsr_command: Command, tiny_bundle: Path, kit: Kit, tmp_path: Path, name: str
) -> None:
    option, value, words = REQUESTS[name]
    numbers = value if isinstance(value, list) else [value]
    done = medsr_command(
        *("upscale", kit.nifti(), "-o", tmp_path / "out", f"--{option}", *numbers, "--bundle", tiny_bundle)
    )
    check_command(done, re.escape(words))
    assert nothing_written(tmp_path / "out")


@pytest.mark.parametrize("name", REQUESTS)
def test_bad_requests_by_bundle(monai_bundle: Command, tiny_bundle: Path, kit: Kit, tmp_path: Path, name: str) -> None:
    option, value, words = REQUESTS[name]
    done = monai_bundle("run", **bundle_options(tiny_bundle, kit.nifti(), tmp_path / "out"), **{option: value})
    check_bundle(done.status, done.err, re.escape(words))
    assert nothing_written(tmp_path / "out")


def test_unwritable_output(medsr_command: Command, monai_bundle: Command, tiny_bundle: Path, kit: Kit) -> None:
    given, out = kit.nifti(), kit.folder / "file" / "out"
    (kit.folder / "file").write_text("in the way")
    done = medsr_command("upscale", given, "-o", out, "--scale", "2", "--bundle", tiny_bundle)
    check_command(done, "cannot be written: Not a directory")
    done = monai_bundle("run", **bundle_options(tiny_bundle, given, out), scale=2)
    check_bundle(done.status, done.err, "cannot be written: a part of its path is a file")
    assert (kit.folder / "file").read_text() == "in the way"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_read_only_folder(medsr_command: Command, tiny_bundle: Path, kit: Kit, tmp_path: Path) -> None:
    given = kit.nifti()
    (tmp_path / "out").mkdir(mode=0o555)
    check_command(
        medsr_command("upscale", given, "-o", tmp_path / "out", "--scale", "2", "--bundle", tiny_bundle),
        "cannot be written: Permission denied",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale", "two"], r"argument --scale: 'two' is not a number \(see medsr upscale --help\)"),
        (["--scale", "2", "--spacing", "1"], "not allowed with argument --scale"),
        ([], "one of the arguments --scale --spacing is required"),
        (["--scale", "2", "--sharpen"], "unrecognized arguments: --sharpen"),
        (["--scale", "2", "--bundle", "nonsense"], "no bundle is called 'nonsense'; installed: recnn3d"),
        (["--scale", "2", "--device", "abacus"], "device 'abacus' cannot be used here"),
        (["--scale", "2", "--precision", "float8"], "a precision is one of"),
        (["--scale", "2", "--format", ".png"], r"results are written as \.nii\.gz"),
        (["--scale", "nan"], "a scale must be a positive number"),
    ],
)
def test_bad_arguments(medsr_command: Command, kit: Kit, tmp_path: Path, arguments: list[str], words: str) -> None:
    done = medsr_command("upscale", kit.nifti(), "-o", tmp_path / "out", *arguments)
    check_command(done, words)
    assert nothing_written(tmp_path / "out")


def test_no_command_and_an_unknown_one(medsr_command: Command) -> None:
    for arguments in ([], ["sharpen"]):
        done = medsr_command(*arguments)
        assert done.status == 2
        assert done.err.startswith("medsr: error: ")
        assert len(done.err.splitlines()) == 1


def monai_process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """`python -m monai.bundle run` in a process of its own."""
    repository = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(p for p in (str(repository), os.environ.get("PYTHONPATH")) if p)
    return subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
        **options,
    )


def test_a_real_process_ends_in_one_line_while_the_config_is_built(tiny_bundle: Path, tmp_path: Path) -> None:
    options = bundle_options(tiny_bundle, tmp_path / "absent", tmp_path / "out")
    done = monai_process(*(text for key, value in options.items() for text in (f"--{key}", value)))
    check_bundle(done.returncode, done.stderr, "absent: expected an image file")


def test_a_real_process_ends_in_one_line_when_the_disk_is_full(tiny_bundle: Path, kit: Kit, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    kit.nifti(name="first.nii.gz")  # small enough
    kit.nifti(np.random.default_rng(0).integers(0, 1000, (24, 24, 24)).astype(np.int16), name="second.nii.gz")
    options = bundle_options(tiny_bundle, kit.folder, tmp_path / "out")
    done = monai_process(
        *(text for key, value in options.items() for text in (f"--{key}", value)),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    check_bundle(done.returncode, done.stderr, r"second_sr\.nii\.gz: cannot be written: the file would be larger")
    assert "%|" in done.stderr, "a progress bar was on the screen, and the error is on a line of its own"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"first_sr{e}" for e in (".nii.gz", ".json", ".png")
    }
