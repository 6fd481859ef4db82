"""Contrasts as channels, from files to files: a network that keeps them apart does to each what it does alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

CONTRASTS = ("T1ce", "T1w", "FLAIR")
SHAPE = (9, 8, 7)
SEPARATE = '''
import torch
from dataclasses import replace
from medsr.networks import create


class Separate(torch.nn.Module):
    """A network of one channel on each of several."""

    def __init__(self, channels):
        super().__init__()
        self.inner = create("ReCNN", depth=2, features=2)
        self.spec = replace(self.inner.spec, in_channels=channels, out_channels=channels)

    def forward(self, lr, scale=None):
        return torch.cat([self.inner(lr[:, k : k + 1]) for k in range(lr.shape[1])], 1)
'''


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny bundle for as many contrasts as are named; its network does the same to each."""
    root = tmp_path / "manysr"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    (tmp_path / "separate_channels.py").write_text(SEPARATE)
    monkeypatch.syspath_prepend(tmp_path)
    config = json.loads((tiny_bundle / "configs" / "inference.json").read_text())
    config["contrasts"] = None
    config["channels"] = "$1 if @contrasts is None else len(@contrasts)"
    config["network_def"] = {"_target_": "separate_channels.Separate", "channels": "@channels"}
    config["dataset"]["data"] = "$inference_items(@dataset_dir, @series, @output_ext, @contrasts)"
    (root / "configs" / "inference.json").write_text(json.dumps(config, indent=4))
    for name in ("metadata.json", "logging.conf"):
        (root / "configs" / name).write_text((tiny_bundle / "configs" / name).read_text())
    weights = torch.load(tiny_bundle / "models" / "model.pt", weights_only=True)
    torch.save({f"inner.{key}": value for key, value in weights.items()}, root / "models" / "model.pt")
    return root


@pytest.fixture
def cases(phantom: Callable[..., np.ndarray], left_handed_affine: np.ndarray, tmp_path: Path) -> Path:
    """Two cases of three contrasts in units that have nothing to do with one another, and a label map beside them."""
    folder = tmp_path / "cases"
    folder.mkdir()
    for case in (1, 2):
        for k, contrast in enumerate(CONTRASTS):
            values = (phantom(SHAPE, seed=10 * case + k) * 30.0**k - 500 * k).astype(np.float32)
            nib.save(nib.Nifti1Image(values, left_handed_affine), folder / f"sub-{case}_{contrast}.nii.gz")
        nib.save(
            nib.Nifti1Image((values > values.mean()).astype(np.uint8), left_handed_affine),
            folder / f"sub-{case}_seg.nii.gz",
        )
    return folder


def voxels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def check_results(together: Path, apart: Path) -> None:
    """Each contrast's result is that of the contrast alone, in its own units."""
    for case in (1, 2):
        for k, contrast in enumerate(CONTRASTS):
            name = f"sub-{case}_{contrast}_sr"
            (made, grid), (alone, alone_grid) = (voxels(folder / f"{name}.nii.gz") for folder in (together, apart))
            np.testing.assert_allclose(made, alone, rtol=0, atol=1e-5 * np.ptp(alone))
            np.testing.assert_array_equal(grid, alone_grid)
            record, own = (json.loads((folder / f"{name}.json").read_text()) for folder in (together, apart))
            assert record["input"] == own["input"]
            assert record["intensity"] == own["intensity"]
            assert record["channel"] == k
            assert [given["name"] for given in record["inputs"]] == [f"sub-{case}_{c}.nii.gz" for c in CONTRASTS]
            assert record["inputs"][k] == own["input"]
            assert "inputs" not in own
            assert (together / f"{name}.png").is_file()


def test_bundle_command(bundle: Path, tiny_bundle: Path, cases: Path, monai_bundle: Any, tmp_path: Path) -> None:
    def run(root: Path, output: Path, **more: Any) -> Any:
        config = root / "configs" / "inference.json"
        folders = {"bundle_root": root, "dataset_dir": cases, "output_dir": output}
        return monai_bundle("run", config_file=config, scale=2, **folders, **more)

    done = run(bundle, tmp_path / "together", contrasts=list(CONTRASTS))
    assert done.status == 0, done.err
    assert len(list((tmp_path / "together").iterdir())) == 2 * 3 * 3, "label maps are no contrast"
    assert run(tiny_bundle, tmp_path / "apart").status == 0
    check_results(tmp_path / "together", tmp_path / "apart")
    done = run(bundle, tmp_path / "batch", contrasts=list(CONTRASTS), **{"dataloader::batch_size": 2})
    assert done.status == 0, done.err
    check_results(tmp_path / "batch", tmp_path / "apart")

    (cases / "sub-2_T1w.nii.gz").unlink()
    done = run(bundle, tmp_path / "incomplete", contrasts=list(CONTRASTS))
    assert done.status == 1
    assert f"expected T1w beside {cases / 'sub-2_FLAIR.nii.gz'}, found none; complete the case" in done.err
    assert not (tmp_path / "incomplete").exists()


def test_upscale_command(
    bundle: Path,
    tiny_bundle: Path,
    cases: Path,
    medsr_command: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(root: Path, output: Path, *more: str) -> Any:
        return medsr_command("upscale", cases, "-o", output, "--scale", "2", "--bundle", root, *more)

    done = run(bundle, tmp_path / "together", "--contrasts", *CONTRASTS, "--uncertainty")
    assert done.status == 0, done.err
    assert run(tiny_bundle, tmp_path / "apart", "--uncertainty").status == 0
    check_results(tmp_path / "together", tmp_path / "apart")
    for contrast in CONTRASTS:  # the spread is in each contrast's units too
        name = f"sub-1_{contrast}_sr_std.nii.gz"
        (made, _), (alone, _) = (voxels(tmp_path / folder / name) for folder in ("together", "apart"))
        assert alone.max() > 0
        np.testing.assert_allclose(made, alone, rtol=0, atol=1e-4 * alone.max())
    again = run(bundle, tmp_path / "together", "--contrasts", *CONTRASTS, "--uncertainty", "--skip-existing")
    assert again.status == 0
    assert "0 done, 6 skipped, 0 failed" in again.err
    with monkeypatch.context() as context:  # another order is another request
        context.setattr("medsr.upscaling.batch._enlarge", lambda *arguments: {})
        turned = run(bundle, tmp_path / "together", "--contrasts", *CONTRASTS[::-1], "--uncertainty", "--skip-existing")
    assert "2 done, 0 skipped, 0 failed" in turned.err
    (tmp_path / "together" / "sub-1_T1w_sr.nii.gz").unlink()  # a case is made again as a whole
    again = run(bundle, tmp_path / "together", "--contrasts", *CONTRASTS, "--uncertainty", "--skip-existing")
    assert "1 done, 3 skipped, 0 failed" in again.err
    assert (tmp_path / "together" / "sub-1_T1w_sr.nii.gz").is_file()


def test_bundle_of_one_contrast_says_so(tiny_bundle: Path, cases: Path, medsr_command: Any, tmp_path: Path) -> None:
    arguments = ("-o", tmp_path / "out", "--scale", "2", "--bundle", tiny_bundle, "--contrasts", *CONTRASTS)
    done = medsr_command("upscale", cases, *arguments)
    assert done.status != 0
    assert "has no setting 'contrasts'" in done.err
    assert "Traceback" not in done.err


def test_no_contrast_appears_without_the_others(
    bundle: Path, cases: Path, medsr_command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medsr.errors import OutputError
    from medsr.outputs import saving

    write, written = saving.write_volume, []

    def third_fails(path: Path, *args: Any, **kwargs: Any) -> None:
        written.append(path)
        if len(written) == 3:
            raise OutputError("the disk is full")
        write(path, *args, **kwargs)

    monkeypatch.setattr(saving, "write_volume", third_fails)
    (cases / "other").mkdir()
    for path in cases.glob("sub-2*"):
        path.rename(cases / "other" / path.name)
    done = medsr_command(
        "upscale", cases, "-o", tmp_path / "out", "--scale", "2", "--bundle", bundle, "--contrasts", *CONTRASTS
    )
    assert done.status == 1
    assert "the disk is full" in done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == []
