"""Analyze 7.5 pairs, as OASIS-1 is distributed: values, size, and what is taken for their orientation."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medsr.data.headers import read_header
from medsr.data.readers import read_volume
from medsr.errors import InputError

SHAPE = (4, 5, 6)
VALUES = np.random.default_rng(0).integers(0, 3000, SHAPE, dtype=np.int16)


def save(folder: Path, values: np.ndarray = VALUES, zooms: tuple[float, ...] = (1, 1, 1, 1), name: str = "a") -> Path:
    """A pair with a fourth axis of one, as OASIS has it; returns the .img file."""
    image = nib.AnalyzeImage(values[..., None], None)
    image.header.set_zooms(zooms)
    image.to_filename(folder / f"{name}.hdr")
    return folder / f"{name}.img"


def patch(image: Path, offset: int, value: bytes) -> Path:
    header = image.with_suffix(".hdr")
    raw = bytearray(header.read_bytes())
    raw[offset : offset + len(value)] = value
    header.write_bytes(raw)
    return image


def test_values_and_size_of_either_file(tmp_path):
    image = save(tmp_path)
    for path in (image, image.with_suffix(".hdr")):
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.data, VALUES)
        assert volume.data.dtype == np.float32
        assert volume.meta["original_dtype"] == "int16"
        assert "does not distinguish left from right: transverse" in volume.meta["warnings"][0]
        header = read_header(path)
        assert header.shape == SHAPE
        np.testing.assert_array_equal(header.affine, volume.affine)


def test_affine_is_that_of_nibabel_for_transverse_slices(tmp_path):
    image = save(tmp_path, zooms=(1, 1.25, 2, 1))
    np.testing.assert_allclose(read_volume(image).affine, nib.AnalyzeImage.from_filename(image).affine, atol=1e-6)


@pytest.mark.parametrize(
    ("orient", "codes", "word"),
    [
        (0, "LAS", "transverse"),
        (1, "LSA", "coronal"),
        (2, "ASL", "sagittal"),
        (32, "LAS", "code 32 is unknown"),  # a header filled with blanks
    ],
)
def test_orientation_byte(tmp_path, orient, codes, word):
    image = patch(save(tmp_path, zooms=(1, 2, 3, 1)), 252, bytes([orient]))
    volume = read_volume(image)
    assert "".join(nib.aff2axcodes(volume.affine)) == codes
    assert word in volume.meta["warnings"][0]
    np.testing.assert_array_equal(volume.data, VALUES)  # the array itself is never turned
    np.testing.assert_allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), (1, 2, 3))
    middle = volume.affine @ [*((np.array(SHAPE) - 1) / 2), 1]
    np.testing.assert_allclose(middle[:3], 0, atol=1e-9)


def test_byte_order_and_offset(tmp_path):
    image = save(tmp_path)
    big = nib.AnalyzeImage(VALUES, None, nib.AnalyzeImage.from_filename(image).header.as_byteswapped(">"))
    big.to_filename(tmp_path / "big.hdr")
    np.testing.assert_array_equal(read_volume(tmp_path / "big.img").data, VALUES)
    shifted = patch(image, 108, np.float32(16).tobytes())
    shifted.write_bytes(b"\0" * 16 + shifted.read_bytes())
    np.testing.assert_array_equal(read_volume(shifted).data, VALUES)


def test_scale_factor_of_spm(tmp_path):
    volume = read_volume(patch(save(tmp_path), 112, np.float32(0.5).tobytes()))
    np.testing.assert_allclose(volume.data, VALUES * 0.5)
    assert "a scale factor of SPM (0.5)" in volume.meta["warnings"][1]


def test_bad_pairs(tmp_path):
    image = save(tmp_path)
    with pytest.raises(InputError, match="expected at most 10 voxels, got 120"):
        read_volume(image, max_voxels=10)
    for offset, value, message in [
        (80, np.float32(0).tobytes(), "spacing above 0"),
        (42, np.int16(-3).tobytes(), "image is empty"),
        (70, np.int16(128).tobytes(), "one number per voxel"),
        (344, b"ni1\0", "got a NIfTI pair"),
        (46, np.int16(200).tobytes(), "cut short"),
    ]:
        broken = patch(save(tmp_path, name="broken"), offset, value)
        with pytest.raises(InputError, match=message) as caught:
            read_volume(broken)
        assert "\n" not in str(caught.value)
    (tmp_path / "broken.hdr").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="damaged"):
        read_volume(tmp_path / "broken.hdr")
    image.unlink()
    with pytest.raises(InputError, match=r"expected the pair a\.hdr and a\.img, but a\.img is missing"):
        read_header(tmp_path / "a.hdr")
