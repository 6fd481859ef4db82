"""medsr's own app on a real server, with images of every kind that it takes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

NIFTI_MM, EXACT_MM = 2e-5, 1e-6
PATIENT = "DOE_JOHN"


@pytest.fixture(scope="session")
def inputs(
    images: Path,
    tmp_path_factory: pytest.TempPathFactory,
    phantom: Callable[..., np.ndarray],
    write_dicom: Callable[..., None],
    left_handed_affine: np.ndarray,
) -> Path:
    """The images, a sheared one (gantry tilt), and a DICOM series whose files bear the patient's name."""
    folder = tmp_path_factory.mktemp("inputs") / "inputs"
    shutil.copytree(images, folder)
    sheared = left_handed_affine @ np.array([[1, 0, 0.2, 0], [0, 1, 0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(phantom((12, 14, 10), seed=1), sheared), folder / "sheared.nii.gz")
    write_dicom(folder / "series", phantom((12, 14, 10), seed=2), np.diag([1.0, 1.2, 2.0, 1.0]), name_the_patient)
    for file in (folder / "series").iterdir():
        file.rename(file.with_name(f"{PATIENT}_{file.name}"))
    return folder


def name_the_patient(k: int, image: Any) -> None:
    image.PatientName = PATIENT.replace("_", "^")


@pytest.fixture(scope="session")
def medsr_app(label_python: str, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    app = tmp_path_factory.mktemp("app") / "app"
    words = [label_python, "-m", "medsr.cli", "label-app", "--output", str(app)]
    done = subprocess.run(words, check=True, env=environment, capture_output=True, text=True)
    assert str(app) in done.stdout
    return app


@pytest.fixture(scope="session")
def server(
    start_server: Callable[..., Any], medsr_app: Path, inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(inputs, folder / "studies")
    limits = {"max_voxels": "30000", "max_result_voxels": "200000"}
    with start_server(medsr_app, folder / "studies", folder / "log.txt", models="all", **limits) as started:
        yield started
    assert PATIENT not in (folder / "log.txt").read_text()


@pytest.fixture
def check(read_image: Callable[..., Any], tmp_path: Path) -> Callable[..., None]:
    """A file must hold the voxels and the grid that the bundle's own command gives."""

    def check_bytes(content: bytes, expected: Any, stem: str, suffix: str) -> None:
        file = tmp_path / f"answer{suffix}"
        file.write_bytes(content)
        array, affine = read_image(file)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected.array(stem))
        np.testing.assert_allclose(
            affine, expected.affine(stem), atol=NIFTI_MM if suffix.startswith(".nii") else EXACT_MM
        )

    return check_bytes


@pytest.fixture(scope="session")
def refused() -> Callable[..., None]:
    """Check that an answer is one line with a reason, without a path or a patient's name."""

    def check_answer(answer: Any, status: int, words: str, *never: str) -> None:
        assert answer.status_code == status, answer.text[:500]
        detail = answer.json()["detail"]
        assert words in detail, detail
        assert "\n" not in detail
        for text in ("/tmp", "/home", "/root", "Traceback", PATIENT, PATIENT.partition("_")[0], *never):
            assert text not in detail, detail

    return check_answer
