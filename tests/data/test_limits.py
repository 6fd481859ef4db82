"""No format makes room for voxels that a header claims and a file cannot hold, or that are more than allowed."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medsr.data.readers import VolumeReader, read_volume
from medsr.errors import InputError

SHAPE = (6, 5, 4)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.mha", "a.nrrd"])
def test_limit_on_voxels_of_every_format(
    tmp_path: Path, phantom: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    if name.endswith((".mha", ".nrrd")):
        sitk.WriteImage(sitk.GetImageFromArray(phantom(SHAPE).T), str(path))
    else:
        kind = nib.MGHImage if name.endswith("mgz") else nib.Nifti1Image
        nib.save(kind(phantom(SHAPE), np.eye(4)), path)
    assert read_volume(path, max_voxels=120).data.shape == SHAPE
    for read in (lambda: read_volume(path, max_voxels=119), lambda: VolumeReader(max_voxels=119).get_data([path])):
        with pytest.raises(InputError, match=r"at most 119 voxels, got 120 \(6 x 5 x 4\) by the header"):
            read()
    monkeypatch.setenv("MEDSR_MAX_VOXELS", "7")
    with pytest.raises(InputError, match="at most 7 voxels"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_that_no_file_of_this_length_holds(
    tmp_path: Path, phantom: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    raw = bytearray(nib.Nifti1Image(phantom(SHAPE), np.eye(4)).to_bytes())
    struct.pack_into("<3h", raw, 42, 900, 900, 900)
    path = tmp_path / name
    path.write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    monkeypatch.setattr(nib.arrayproxy.ArrayProxy, "__array__", lambda *a, **k: pytest.fail("room was made"))
    with pytest.raises(InputError, match=r"expected 1458000000 bytes of voxels, got a file of \d+ bytes"):
        read_volume(path)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_header_extensions_are_left_unread(
    tmp_path: Path, phantom: Callable[..., np.ndarray], kind: type, order: str, name: str
) -> None:
    """nibabel makes room for whatever length they claim, and reads them to the end where the offset is damaged."""
    image = kind(phantom(SHAPE), np.eye(4), kind.header_class(endianness=order))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 40))
    raw = bytearray(image.to_bytes())
    for length in (48, 2**31 - 16):
        struct.pack_into(f"{order}i", raw, kind.header_class.sizeof_hdr + 4, length)
        (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
        np.testing.assert_array_equal(read_volume(tmp_path / name).data, phantom(SHAPE))


@pytest.mark.parametrize("sform_code", [0, 1])
def test_quaternion_beyond_any_number(tmp_path: Path, phantom: Callable[..., np.ndarray], sform_code: int) -> None:
    """Found by the search of test_fuzz_headers: the square of such a number is no number."""
    raw = nib.Nifti2Image(phantom(SHAPE), np.eye(4)).to_bytes()
    header = nib.Nifti2Header(raw[:540])
    header["qform_code"], header["sform_code"], header["quatern_b"] = 1, sform_code, 1e300
    path = tmp_path / "a.nii"
    path.write_bytes(header.binaryblock + raw[540:])
    if sform_code:
        assert "sform is used" in read_volume(path).meta["warnings"][0]
    else:
        with pytest.raises(InputError, match="damaged file"):
            read_volume(path)
