"""``medsr upscale`` as a user calls it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

import medsr
from medsr.files.staging import staged
from medsr.outputs import saving

SHAPE = (9, 8, 7)
REPOSITORY = Path(__file__).resolve().parents[2]
Command = Callable[..., Any]


@pytest.fixture
def upscale(medsr_command: Command, tiny_bundle: Path) -> Command:
    """`medsr upscale ARGUMENTS`, by a bundle that costs nothing to run; --scale 2 unless something else is asked."""

    def call(*arguments: object) -> Any:
        wanted = () if {"--scale", "--spacing"} & set(map(str, arguments)) else ("--scale", "2")
        return medsr_command("upscale", *arguments, *wanted, "--bundle", tiny_bundle)

    return call


@pytest.fixture
def volume(phantom: Callable[..., np.ndarray]) -> np.ndarray:
    return phantom(SHAPE)


@pytest.fixture
def folder(volume: np.ndarray, left_handed_affine: np.ndarray, tmp_path: Path) -> Path:
    """Three images, "b" of them corrupt."""
    root = tmp_path / "in"
    root.mkdir()
    for name in ("a.nii.gz", "b.nii.gz", "c.nii"):
        nib.save(nib.Nifti1Image(volume, left_handed_affine), root / name)
    whole = (root / "b.nii.gz").read_bytes()
    (root / "b.nii.gz").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture
def image(folder: Path) -> Path:
    return folder / "a.nii.gz"


def names(path: Path) -> list[str]:
    """Everything below a folder, hidden files too."""
    return sorted(str(p.relative_to(path)) for p in path.rglob("*")) if path.exists() else []


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("medsr: error: ")]


def test_one_file_to_a_folder(upscale: Command, image: Path, tmp_path: Path) -> None:
    done = upscale(image, "-o", tmp_path / "out")
    assert done.status == 0, done.err
    assert names(tmp_path / "out") == ["a_sr.json", "a_sr.nii.gz", "a_sr.png"]
    assert done.out.strip() == str(tmp_path / "out" / "a_sr.nii.gz"), "what was written, for pipes"
    assert "nvImageCodec" not in done.err


def test_one_file_to_a_file(upscale: Command, image: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    for name in ("x.nii.gz", "y.nii", "z.nrrd", "w.mha"):
        assert upscale(image, "-o", tmp_path / "new" / name, "--no-preview").status == 0
    assert names(tmp_path / "new") == sorted(
        [*("x.nii.gz", "y.nii", "z.nrrd", "w.mha"), *(f"{stem}.json" for stem in "xyzw")]
    )
    expected = medsr.upscale(image, tiny_bundle, scale=2).numpy()[0]
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "new" / "y.nii").dataobj), expected)
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "new" / "w.mha")))
    np.testing.assert_array_equal(array.transpose(2, 1, 0), expected)


def test_folder_with_one_corrupt_file(upscale: Command, folder: Path, tmp_path: Path) -> None:
    done = upscale(folder, "-o", tmp_path / "out", "--no-preview")
    assert done.status == 1
    assert names(tmp_path / "out") == ["a_sr.json", "a_sr.nii.gz", "c_sr.json", "c_sr.nii.gz", "medsr_upscale.json"]
    assert len(errors(done.err)) == 1
    assert str(folder / "b.nii.gz") in errors(done.err)[0]
    assert "2 done, 0 skipped, 1 failed" in done.err
    report = json.loads((tmp_path / "out" / "medsr_upscale.json").read_text())
    assert report["done"] == 2
    assert report["skipped"] == []
    assert list(report["failed"]) == [str(folder / "b.nii.gz")]
    assert "damaged" in report["failed"][str(folder / "b.nii.gz")]


def test_list_of_files(upscale: Command, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"# two of them\nin/a.nii.gz\n\n{folder / 'c.nii'}\n")
    done = upscale(tmp_path / "list.txt", "-o", tmp_path / "out", "--no-preview", "--format", ".mha")
    assert done.status == 0, done.err
    assert [n for n in names(tmp_path / "out") if n.endswith(".mha")] == ["a_sr.mha", "c_sr.mha"]


def test_several_inputs(upscale: Command, folder: Path, tmp_path: Path) -> None:
    done = upscale(folder / "a.nii.gz", folder / "c.nii", folder / "a.nii.gz", "-o", tmp_path / "out", "--no-preview")
    assert done.status == 0
    assert "2 done" in done.err, "a file named twice is one image"


def test_dicom_folder(
    upscale: Command,
    volume: np.ndarray,
    oblique_affine: np.ndarray,
    write_dicom: Callable[..., None],
    tmp_path: Path,
) -> None:
    write_dicom(tmp_path / "study" / "series7", volume, oblique_affine)
    for given, stem in ((tmp_path / "study", "series7"), (tmp_path / "study" / "series7", "series7")):
        out = tmp_path / f"out-{given.name}"
        done = upscale(given, "-o", out, "--no-preview")
        assert done.status == 0, done.err
        result = nib.load(out / f"{stem}_sr.nii.gz")
        assert result.shape == tuple(2 * n for n in SHAPE)
        np.testing.assert_allclose(result.affine[:3, :3], oblique_affine[:3, :3] / 2, atol=1e-6)
    done = upscale(tmp_path / "study" / "series7", "-o", tmp_path / "study" / "series7.nii.gz", "--no-preview")
    assert done.status == 0, done.err


def test_skip_existing(upscale: Command, folder: Path, tmp_path: Path) -> None:
    (folder / "b.nii.gz").unlink()
    out = tmp_path / "out"
    assert upscale(folder / "a.nii.gz", "-o", out, "--no-preview").status == 0
    stamp = (out / "a_sr.nii.gz").stat().st_mtime_ns
    done = upscale(folder, "-o", out, "--no-preview", "--skip-existing")
    assert done.status == 0
    assert "1 done, 1 skipped, 0 failed" in done.err
    assert (out / "a_sr.nii.gz").stat().st_mtime_ns == stamp
    assert json.loads((out / "medsr_upscale.json").read_text())["skipped"] == [str(folder / "a.nii.gz")]
    done = upscale(folder, "-o", out, "--no-preview", "--skip-existing")
    assert done.status == 0
    assert "0 done, 2 skipped, 0 failed" in done.err
    assert "made otherwise" not in done.err
    assert upscale(folder / "a.nii.gz", "-o", out, "--no-preview").status == 0
    assert (out / "a_sr.nii.gz").stat().st_mtime_ns > stamp, "without the option a result is made anew"


def test_skip_existing_looks_at_the_request(upscale: Command, image: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    """Another scale, spacing, option, bundle or weight file: made again; and a result without its record."""
    out = tmp_path / "out"
    shutil.copy(tiny_bundle / "models" / "model.pt", tmp_path / "same.pt")
    state = torch.load(tiny_bundle / "models" / "model.pt", weights_only=True)
    torch.save({key: value + 1 for key, value in state.items()}, tmp_path / "other.pt")

    def made(*options: object) -> bool:
        done = upscale(image, "-o", out, "--no-preview", "--skip-existing", *options)
        assert done.status == 0, done.err
        made_again = "1 existing result(s) were made otherwise, and are made again" in done.err
        assert ("0 done, 1 skipped" in done.err) is not made_again
        return made_again

    assert upscale(image, "-o", out, "--no-preview").status == 0
    assert not made()
    assert not made("--scale", "2", "2", "2.0")
    assert not made("--weights", tmp_path / "same.pt")
    assert made("--scale", "1.5")
    assert nib.load(out / "a_sr.nii.gz").shape == (14, 12, 10)
    assert not made("--scale", "1.5")
    assert made("--spacing", "1")
    assert made("--spacing", "0.5")
    assert not made("--spacing", "0.5", "0.5", "0.5")
    assert made()
    assert made("--formation", "block")
    assert made("--uncertainty")
    (out / "a_sr_std.nii.gz").unlink()
    assert made("--uncertainty")
    assert made("--uncertainty", "--consistency"), "a map is missing"
    assert made()
    assert made("--weights", tmp_path / "other.pt")
    assert made()
    for text in ("{", "[]", "{}", '{"method": {}, "settings": 1}'):
        (out / "a_sr.json").write_text(text)
        assert made()
    (out / "a_sr.json").unlink()
    assert made()
    assert not made()


@pytest.mark.parametrize(
    ("request_", "shape"),
    [
        (("--scale", "1.5"), (14, 12, 10)),  # 13.5, 12, 10.5: halves to even
        (("--scale", "1", "2.5", "3"), (9, 20, 21)),
        (("--spacing", "1"), (11, 8, 10)),  # of 1.25 x 1 x 1.5 mm
        (("--spacing", "0.625", "1", "0.6"), (18, 8, 18)),
    ],
)
def test_requests(upscale: Command, image: Path, tmp_path: Path, request_: tuple[str, ...], shape: Any) -> None:
    done = upscale(image, "-o", tmp_path / "out.nii", "--no-preview", *request_)
    assert done.status == 0, done.err
    result = nib.load(tmp_path / "out.nii")
    assert result.shape == shape
    if request_[0] == "--spacing":
        wanted = np.broadcast_to([float(v) for v in request_[1:]], 3)
        np.testing.assert_allclose(result.header.get_zooms(), wanted, rtol=1e-3)


def test_options_reach_the_record(upscale: Command, image: Path, tmp_path: Path) -> None:
    done = upscale(image, "-o", tmp_path / "out", "--ensemble", "--formation", "block", "--safe", "--device", "cpu")
    assert done.status == 0, done.err
    assert names(tmp_path / "out") == ["a_sr.json", "a_sr.nii.gz", "a_sr.png", "a_sr_std.nii.gz"]
    settings = json.loads((tmp_path / "out" / "a_sr.json").read_text())["settings"]
    assert settings["ensemble"] is True
    assert settings["formation"]["name"] == "block-mean"
    assert settings["safe"] is True
    assert settings["device"] == "cpu"


def test_warning_outside_the_trained_range(upscale: Command, image: Path, tmp_path: Path) -> None:
    done = upscale(image, "-o", tmp_path / "out", "--no-preview", "--scale", "4")
    assert done.status == 0
    assert "outside the trained range" in done.err
    assert "outside the trained range" in json.loads((tmp_path / "out" / "a_sr.json").read_text())["warnings"][0]


def test_output_is_never_an_input(upscale: Command, folder: Path) -> None:
    (folder / "b.nii.gz").unlink()
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    assert upscale(folder / "a.nii.gz", "-o", folder / "a.nii.gz").status == 2
    done = upscale(folder / "a.nii.gz", "-o", folder / "a.mha")
    assert done.status == 2, "its record would be a.json, the sidecar of a.nii.gz"
    assert len(errors(done.err)) == 1
    (folder / "a_sr.nii.gz").write_bytes(before["a.nii.gz"])
    before["a_sr.nii.gz"] = before["a.nii.gz"]
    done = upscale(folder, "-o", folder)
    assert done.status == 2
    assert "a_sr.nii.gz would be a result, but is an input too" in done.err
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


def test_name_clash(upscale: Command, folder: Path, tmp_path: Path) -> None:
    (folder / "b.nii.gz").unlink()
    (folder / "a.nii").write_bytes((folder / "c.nii").read_bytes())
    done = upscale(folder, "-o", tmp_path / "out")
    assert done.status == 2
    assert len(errors(done.err)) == 1
    assert names(tmp_path / "out") == []
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.nii").write_bytes((folder / "c.nii").read_bytes())
    done = upscale(folder / "a.nii.gz", other / "a.nii", "-o", tmp_path / "out", "--no-preview")
    assert done.status == 0, done.err
    assert [n for n in names(tmp_path / "out") if n.endswith(".gz")] == ["in_a_sr.nii.gz", "other_a_sr.nii.gz"]


def test_several_inputs_and_one_file_name(upscale: Command, folder: Path, tmp_path: Path) -> None:
    done = upscale(folder, "-o", tmp_path / "x.nii.gz")
    assert done.status == 2
    assert "give a folder" in done.err


def test_a_defect_keeps_its_traceback(
    upscale: Command, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise KeyError("a defect of the program")

    monkeypatch.setattr(saving, "write_volume", broken)
    done = upscale(image, "-o", tmp_path / "out")
    assert done.status == 1
    assert "KeyError: 'a defect of the program'" in done.err
    assert names(tmp_path / "out") == []


def test_debug_shows_where_a_mistake_was_found(medsr_command: Command, tmp_path: Path) -> None:
    done = medsr_command("--debug", "upscale", tmp_path / "no.nii", "-o", tmp_path, "--scale", "2")
    assert done.status == 1
    assert "Traceback" in done.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_while_writing(
    upscale: Command, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    original = saving.write_volume

    def write_and_be_stopped(path: Path, *args: Any, **kwargs: Any) -> None:
        original(path, *args, **kwargs)
        os.kill(os.getpid(), number)
        time.sleep(5)

    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(saving, "write_volume", write_and_be_stopped)
    done = upscale(image, "-o", tmp_path / "out")
    assert done.status == (143 if number is signal.SIGTERM else 130)
    assert names(tmp_path / "out") == []
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    signal.signal(signal.SIGINT, inherited)


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    path = os.pathsep.join(p for p in (str(REPOSITORY), os.environ.get("PYTHONPATH")) if p)
    return subprocess.Popen(
        [sys.executable, "-m", "medsr.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        **options,
    )


@pytest.mark.slow
def test_terminated_process_leaves_nothing_half_written(
    phantom: Callable[..., np.ndarray], tiny_bundle: Path, tmp_path: Path
) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    for k in range(40):
        nib.save(nib.Nifti1Image(phantom((32, 32, 32), k), np.eye(4)), inputs / f"{k}.nii.gz")
    process = start("upscale", inputs, "-o", out, "--scale", "3", "--bundle", tiny_bundle)
    assert process.stdout is not None
    first = process.stdout.readline()  # one case is done, others follow
    time.sleep(0.3)
    process.terminate()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert first.strip() == str(out / "0_sr.nii.gz")
    written = names(out)
    assert not [name for name in written if name.startswith(".")]
    cases = {name.split("_")[0] for name in written}
    assert len(cases) < 40, "it was stopped on the way"
    assert len(written) == 3 * len(cases), "every case has its image, record and preview"
    for case in cases:
        assert np.asarray(nib.load(out / f"{case}_sr.nii.gz").dataobj).shape == (96, 96, 96)


def test_next_run_removes_what_a_killed_one_left(upscale: Command, image: Path, tmp_path: Path) -> None:
    """SIGKILL leaves no process that could tidy up; what a process that lives is writing stays."""
    out = tmp_path / "out"
    with staged([tmp_path / "elsewhere" / name for name in ("b.json", "b.nii")]) as files:
        name = files[0].parent.name
    sleepers = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    try:
        hidden = [out / name.replace(f"-{os.getpid()}-", f"-{process.pid}-") for process in sleepers]
        for folder in hidden:
            folder.mkdir(parents=True)
            (folder / "b.json").write_text("half")
        sleepers[0].kill()
        sleepers[0].wait()
        assert upscale(image, "-o", out, "--no-preview").status == 0
        assert [path for path in hidden if path.exists()] == [hidden[1]]
        assert (hidden[1] / "b.json").read_text() == "half"
    finally:
        for process in sleepers:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_full_disk(phantom: Callable[..., np.ndarray], tiny_bundle: Path, tmp_path: Path) -> None:
    """No file may grow beyond 100 kB, as on a disk that is full: the preview still fits, the image does not."""
    resource = pytest.importorskip("resource")
    nib.save(nib.Nifti1Image(phantom((24, 24, 24)), np.eye(4)), tmp_path / "a.nii.gz")
    process = start(
        *("upscale", tmp_path / "a.nii.gz", "-o", tmp_path / "out", "--scale", "2", "--bundle", tiny_bundle),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert len(errors(err)) == 1
    assert str(tmp_path / "out" / "a_sr.nii.gz") in errors(err)[0]
    assert "Traceback" not in err
    assert names(tmp_path / "out") == []
