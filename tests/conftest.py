"""Fixtures and settings that every test shares."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports matplotlib: no test opens a window

REPOSITORY = Path(__file__).resolve().parents[1]

# "medsr" draws the same few examples every time, so a red run is the fault of the change under test.
# HYPOTHESIS_PROFILE=explore searches: many examples, new ones each time.
_COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("medsr", max_examples=25, derandomize=True, **_COMMON)
settings.register_profile("explore", max_examples=500, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "medsr"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` where torch sees no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def _torch_threads() -> None:
    """Keep torch to a few threads: on the tests' small tensors more only wait for one another."""
    import torch

    torch.set_num_threads(int(os.environ.get("MEDSR_TEST_THREADS", min(2, os.cpu_count() or 1))))


def _folder_or_skip(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default)).expanduser()
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set {variable} to run this test")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images (``MEDSR_SHARED_DATA``, else ``../shared/data`` beside the checkout)."""
    return _folder_or_skip("MEDSR_SHARED_DATA", REPOSITORY.parent / "shared" / "data")


@pytest.fixture(scope="session")
def shared_parity() -> Path:
    """The folder of reference outputs (``MEDSR_SHARED_PARITY``, else ``../shared/parity``)."""
    return _folder_or_skip("MEDSR_SHARED_PARITY", REPOSITORY.parent / "shared" / "parity")


@pytest.fixture
def oblique_affine() -> np.ndarray:
    """A right-handed oblique affine (RAS, mm): spacing (0.9, 1.1, 2.5), 20 degrees about x, -35 about z."""
    a, b = np.deg2rad([20.0, -35.0])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([0.9, 1.1, 2.5])
    affine[:3, 3] = [-31.5, 12.25, 70.0]
    return affine
