"""The operators in real applications of the MONAI Deploy App SDK, by the Python in MEDSR_DEPLOY_PYTHON."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

import medsr
from medsr.data.dicom.reading import read_dicom

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("MEDSR_DEPLOY_PYTHON", "")
pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not PYTHON, reason="MEDSR_DEPLOY_PYTHON is not set; see `make test-deploy`"),
]
SHAPE = (12, 10, 8)


@pytest.fixture
def in_sdk(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script by the SDK's Python, in an empty folder of its own (the SDK writes logs where it runs)."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(script: Path, *words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-c", 'ulimit -s 32768; exec "$@"', "sh", PYTHON, script, *words]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **variables}
        return subprocess.run(
            list(map(str, command)), cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=240
        )

    return run


@pytest.fixture
def study(
    tmp_path: Path, write_dicom: Callable[..., None], phantom: Callable[..., np.ndarray], oblique_affine: np.ndarray
) -> Path:
    """One oblique CT series with pixels that are not square."""
    write_dicom(tmp_path / "study" / "a", phantom(SHAPE), oblique_affine)
    return tmp_path / "study"


def test_series_to_derived_series(in_sdk: Callable[..., Any], study: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    script = REPOSITORY / "deploy" / "monai_deploy" / "app.py"
    done = in_sdk(
        script, "--input", study, "--output", out, "--model", "", MEDSR_BUNDLE=str(tiny_bundle), MEDSR_SCALE="2"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in out.iterdir()) == ["sr-1", "sr-1.json"]
    expected = medsr.upscale(study, tiny_bundle, scale=2)
    volume = read_dicom(out / "sr-1")
    step = max(float(pydicom.dcmread(path).RescaleSlope) for path in (out / "sr-1").iterdir())
    np.testing.assert_allclose(volume.data, expected.numpy()[0], atol=step / 2 * 1.001 + 1e-4)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-5)


def test_image_to_image(
    in_sdk: Callable[..., Any],
    tmp_path: Path,
    tiny_bundle: Path,
    write_dicom: Callable[..., None],
    phantom: Callable[..., np.ndarray],
    oblique_affine: np.ndarray,
) -> None:
    affine = oblique_affine.copy()
    affine[:3, 1] *= np.linalg.norm(affine[:3, 0]) / np.linalg.norm(affine[:3, 1])  # square pixels, see the docs
    write_dicom(tmp_path / "study", phantom(SHAPE), affine)
    script = Path(__file__).with_name("sdk_image_app.py")
    done = in_sdk(script, tmp_path / "study", tiny_bundle, 2, tmp_path / "result.npz")
    assert done.returncode == 0, done.stderr[-3000:]
    result = np.load(tmp_path / "result.npz")
    assert result["sr"].dtype == np.float32
    assert result["sr"].shape == tuple(2 * n for n in reversed(SHAPE))
    lr = nib.Nifti1Image(result["lr"].transpose(2, 1, 0).astype(np.float32), result["lr_affine"])
    expected = medsr.upscale(lr, tiny_bundle, scale=2)
    np.testing.assert_array_equal(result["sr"].transpose(2, 1, 0), expected.get_fdata(dtype=np.float32))
    direct = medsr.upscale(tmp_path / "study", tiny_bundle, scale=2)
    np.testing.assert_allclose(result["sr"].transpose(2, 1, 0), direct.numpy()[0], atol=1e-3)
    for key in ("affine", "nifti_affine_transform"):
        np.testing.assert_allclose(result[key], direct.affine, atol=1e-5)
    np.testing.assert_allclose(
        result["dicom_affine_transform"], np.diag([-1, -1, 1, 1]) @ direct.affine.numpy(), atol=1e-5
    )
