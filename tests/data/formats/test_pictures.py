"""Grey pictures as one-slice volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from medsr.data.readers import VolumeReader, read_volume
from medsr.errors import InputError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".PNG", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_and_place_are_those_that_itk_reads(tmp_path: Path, suffix: str, dtype: type) -> None:
    values = RNG.integers(0, np.iinfo(dtype).max, (7, 11)).astype(dtype)
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(values).save(path)
    volume = read_volume(path)
    assert volume.data.shape == (11, 7, 1)
    assert volume.data.dtype == np.float32
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(volume.data[..., 0].T, sitk.GetArrayFromImage(image))
    np.testing.assert_array_equal(volume.affine, np.diag([-1.0, -1, 1, 1]))
    assert volume.meta["format"] == "picture"


def test_floats_and_black_and_white(tmp_path: Path) -> None:
    values = RNG.normal(size=(5, 4)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "float.tif")
    np.testing.assert_array_equal(read_volume(tmp_path / "float.tif").data[..., 0].T, values)
    mask = values > 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_volume(tmp_path / "mask.png").data[..., 0].T, mask)


def test_monai_loads_it(tmp_path: Path) -> None:
    from monai.transforms import LoadImaged

    Image.fromarray(RNG.integers(0, 255, (6, 9)).astype(np.uint8)).save(tmp_path / "a.png")
    load = LoadImaged("image", reader=VolumeReader(), ensure_channel_first=True)
    assert load({"image": tmp_path / "a.png"})["image"].shape == (1, 9, 6, 1)


def save_two_pages(path: Path) -> None:
    first = Image.new("L", (4, 4))
    first.save(path, save_all=True, append_images=[Image.new("L", (4, 4))])


FAULTS = {
    "alpha.png": (lambda path: Image.new("LA", (4, 4)).save(path), "grey"),
    "pages.tif": (save_two_pages, "one picture"),
    "damaged.png": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30)), "damaged"),
    "text.png": (lambda path: path.write_text("no picture"), "damaged"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_grey_picture_is_refused(tmp_path: Path, name: str) -> None:
    write, words = FAULTS[name]
    write(tmp_path / name)
    with pytest.raises(InputError, match=words) as error:
        read_volume(tmp_path / name)
    assert "\n" not in str(error.value)


def test_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(RNG.integers(0, 255, (60, 60)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(InputError, match="damaged"):
        read_volume(path)


def test_limit_of_size(tmp_path: Path) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="voxels"):
        read_volume(tmp_path / "a.png", max_voxels=1000)
