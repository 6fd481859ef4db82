"""``medsr upscale`` and the bundle: pictures and stacks of pictures in and out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import medsr
from medsr.inferers import SuperResolutionInferer

SHAPE = (10, 8, 3)  # columns, rows, slices
Command = Callable[..., Any]


@pytest.fixture
def upscale(medsr_command: Command, tiny_bundle: Path) -> Command:
    """`medsr upscale ARGUMENTS` without preview, by a bundle that costs nothing to run; --scale 2 unless told."""

    def call(*arguments: object) -> Any:
        wanted = () if "--scale" in arguments else ("--scale", "2")
        return medsr_command("upscale", *arguments, *wanted, "--no-preview", "--bundle", tiny_bundle)

    return call


@pytest.fixture
def stack(phantom: Callable[..., np.ndarray], tmp_path: Path) -> Path:
    """Three 8-bit slices."""
    return save(tmp_path / "in" / "heart", phantom(SHAPE) // 8 + 60, np.uint8)


def save(folder: Path, volume: np.ndarray, dtype: type) -> Path:
    folder.mkdir(parents=True)
    limits = np.iinfo(dtype)
    for k, picture in enumerate(np.clip(volume, limits.min, limits.max).astype(dtype).transpose(2, 1, 0)):
        Image.fromarray(picture).save(folder / f"s{k}.png")
    return folder


def names(path: Path) -> list[str]:
    """Everything below a folder, hidden files too."""
    return sorted(str(p.relative_to(path)) for p in path.rglob("*")) if path.exists() else []


def pictures(folder: Path) -> np.ndarray:
    """(columns, rows, slices) by Pillow alone."""
    return np.stack([np.asarray(Image.open(path)).T for path in sorted(folder.iterdir())], axis=-1)


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, "2"), (np.uint16, "2.37")])
def test_pictures_in_pictures_out(
    upscale: Command, tiny_bundle: Path, phantom: Callable[..., np.ndarray], tmp_path: Path, dtype: type, scale: str
) -> None:
    stack = save(tmp_path / "in" / "heart", phantom(SHAPE) // 8 + 60, dtype)
    out = tmp_path / "out"
    done = upscale(stack, "-o", out, "--format", "png", "--scale", scale)
    assert done.status == 0, done.err
    assert done.out.strip() == str(out / "heart_sr")
    shape = tuple(round(n * float(scale)) for n in SHAPE)
    files = [f"heart_sr/heart_sr_{k:04d}.png" for k in range(1, shape[2] + 1)]
    assert names(out) == sorted(["heart_sr", *files, "heart_sr.json"])
    assert upscale(stack, "-o", tmp_path / "volume", "--scale", scale).status == 0
    exact = np.asarray(nib.load(tmp_path / "volume" / "heart_sr.nii.gz").dataobj)
    assert exact.shape == shape
    np.testing.assert_array_equal(medsr.upscale(stack, tiny_bundle, scale=float(scale), device="cpu")[0], exact)
    values = pictures(out / "heart_sr")
    assert values.dtype == dtype
    largest = np.iinfo(dtype).max
    np.testing.assert_array_equal(values, np.clip(np.rint(exact), 0, largest))
    record = json.loads((out / "heart_sr.json").read_text())
    clipped = int(((np.rint(exact) < 0) | (np.rint(exact) > largest)).sum())
    assert clipped, "or the test says nothing of the warning"
    assert record["pictures"] == {"images": shape[2], "bits": np.iinfo(dtype).bits, "clipped": clipped}
    (warning,) = [text for text in record["warnings"] if "clipped" in text]
    assert warning.startswith(f"{clipped} of {values.size} values were outside the range 0 to {largest}")
    assert any("1 x 1 x 1 mm" in text for text in record["warnings"])
    assert record["sr_grid"]["shape"] == list(shape)


def test_one_picture_is_a_stack_of_one(upscale: Command, stack: Path, tmp_path: Path) -> None:
    named = stack / "s1.png", stack / "s2.png"
    done = upscale(*named, "-o", tmp_path / "out", "--format", "png", "--scale", "2", "2", "1")
    assert done.status == 0, done.err
    assert [name for name in names(tmp_path / "out") if name.endswith(".png")] == [
        f"s{k}_sr/s{k}_sr_0001.png" for k in (1, 2)
    ]
    assert pictures(tmp_path / "out" / "s1_sr").shape == (20, 16, 1)


def test_maps_are_volumes(upscale: Command, stack: Path, tmp_path: Path) -> None:
    done = upscale(stack, "-o", tmp_path / "out", "--format", "png", "--uncertainty", "--consistency")
    assert done.status == 0, done.err
    for name, shape in (("std", (20, 16, 6)), ("consistency", SHAPE)):
        assert nib.load(tmp_path / "out" / f"heart_sr_{name}.nii.gz").shape == shape


def test_again_and_skipped(upscale: Command, stack: Path, tmp_path: Path) -> None:
    options = (stack, "-o", tmp_path / "out", "--format", "png")
    folder = tmp_path / "out" / "heart_sr"
    assert upscale(*options).status == 0
    first, stamp = pictures(folder), folder.stat().st_mtime_ns
    assert "0 done, 1 skipped, 0 failed" in upscale(*options, "--skip-existing").err
    assert folder.stat().st_mtime_ns == stamp
    (folder / "heart_sr_0003.png").unlink()
    done = upscale(*options, "--skip-existing")
    assert done.status == 0, done.err
    np.testing.assert_array_equal(pictures(folder), first)
    assert upscale(*options, "--scale", "2", "2", "1").status == 0, "a result of ours is replaced"
    assert len(names(folder)) == SHAPE[2]


@pytest.mark.parametrize("case", ["other files", "no record", "another's record"])
def test_folders_of_others_are_left_alone(upscale: Command, stack: Path, tmp_path: Path, case: str) -> None:
    folder = tmp_path / "out" / "heart_sr"
    assert upscale(stack, "-o", tmp_path / "out", "--format", "png").status == 0
    if case == "other files":
        (folder / "mine.png").write_bytes(b"mine")
    elif case == "no record":
        (tmp_path / "out" / "heart_sr.json").unlink()
    else:
        (tmp_path / "out" / "heart_sr.json").write_text('{"medsr": "0", "dicom": {}}')
    before = names(tmp_path / "out")
    for extra in ((), ("--skip-existing",)):
        done = upscale(stack, "-o", tmp_path / "out", "--format", "png", *extra)
        assert done.status == 2
        assert f"{folder}: expected no folder of that name, got one that holds other files" in done.err
        assert names(tmp_path / "out") == before


def test_nothing_is_written_among_the_slices(upscale: Command, stack: Path) -> None:
    before = names(stack)
    for output in (stack, stack / "deeper"):
        for kind in ("png", ".nii.gz"):
            done = upscale(stack, "-o", output, "--format", kind)
            assert done.status == 2
            assert "would be written into its input heart" in done.err
    assert names(stack) == before


def test_what_cannot_be_pictures_is_told_before_the_network_runs(
    upscale: Command, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SuperResolutionInferer, "__call__", lambda *a, **k: pytest.fail("the network ran"))
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    out = tmp_path / "out"
    for inputs in ((tmp_path / "a.nii.gz",), (stack, tmp_path / "a.nii.gz")):
        done = upscale(*inputs, "-o", out, "--format", "png")
        assert done.status == 2
        (line,) = done.err.splitlines()
        assert line.startswith(f"medsr: error: {tmp_path / 'a.nii.gz'}: expected a picture or a stack of pictures")
        assert line.endswith("write .nii.gz")
    (tmp_path / "floats").mkdir()
    Image.fromarray(np.arange(20, dtype=np.float32).reshape(4, 5)).save(tmp_path / "floats" / "1.tif")
    done = upscale(tmp_path / "floats", "-o", out, "--format", "png")
    assert done.status == 1
    assert "expected an 8- or 16-bit picture to write PNG, got float32 values, which PNG cannot hold" in done.err
    for output, words in (("x.png", "pictures are written into a folder"), ("x.nii.gz", "--format png makes a folder")):
        done = upscale(stack, "-o", tmp_path / output, "--format", "png")
        assert done.status == 2
        assert words in done.err
    done = upscale(stack, "-o", out, "--format", "png", "--bids")
    assert done.status == 2
    assert names(out) == []


def test_the_bundle_by_monai(
    monai_bundle: Command, tiny_bundle: Path, upscale: Command, stack: Path, tmp_path: Path
) -> None:
    config = {"config_file": tiny_bundle / "configs" / "inference.json", "bundle_root": tiny_bundle}
    options = {"scale": 2, "preview": False, "output_ext": "png", "device": "cpu"}
    done = monai_bundle("run", **config, dataset_dir=stack, output_dir=tmp_path / "monai", **options)
    assert done.status in (0, None), done.err
    assert upscale(stack, "-o", tmp_path / "out", "--format", "png", "--device", "cpu").status == 0
    assert names(tmp_path / "monai") == names(tmp_path / "out")
    np.testing.assert_array_equal(*(pictures(tmp_path / name / "heart_sr") for name in ("monai", "out")))
