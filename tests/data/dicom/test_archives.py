"""Archives: what they may hold, where it goes, and that nothing of it stays."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsr.data.dicom import archives
from medsr.data.dicom.archives import ArchiveLimits, unpacked
from medsr.data.readers import find_images, read_volume
from medsr.errors import InputError

Write = Callable[..., Any]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of this test, which must be empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def left(temporary: Path) -> Callable[[], list[Path]]:
    return lambda: list(temporary.iterdir())


def pack(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


def refusal(path: Path, limits: ArchiveLimits | None = None) -> str:
    def must_not_be_reached() -> None:
        raise AssertionError("the archive was unpacked")

    with pytest.raises(InputError) as caught, unpacked(path, limits):
        must_not_be_reached()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_the_folder_is_private_and_removed(tmp_path: Path, left: Callable[[], list[Path]]) -> None:
    path = pack(tmp_path / "a.zip", {"deep/er/a.txt": b"hello", "b": b"", "empty/": b""})
    with unpacked(path) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder / "deep" / "er" / "a.txt").read_bytes() == b"hello"
        assert (folder / "b").read_bytes() == b""
        assert left() == [folder]
    assert left() == []


def test_the_folder_is_removed_after_any_error(tmp_path: Path, left: Callable[[], list[Path]]) -> None:
    path = pack(tmp_path / "a.zip", {"a/b.txt": b"hello"})
    with pytest.raises(KeyboardInterrupt), unpacked(path):
        raise KeyboardInterrupt
    assert left() == []
    with pytest.raises(InputError, match=f"^{path}/a/b.txt: expected more$"), unpacked(path) as folder:
        raise InputError(f"{folder / 'a' / 'b.txt'}: expected more")
    assert left() == []


@pytest.mark.parametrize(
    "name",
    ["../out.txt", "a/../../out.txt", "/etc/out.txt", "\\out.txt", "a\\..\\..\\out.txt", "C:\\out.txt", "c:out.txt"],
)
def test_names_that_lead_out_are_refused(tmp_path: Path, left: Callable[[], list[Path]], name: str) -> None:
    path = pack(tmp_path / "a.zip", {"good.txt": b"x", name: b"bad"})
    assert "leads out of it" in refusal(path)
    assert left() == []
    assert not list(tmp_path.rglob("out.txt"))


@pytest.mark.parametrize(("mode", "word"), [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "a device")])
def test_links_and_devices_are_refused(tmp_path: Path, mode: int, word: str) -> None:
    assert word in refusal(pack(tmp_path / "a.zip", {"a": b"/etc/passwd"}, mode=mode | 0o777))


def test_limits_are_checked_by_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_extract", lambda *arguments: pytest.fail("unpacked"))
    many = pack(tmp_path / "many.zip", {f"{k}": b"" for k in range(11)})
    assert "at most 10 files, got 11" in refusal(many, ArchiveLimits(files=10))
    large = pack(tmp_path / "large.zip", {"a": bytes(3 << 20)}, zipfile.ZIP_STORED)
    assert "at most 2 MiB unpacked, got 3 MiB" in refusal(large, ArchiveLimits(bytes=2 << 20))
    bomb = pack(tmp_path / "bomb.zip", {"a": bytes(3 << 20)})
    assert "at most 100 times its" in refusal(bomb, ArchiveLimits(small=1 << 20))
    full = ArchiveLimits(bytes=1 << 60, ratio=1e30)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1 << 20}))
    assert "3 MiB of room" in refusal(bomb, full)


def test_small_or_honest_archives_pass_the_limits(tmp_path: Path) -> None:
    with unpacked(pack(tmp_path / "zeros.zip", {"a": bytes(3 << 20)})) as folder:  # 1000 times, but small
        assert (folder / "a").stat().st_size == 3 << 20
    noise = np.random.default_rng(0).bytes(3 << 20)
    with unpacked(pack(tmp_path / "noise.zip", {"a": noise}), ArchiveLimits(small=0)) as folder:
        assert (folder / "a").read_bytes() == noise


def test_files_that_overlap(tmp_path: Path) -> None:
    """One block of data that many entries of the directory point to unpacks to more than limits foresee."""
    path = pack(tmp_path / "a.zip", {"a": b"x" * 1000, "b": b"y"}, zipfile.ZIP_STORED)
    raw = bytearray(path.read_bytes())
    for at in [k for k in range(len(raw)) if raw[k : k + 4] == b"PK\x01\x02"]:  # central directory
        struct.pack_into("<II", raw, at + 20, 900, 900)
    path.write_bytes(raw)
    assert "overlap" in refusal(path)


def test_one_name_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("d/a.dcm", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("d/a.dcm", b"2")
    assert "got 2 called 'a.dcm'" in refusal(path)


def test_encrypted_and_damaged(tmp_path: Path, left: Callable[[], list[Path]]) -> None:
    content = np.random.default_rng(0).bytes(5000)
    path = pack(tmp_path / "a.zip", {"a": content})
    raw = path.read_bytes()

    locked = bytearray(raw)
    locked[raw.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    assert "got an encrypted one" in refusal(tmp_path / "locked.zip")

    (tmp_path / "short.zip").write_bytes(raw[:3000])
    assert "got a damaged one" in refusal(tmp_path / "short.zip")
    (tmp_path / "flipped.zip").write_bytes(raw[:2000] + bytes([raw[2000] ^ 255]) + raw[2001:])
    assert "got a damaged one" in refusal(tmp_path / "flipped.zip")
    (tmp_path / "text.zip").write_bytes(b"no archive")
    assert "got a damaged one" in refusal(tmp_path / "text.zip")
    at = raw.index(b"PK\x01\x02")  # an entry without a name
    (tmp_path / "unnamed.zip").write_bytes(raw[: at + 28] + b"\0\0" + raw[at + 30 : at + 46] + raw[at + 47 :])
    assert "got a damaged one" in refusal(tmp_path / "unnamed.zip")
    assert left() == []


def test_a_study_in_an_archive(
    tmp_path: Path,
    phantom: Callable[..., np.ndarray],
    oblique_affine: np.ndarray,
    write_dicom: Write,
    left: Callable[[], list[Path]],
) -> None:
    volume = phantom((6, 5, 4))
    write_dicom(tmp_path / "one", volume, oblique_affine)

    def second(k: int, image: Any) -> None:
        image.SeriesInstanceUID, image.SeriesNumber, image.SeriesDescription = "1.2.3.9", 12, "T2 axial"

    write_dicom(tmp_path / "two", volume + 5, oblique_affine, second)
    files = [*(tmp_path / "one").iterdir(), *(tmp_path / "two").iterdir()]
    entries = {f"study/{file.parent.name}/{file.name}": file.read_bytes() for file in files}
    path = pack(tmp_path / "study.ZIP", entries)

    with pytest.raises(InputError) as caught:
        read_volume(path)
    for words in (f"{path}: expected one DICOM series, got 2", "series 12 'T2 axial' (CT, 4 images, UID 1.2.3.9)"):
        assert words in str(caught.value)
    read = read_volume(path, series="1.2.3.9")
    np.testing.assert_array_equal(read.data, volume + 5)
    np.testing.assert_allclose(read.affine, oblique_affine, atol=1e-6)
    assert read.meta["filename"] == str(path)
    assert read.meta["warnings"] == []
    assert left() == []
    (source,) = find_images(path)
    assert (source.stem, source.is_dicom) == ("study", True)

    entries["study/one/000.dcm"] = entries["study/one/000.dcm"][:-9]
    with pytest.raises(InputError, match=f"^{tmp_path}/short.zip/study/one/000.dcm: expected complete"):
        read_volume(pack(tmp_path / "short.zip", entries), series="1.2.3.4")
    with pytest.raises(InputError, match=r"notes.zip: .*no DICOM image"):
        read_volume(pack(tmp_path / "notes.zip", {"a.txt": b"x"}))
    assert left() == []
