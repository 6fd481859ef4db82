"""Files that clients send."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medsr.errors import InputError
from medsr.label.uploads import check_upload, is_received


@pytest.fixture
def header(tmp_path: Path) -> Callable[[str], Path]:
    """Write an image as header and raw file, and give the header another name."""

    def write(name: str) -> Path:
        image = sitk.GetImageFromArray(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
        detached = tmp_path / ("x.mhd" if name.endswith(".mha") else "x.nhdr")
        sitk.WriteImage(image, str(detached))
        assert len(list(tmp_path.iterdir())) == 2
        return detached.rename(tmp_path / name)

    return write


@pytest.mark.parametrize("name", ["x.mha", "x.nrrd", "X.NRRD"])
def test_header_that_names_another_file(header: Callable[[str], Path], name: str) -> None:
    path = header(name)
    with pytest.raises(InputError, match="a header that names another"):
        check_upload(path)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("field", ["data file: /etc/hostname", "DATAFILE: x", "datafile: LIST", "data file:=x"])
def test_all_ways_to_write_it_in_nrrd(tmp_path: Path, field: str, line_end: str) -> None:
    path = tmp_path / "x.nrrd"
    lines = ["NRRD0004", "type: uchar", "dimension: 3", "sizes: 1 1 1", "encoding: raw", field, "", "data"]
    path.write_bytes(line_end.join(lines).encode())
    with pytest.raises(InputError, match="a header that names another"):
        check_upload(path)


@pytest.mark.parametrize("name", ["x.mha", "x.nrrd", "x.nii", "x.nii.gz"])
def test_images_in_one_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), np.float32)), str(path))
    check_upload(path)


@pytest.mark.parametrize("name", ["x.nhdr", "x.mhd", "x.txt", "x.py", "x", "x.tar.gz"])
def test_other_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"something else entirely" * 10)
    with pytest.raises(InputError, match=r"a \.zip of a series"):
        check_upload(path)


def test_archive_is_the_readers_to_check(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    zipfile.ZipFile(path, "w").close()
    check_upload(path)


def test_received_files_are_told_from_others(tmp_path: Path) -> None:
    temporary = Path(tempfile.gettempdir())
    with tempfile.NamedTemporaryFile(suffix=".nii.gz") as file:
        assert is_received(Path(file.name))
    assert not is_received(temporary / "mine.nii.gz")
    assert not is_received(temporary / "tmpfolder" / "tmpabcdefgh.nii.gz")
    assert not is_received(tmp_path / "tmpabcdefgh.nii.gz")


def test_limit_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.nii.gz"
    path.write_bytes(bytes(1001))
    monkeypatch.setenv("MEDSR_MAX_UPLOAD_BYTES", "1000")
    with pytest.raises(InputError, match="at most 1000 bytes, got 1001"):
        check_upload(path)
    monkeypatch.setenv("MEDSR_MAX_UPLOAD_BYTES", "1001")
    check_upload(path)
