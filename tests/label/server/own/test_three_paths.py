"""One DICOM series by three paths: the bundle's command, MONAI Label by REST, and the DICOM node with Orthanc."""

from __future__ import annotations

import importlib.util
import io
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from medsr.data.readers import read_volume

pytestmark = [pytest.mark.server, pytest.mark.slow]

BUNDLE = "recnn3d"
SHAPE = (12, 24, 20)


@pytest.fixture(scope="module")
def kit() -> Any:
    """The other ends of a node, which the node's own tests use too."""
    pytest.importorskip("pynetdicom")
    pytest.importorskip("tenacity")
    name = "medsr_node_kit"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[3] / "node" / "kit.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="module")
def source(
    tmp_path_factory: pytest.TempPathFactory, phantom: Callable[..., np.ndarray], write_dicom: Callable[..., None]
) -> Path:
    """An oblique MR series whose values need a rescale slope."""

    def as_mr(k: int, image: Any) -> None:
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
        image.Modality, image.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M"]
        image.FrameOfReferenceUID, image.InstanceNumber, image.SeriesNumber = "1.2.3.9", k + 1, 4
        image.PatientName, image.PatientID = "Doe^Jane", "4711"
        image.RescaleSlope = "0.25"

    a = np.deg2rad(20)
    turned = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.diag([1.0, 1.1, 2.5])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned, [-12.5, 30.25, 7.0]
    folder = tmp_path_factory.mktemp("three") / "series"
    write_dicom(folder, phantom(SHAPE, seed=5), affine, as_mr)
    return folder


@pytest.fixture
def by_node(kit: Any, source: Path, tmp_path: Path, bundle_roots: list[Path]) -> Iterator[Path]:
    """From Orthanc to the node and back to Orthanc."""
    requests = pytest.importorskip("requests")
    if kit.ORTHANC is None:
        pytest.skip("no Orthanc: `make dicom-tools` installs it")
    nursery = kit.Nursery(tmp_path)
    settings = {"queue": str(tmp_path / "queue"), "bundle": str(bundle(bundle_roots)), "scale": 2, "device": "cpu"}
    node = kit.Node(nursery, tmp_path, {**settings, "callers": ["ORTHANC"], "quiet_seconds": 0.5})
    try:
        with kit.started_orthanc(tmp_path / "orthanc", node.port, requests.Session()) as orthanc:
            node.settings["destination"] = orthanc.destination
            node.start()
            orthanc.upload(sorted(source.iterdir()))
            (sent,) = orthanc.series().values()
            assert orthanc.store("node", sent)["FailedInstancesCount"] == 0
            node.idle(1)
            (back,) = set(orthanc.series().values()) - {sent}
            yield orthanc.fetch(back, tmp_path / "back")
            node.stop()
    finally:
        if node.pid is not None:
            node.kill()
        nursery.close()


def bundle(roots: list[Path]) -> Path:
    return next(root for root in roots if root.name == BUNDLE)


def images(folder: Path) -> list[Any]:
    return sorted(map(pydicom.dcmread, folder.glob("*.dcm")), key=lambda image: int(image.InstanceNumber))


def test_the_same_voxels(
    start_server: Callable[..., Any],
    medsr_app: Path,
    direct: Callable[..., Any],
    source: Path,
    by_node: Path,
    bundle_roots: list[Path],
    tmp_path: Path,
) -> None:
    root = bundle(bundle_roots)
    as_dicom = direct(root, source, output_ext="dicom", scale=[2, 2, 2])
    as_nifti = direct(root, source, scale=[2, 2, 2])
    folders = {"node": by_node, "command": as_dicom.folder / "series_sr", "label": tmp_path / "label"}
    (tmp_path / "studies").mkdir()
    with start_server(medsr_app, tmp_path / "studies", tmp_path / "label.txt", models=BUNDLE) as server:
        sent = io.BytesIO()
        with zipfile.ZipFile(sent, "w") as archive:
            for file in source.iterdir():
                archive.write(file, file.name)
        (tmp_path / "sent.zip").write_bytes(sent.getvalue())
        answer = server.infer(BUNDLE, upload=tmp_path / "sent.zip", scale=2, result_extension="dicom")
        assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        for name in archive.namelist():
            if name.endswith(".dcm"):
                folders["label"].mkdir(exist_ok=True)
                (folders["label"] / Path(name).name).write_bytes(archive.read(name))

    series = {name: images(folder) for name, folder in folders.items()}
    volumes = {name: read_volume(folder) for name, folder in folders.items()}
    assert len(series["command"]) == 2 * SHAPE[2]
    for name in ("node", "label"):
        for one, other in zip(series[name], series["command"], strict=True):
            assert one.PixelData == other.PixelData, f"stored integers, {name}"
            for keyword in ("RescaleSlope", "RescaleIntercept", "ImagePositionPatient", "ImageOrientationPatient"):
                assert one[keyword].value == other[keyword].value, f"{keyword}, {name}"
        np.testing.assert_array_equal(volumes[name].data, volumes["command"].data)
        np.testing.assert_array_equal(volumes[name].affine, volumes["command"].affine)
    slope = float(series["command"][0].RescaleSlope)
    values = as_nifti.array("series")
    assert np.ptp(values) > 1000 * slope, "there is something in the image"
    assert np.abs(volumes["command"].data - values).max() <= 0.5001 * slope
    np.testing.assert_allclose(volumes["command"].affine, as_nifti.affine("series"), rtol=0, atol=1e-6)
