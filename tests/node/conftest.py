"""Nodes under test, and series to send to them."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid

for _needed in ("pynetdicom", "tenacity"):
    pytest.importorskip(_needed)

SHAPE = (8, 9, 4)
PATIENT = {"PatientName": "Doe^Jane", "PatientID": "MRN-0815", "PatientBirthDate": "19610409"}


def load_kit() -> Any:
    """The module `kit.py` beside this file: tests are no package to import from."""
    name = "medsr_node_kit"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("kit.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def kit() -> Any:
    return load_kit()


@pytest.fixture(scope="session")
def nursery(kit: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    nursery = kit.Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def open_archive(kit: Any) -> Iterator[Any]:
    archive = kit.Archive().open()
    yield archive
    archive.close()


@pytest.fixture
def archive(open_archive: Any) -> Any:
    """A destination that is there, and empty."""
    open_archive.clear()
    return open_archive


@pytest.fixture
def absent(kit: Any) -> Any:
    """A destination that is not there yet."""
    return kit.Archive()


@pytest.fixture
def node(request: pytest.FixtureRequest, kit: Any, nursery: Any, tiny_bundle: Path, tmp_path: Path) -> Iterator[Any]:
    """A node that is not started yet; its settings may be changed before. It sends to `absent` if the test has it."""
    archive = request.getfixturevalue("absent" if "absent" in request.fixturenames else "archive")
    settings = {
        "queue": str(tmp_path / "queue"),
        "callers": ["SCANNER"],
        "destination": f"ARCHIVE@127.0.0.1:{archive.port}",
        "bundle": str(tiny_bundle),
        "scale": 2,
        "device": "cpu",
        "quiet_seconds": 0.3,
        "resume_seconds": 30,
        "retry_seconds": 0.1,
        "longest_retry_seconds": 0.5,
        "network_seconds": 10,
    }
    node = kit.Node(nursery, tmp_path, settings)
    yield node
    if node.pid is not None:
        status = node.end(signal.SIGTERM)
        assert status == 0, node.text()


@pytest.fixture(scope="session")
def series(
    write_dicom: Callable[..., None],
    phantom: Callable[..., np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., list[Path]]:
    """Write an MR series of a patient and return its files; `number` tells series apart."""

    def write(
        number: int = 1,
        study: int = 1,
        change: Callable[[int, Any], Any] = lambda k, image: None,
        shape: tuple[int, int, int] = SHAPE,
    ) -> list[Path]:
        folder = tmp_path_factory.mktemp("series")

        def as_mr(k: int, image: Any) -> Any:
            image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = uid.MRImageStorage
            image.Modality, image.SeriesDescription = "MR", "brain of Jane"
            image.StudyInstanceUID, image.SeriesInstanceUID = f"1.2.3.{study}", f"1.2.3.{study}.{number}"
            image.SOPInstanceUID = f"1.2.3.{study}.{number}.{k + 1}"
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            image.FrameOfReferenceUID, image.InstanceNumber, image.SeriesNumber = f"1.2.3.{study}.0", k + 1, number
            image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20200131", "101112", "S1", "A-77"
            image.ImageType, image.PatientPosition = ["ORIGINAL", "PRIMARY", "M"], "HFS"
            image.Manufacturer = "ACME"
            for keyword, value in PATIENT.items():
                setattr(image, keyword, value)
            return change(k, image)

        affine = np.diag([1.0, 1.0, 2.5, 1.0])
        write_dicom(folder, phantom(shape, seed=number), affine, as_mr)
        return sorted(folder.iterdir())

    return write
