"""Fixtures and settings that every test shares."""

from __future__ import annotations

import io
import json
import logging
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    threads = os.environ.get("MEDSR_TEST_THREADS", str(max(1, min(2, os.cpu_count() or 1) // workers)))
    torch.set_num_threads(int(threads))
    if workers > 1:
        os.environ.setdefault("OMP_NUM_THREADS", threads)  # of the programs that tests start


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


@pytest.fixture(scope="session")
def left_handed_affine() -> np.ndarray:
    """An oblique left-handed affine (RAS, mm): spacing (1.25, 1, 1.5); array axes nearest -z, x, y.

    Orthogonal, so that every format can hold it.
    """
    a, b = np.deg2rad([15.0, 25.0])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    permuted = np.array([[0, 1, 0], [0, 0, 1], [-1, 0, 0]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ permuted @ np.diag([1.25, 1.0, 1.5])
    affine[:3, 3] = [-17.25, 33.5, 61.125]
    assert np.linalg.det(affine[:3, :3]) < 0
    return affine


@pytest.fixture(scope="session")
def phantom() -> Callable[..., np.ndarray]:
    """Make a volume of a size: smooth blobs with edges, int16 in "scanner units" with negatives."""

    def make(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
        from scipy.ndimage import gaussian_filter

        rng = np.random.default_rng(seed)
        smooth = gaussian_filter(rng.normal(size=shape), 1.5)
        image = 200 * smooth / smooth.std() + 300 * (smooth > smooth.mean()) + rng.normal(0, 8, shape)
        return image.round().astype(np.int16)

    return make


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., None]:
    """Write a series, one CT slice a file, of a volume (columns, rows, slices) and its RAS affine.

    `change(k, dataset)` edits the k-th slice before it is written; returning False leaves it out.
    """

    def write(
        folder: Path,
        volume: np.ndarray,
        affine: np.ndarray,
        change: Callable[[int, Any], Any] = lambda k, dataset: None,
    ) -> None:
        import pydicom

        folder.mkdir(parents=True, exist_ok=True)
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        offset = -1024
        for k in range(volume.shape[2]):
            image = pydicom.Dataset()
            image.SOPClassUID = pydicom.uid.CTImageStorage
            image.SOPInstanceUID = f"1.2.3.4.{k + 1}"
            image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", "1.2.3.4"
            image.Modality, image.SeriesDescription = "CT", "phantom"
            image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
            image.Columns, image.Rows = volume.shape[:2]
            image.BitsAllocated = image.BitsStored = 16
            image.HighBit, image.PixelRepresentation = 15, 0
            image.RescaleIntercept, image.RescaleSlope = offset, 1
            image.PixelSpacing = [f"{spacing[1]:.9g}", f"{spacing[0]:.9g}"]
            image.SliceThickness = f"{spacing[2]:.9g}"
            image.ImageOrientationPatient = [f"{v:.12f}" for v in (lps[:3, :2] / spacing[:2]).T.ravel()]
            image.ImagePositionPatient = [f"{v:.9f}" for v in lps[:3, 3] + k * lps[:3, 2]]
            image.PixelData = (volume[:, :, k].T.astype(int) - offset).astype("<u2").tobytes()
            image.file_meta = pydicom.dataset.FileMetaDataset()
            image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            if change(k, image) is not False:
                pydicom.dcmwrite(folder / f"{k:03d}.dcm", image, enforce_file_format=True)

    return write


@pytest.fixture(scope="session")
def write_enhanced() -> Callable[..., Any]:
    """Write a volume (columns, rows, slices) of int16 and its RAS affine as one enhanced multi-frame MR image.

    `order` says which slice each frame shows; `change(dataset)` edits the image before it is written. Returns it.
    """

    def item(**tags: Any) -> list[Any]:
        import pydicom

        dataset = pydicom.Dataset()
        for name, value in tags.items():
            setattr(dataset, name, value)
        return [dataset]

    def write(
        path: Path,
        volume: np.ndarray,
        affine: np.ndarray,
        change: Callable[[Any], Any] = lambda image: None,
        order: list[int] | None = None,
    ) -> Any:
        import pydicom

        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        frames = list(range(volume.shape[2])) if order is None else order
        image = pydicom.Dataset()
        image.SOPClassUID, image.SOPInstanceUID = pydicom.uid.EnhancedMRImageStorage, "1.2.3.5.1"
        image.StudyInstanceUID, image.SeriesInstanceUID, image.SeriesNumber = "1.2.3", "1.2.3.5", 5
        image.FrameOfReferenceUID = "1.2.3.6"
        image.Modality, image.SeriesDescription, image.PatientID = "MR", "enhanced phantom", "P1"
        image.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Columns, image.Rows = volume.shape[:2]
        image.NumberOfFrames = len(frames)
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 1
        measures = item(
            PixelSpacing=[f"{spacing[1]:.9g}", f"{spacing[0]:.9g}"],
            SliceThickness=f"{spacing[2]:.9g}",
            SpacingBetweenSlices=f"{spacing[2]:.9g}",
        )
        cosines = [f"{v:.12f}" for v in (lps[:3, :2] / spacing[:2]).T.ravel()]
        image.SharedFunctionalGroupsSequence = item(
            PixelMeasuresSequence=measures,
            PlaneOrientationSequence=item(ImageOrientationPatient=cosines),
            PixelValueTransformationSequence=item(RescaleIntercept=0, RescaleSlope=1, RescaleType="US"),
            MRImageFrameTypeSequence=item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]),
        )
        image.PerFrameFunctionalGroupsSequence = [
            item(
                FrameContentSequence=item(StackID="1", InStackPositionNumber=k + 1, TemporalPositionIndex=1),
                PlanePositionSequence=item(ImagePositionPatient=[f"{v:.9f}" for v in lps[:3, 3] + k * lps[:3, 2]]),
            )[0]
            for k in frames
        ]
        image.PixelData = b"".join(volume[:, :, k].T.astype("<i2").tobytes() for k in frames)
        image["PixelData"].VR = "OW"
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        change(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        pydicom.dcmwrite(path, image, enforce_file_format=True)
        return image

    return write


@dataclass(frozen=True)
class Finished:
    """What a command left: exit status and both streams."""

    status: int
    out: str
    err: str


@contextmanager
def _as_a_program(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> Iterator[None]:
    """Command line, exception hook and log handlers as a new process would have them."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        patch.setattr(sys, "excepthook", sys.__excepthook__)
        root.handlers[:] = []
        try:
            yield
        finally:
            root.handlers[:], root.level = handlers, level


def _run_as_a_program(call: Callable[[], int | None]) -> Finished:
    """Run a function as the main program: what it prints, and how the interpreter would leave."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            status = call() or 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
            if isinstance(leaving.code, str):
                print(leaving.code, file=sys.stderr)
        except Exception as error:
            status = 1
            sys.excepthook(type(error), error, error.__traceback__)
    return Finished(status, out.getvalue(), err.getvalue())


@pytest.fixture
def monai_bundle(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """Call ``python -m monai.bundle COMMAND --key value ...`` without the seconds of a new process."""

    def call(command: str, **options: Any) -> Finished:
        words = [text for key, value in options.items() for text in (f"--{key}", str(value))]
        with _as_a_program(monkeypatch, ["monai.bundle", command, *words]):
            return _run_as_a_program(lambda: runpy.run_module("monai.bundle", run_name="__main__") and None)

    return call


@pytest.fixture
def medsr_command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """Call ``medsr ARGUMENTS ...`` without a new process."""

    def call(*arguments: object) -> Finished:
        from medsr.cli import main

        words = [str(argument) for argument in arguments]
        with _as_a_program(monkeypatch, ["medsr", *words]):
            return _run_as_a_program(lambda: main(words))

    return call


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped configs around a network of two layers and random weights: a bundle that costs nothing to run."""
    import torch

    from medsr.networks import create

    source = REPOSITORY / "bundles" / "recnn3d" / "configs"
    root = tmp_path_factory.mktemp("bundles") / "tinysr"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    network = {"name": "ReCNN", "depth": 2, "features": 2}
    for name in ("inference.json", "metadata.json", "logging.conf"):
        text = (source / name).read_text()
        if name == "inference.json":
            content = {**json.loads(text), "network_def": {"_target_": "medsr.networks.create", **network}}
            text = json.dumps(content, indent=4)
        (root / "configs" / name).write_text(text.replace('"name": "recnn3d"', '"name": "tinysr"'))
    torch.manual_seed(0)
    torch.save(create(**network).state_dict(), root / "models" / "model.pt")
    return root
