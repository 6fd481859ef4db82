"""Folders of grey pictures as one volume, and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from monai.transforms import LoadImaged
from PIL import Image

from medsr.data.formats import stacks
from medsr.data.formats.stacks import write_stack
from medsr.data.inference_items import inference_items
from medsr.data.readers import VolumeReader, find_images, read_volume
from medsr.errors import InputError, OutputError

RNG = np.random.default_rng(3)
SHAPE = (11, 7, 12)  # more than nine slices: "10" comes after "2"


def save(folder: Path, volume: np.ndarray, name: str = "s{}.png") -> Path:
    """Write (columns, rows, slices), the names counted from 1 without zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(volume.shape[2]):
        Image.fromarray(np.ascontiguousarray(volume[:, :, k].T)).save(folder / name.format(k + 1))
    return folder


def numbers(dtype: type = np.uint8, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "tif", "TIFF"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_slices_are_those_that_itk_reads(tmp_path: Path, suffix: str, dtype: type) -> None:
    volume = numbers(dtype)
    folder = save(tmp_path / "p.1", volume, "s{}." + suffix)
    (folder / "._s1.png").write_bytes(b"of another system")
    (folder / "notes.txt").write_text("no picture")
    read = read_volume(folder)
    assert (read.data.dtype, read.meta["format"], read.meta["original_dtype"]) == (
        np.float32,
        "picture",
        dtype.__name__,
    )
    series = sitk.ReadImage([str(folder / f"s{k}.{suffix}") for k in range(1, SHAPE[2] + 1)])
    np.testing.assert_array_equal(read.data.transpose(), sitk.GetArrayFromImage(series))
    np.testing.assert_array_equal(read.affine, np.diag([-1.0, -1, 1, 1]))
    (source,) = find_images(folder)
    assert (source.path, source.stem, source.is_picture, source.is_dicom) == (folder, "p.1", True, False)
    assert inference_items(folder) == [{"image": str(folder), "stem": "p.1"}]
    (warning,) = read.meta["warnings"]
    assert "1 x 1 x 1 mm" in warning


def test_monai_loads_a_stack_as_its_slices(tmp_path: Path) -> None:
    folder = save(tmp_path / "stack", numbers())
    load = LoadImaged("image", reader=VolumeReader(), ensure_channel_first=True)
    image = load({"image": folder})["image"]
    assert image.shape == (1, *SHAPE)
    np.testing.assert_array_equal(image[0, :, :, 9:10], load({"image": folder / "s10.png"})["image"][0])


def test_pictures_beside_volumes_and_dicom_do_not_count(
    tmp_path: Path, write_dicom: Callable[..., None], oblique_affine: np.ndarray
) -> None:
    results = save(tmp_path / "results", numbers(shape=(4, 3, 2)))
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), np.eye(4)), results / "a_sr.nii.gz")
    assert [source.path.name for source in find_images(results)] == ["a_sr.nii.gz"]
    assert "DICOM" in refusal(results), "a folder of images is not one image"
    study = save(tmp_path / "study", numbers(shape=(4, 3, 2)))
    write_dicom(study / "deep" / "head", np.arange(60, dtype=np.int16).reshape(5, 4, 3), oblique_affine)
    assert [(source.path.name, source.is_dicom) for source in find_images(study)] == [("head", True)]
    assert read_volume(study).data.shape == (5, 4, 3)
    pair = save(tmp_path / "pair", numbers(shape=(4, 3, 2)))
    (pair / "a.hdr").write_bytes(b"x")
    with pytest.raises(InputError, match="got other files"):
        find_images(pair)


def test_pictures_named_one_by_one_are_images(tmp_path: Path) -> None:
    folder = save(tmp_path / "stack", numbers(shape=(4, 3, 2)))
    (tmp_path / "list.txt").write_text("stack/s2.png\nstack\n")
    found = [(source.stem, source.is_picture) for source in find_images([folder / "s1.png", tmp_path / "list.txt"])]
    assert found == [("s1", True), ("s2", True), ("stack", True)]


def add(name: str, *arguments: object) -> Callable[[Path], object]:
    return lambda folder: Image.new(*arguments).save(folder / name)  # type: ignore[arg-type]


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "size": (
        add("s2.png", "L", (7, 11)),
        r"s2.png: expected .* 11 x 7 uint8 as s1.png, got 7 x 11 .*one by one",
    ),
    "first": (add("s1.png", "L", (7, 11)), r"s1.png: expected .* 11 x 7 uint8 as s2.png, got 7 x 11 uint8"),
    "depth": (add("s13.png", "I;16", (11, 7)), r"s13.png: expected .* uint8 as s1.png, got 11 x 7 uint16"),
    "floats": (add("s4.tif", "F", (11, 7)), r"s4.tif: expected a different number for each slice .* that of s4.png"),
    "zeros": (
        add("s04.png", "L", (11, 7)),
        r"s0?4.png: expected a different number for each slice .* that of s0?4.png",
    ),
    "colour": (add("s5.png", "RGB", (11, 7)), r"s5.png: expected a grey picture, got mode RGB"),
    "damaged": (lambda folder: (folder / "s6.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30)), r"s6.png: .*damaged"),
    "cut": (lambda folder: cut(folder / "s7.png"), r"s7.png: .*damaged"),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:70])


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_stack_is_refused_by_the_odd_file(tmp_path: Path, fault: str) -> None:
    folder = save(tmp_path / "stack", numbers())
    make, words = FAULTS[fault]
    make(folder)
    message = refusal(folder)
    assert message.startswith(f"{folder}/")
    assert re.search(words, message), message


def test_limit_of_size_before_any_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "stack", numbers())
    monkeypatch.setattr(stacks, "picture_values", lambda *a: pytest.fail("pixels were read"))
    voxels = int(np.prod(SHAPE))
    with pytest.raises(InputError, match=rf"stack: expected at most {voxels - 1} voxels, got {voxels}"):
        read_volume(folder, max_voxels=voxels - 1)
    monkeypatch.setenv("MEDSR_MAX_VOXELS", str(voxels - 1))
    with pytest.raises(InputError, match=f"{voxels - 1} voxels"):
        read_volume(folder)


@pytest.mark.parametrize("bits", [8, 16])
def test_round_trip(tmp_path: Path, bits: int) -> None:
    volume = numbers({8: np.uint8, 16: np.uint16}[bits])
    assert write_stack(tmp_path / "back", volume.astype(np.float32), bits) == 0
    names = sorted(path.name for path in (tmp_path / "back").iterdir())
    assert names == [f"back_{k:04d}.png" for k in range(1, SHAPE[2] + 1)]
    again = read_volume(tmp_path / "back")
    np.testing.assert_array_equal(again.data, volume)
    assert again.meta["original_dtype"] == f"uint{bits}"


def test_values_are_rounded_and_clipped_and_counted(tmp_path: Path) -> None:
    values = np.array([-3.0, -0.4, 0.4, 0.6, 254.6, 255.4, 255.6, 9e9], np.float32).reshape(4, 2, 1)
    assert write_stack(tmp_path / "a", values, 8) == 3
    read = read_volume(tmp_path / "a").data
    np.testing.assert_array_equal(read.ravel(), [0, 0, 0, 1, 255, 255, 255, 255])


def test_all_slices_or_nothing(tmp_path: Path) -> None:
    values = np.zeros((4, 3, 3), np.float32)
    values[1, 1, 2] = np.nan
    with pytest.raises(OutputError, match="a: expected finite values"):
        write_stack(tmp_path / "a", values, 8)
    assert list(tmp_path.iterdir()) == []
    save(tmp_path / "a", numbers())
    with pytest.raises(OutputError, match="one that holds other files"):
        write_stack(tmp_path / "a", values[:, :, :2], 8)
    assert len(list((tmp_path / "a").iterdir())) == SHAPE[2]


@pytest.mark.parametrize("mode", ["F", "I", "1"])
def test_pictures_that_png_cannot_hold_are_told_beforehand(tmp_path: Path, mode: str) -> None:
    for k in range(2):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.new(mode, (4, 3)).save(tmp_path / "in" / f"{k}.tif")
    assert read_volume(tmp_path / "in").data.shape == (4, 3, 2)
    for given in (tmp_path / "in", tmp_path / "in" / "0.tif"):
        assert inference_items(given, output_ext=".nii.gz")
        with pytest.raises(InputError, match=f"^{given}: expected an 8- or 16-bit picture .*write .nii.gz"):
            inference_items(given, output_ext="png")
