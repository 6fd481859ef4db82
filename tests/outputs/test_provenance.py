"""One pass over a source: headers travel with the image, and what changes in between is no part of a result."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from monai.data import DataLoader, Dataset
from monai.transforms import LoadImaged

from medsr.data.batches import collate_images
from medsr.data.dicom import archives
from medsr.data.provenance import Provenance
from medsr.inferers import SuperResolutionInferer
from medsr.upscaling import Upscaler

SHAPE = (9, 8, 12)
DOORS = ("command", "bundle", "python")
Run = Callable[..., Any]


@pytest.fixture
def series(
    write_dicom: Callable[..., None], phantom: Callable[..., np.ndarray], oblique_affine: np.ndarray, tmp_path: Path
) -> Path:
    write_dicom(tmp_path / "head", phantom(SHAPE), oblique_affine)
    return tmp_path / "head"


@pytest.fixture
def run(monai_bundle: Run, medsr_command: Run, tiny_bundle: Path, tmp_path: Path) -> Run:
    """Make a derived series through a door; returns what the door says, None of Python."""
    out = tmp_path / "out"

    def call(door: str, source: Path, extension: str = "dicom") -> Any:
        if door == "command":
            words = ("--scale", 2, "--bundle", tiny_bundle, "--no-preview", "--format", extension)
            return medsr_command("upscale", source, "-o", out, *words)
        if door == "bundle":
            config = tiny_bundle / "configs" / "inference.json"
            options = {"output_dir": out, "output_ext": extension, "preview": False}
            return monai_bundle("run", config_file=config, dataset_dir=source, **options)
        settings = {"output_dir": str(out), "output_ext": extension, "output_postfix": "sr", "preview": False}
        return Upscaler(str(tiny_bundle), scale=2, **settings).save(source, source.stem)

    return call


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Passes over files: headers without pixels, whole images, archives unpacked."""
    counted: Counter[str] = Counter()
    read, unpack = pydicom.dcmread, archives._unpack

    def counting_read(file: Any, *args: Any, **options: Any) -> Any:
        if hasattr(file, "fileno") and not hasattr(file, "getvalue"):  # not of the result, which is encoded in memory
            counted["headers" if options.get("stop_before_pixels") else "pixels"] += 1
        return read(file, *args, **options)

    def counting_unpack(*args: Any) -> None:
        counted["archives"] += 1
        unpack(*args)

    monkeypatch.setattr(pydicom, "dcmread", counting_read)
    monkeypatch.setattr(archives, "_unpack", counting_unpack)
    return counted


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("packed", [False, True])
def test_one_pass(run: Run, series: Path, count: Counter[str], tmp_path: Path, door: str, packed: bool) -> None:
    source = Path(shutil.make_archive(str(tmp_path / "scan"), "zip", series)) if packed else series
    before = set(Path(tempfile.gettempdir()).glob("medsr-*"))
    run(door, source)
    assert count == {"headers": 12, "pixels": 12, **({"archives": 1} if packed else {})}
    assert len(list((tmp_path / "out" / f"{source.stem}_sr").iterdir())) == 24
    assert set(Path(tempfile.gettempdir()).glob("medsr-*")) == before


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("change", ["deleted", "another"])
def test_what_happens_to_the_source_later_is_no_part_of_the_result(
    run: Run, series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str, change: str
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "scan"), "zip", series))
    expected = hashlib.sha256(archive.read_bytes()).hexdigest()
    enlarge = SuperResolutionInferer.enlarge

    def changing(*args: Any, **options: Any) -> Any:
        archive.unlink()
        if change == "another":
            archive.write_bytes(b"another scan")
        return enlarge(*args, **options)

    monkeypatch.setattr(SuperResolutionInferer, "enlarge", changing)
    run(door, archive)
    assert json.loads((tmp_path / "out" / "scan_sr.json").read_text())["input"]["sha256"] == expected
    assert len(list((tmp_path / "out" / "scan_sr").iterdir())) == 24


@pytest.mark.parametrize("change", ["deleted", "another"])
def test_a_source_that_changes_while_it_is_read_is_refused(
    run: Run, series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    from medsr.data.dicom import reading

    read = reading.read_pixels

    def changing(*args: Any) -> Any:
        pixels = read(*args)
        (series / "003.dcm").unlink()
        if change == "another":
            shutil.copy(series / "004.dcm", series / "003.dcm")
        return pixels

    monkeypatch.setattr(reading, "read_pixels", changing)
    monkeypatch.setattr(SuperResolutionInferer, "__call__", lambda *a, **k: pytest.fail("the network ran"))
    done = run("command", series)
    assert done.status == 1
    (line,) = [line for line in done.err.splitlines() if "error" in line]
    assert f"{series / '003.dcm'}: expected the file as it was when it was read" in line
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("workers", [0, 1])
def test_headers_survive_batches_of_mixed_formats_without_pixels(
    series: Path, tmp_path: Path, phantom: Callable[..., np.ndarray], workers: int
) -> None:
    nib.save(nib.Nifti1Image(phantom(SHAPE), np.eye(4)), tmp_path / "a.nii.gz")
    load = LoadImaged("image", reader="medsr.data.readers.VolumeReader", ensure_channel_first=True)
    items = [{"image": str(path)} for path in (tmp_path / "a.nii.gz", series, series)]
    loader = DataLoader(Dataset(items, load), batch_size=3, num_workers=workers, collate_fn=collate_images)
    (batch,) = loader
    from monai.data import decollate_batch

    found = [Provenance.of(item["image"].meta) for item in decollate_batch(batch)]
    assert [len(entries) for entries in found] == [1, 1, 1]
    assert [len(entry.headers) for (entry,) in found] == [0, 12, 12]
    gc.collect()
    headers = [header for (entry,) in found for header in entry.headers]
    assert not any("PixelData" in header for header in headers)
    assert len({header.SOPInstanceUID for header in headers}) == 12
