"""A real PACS: Orthanc, from Debian's package. A series there and back, and by the bundle's own command."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medsr.data.readers import read_volume

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "recnn3d"
SHAPE = (12, 24, 20)


@pytest.fixture
def pacs(kit: Any, node: Any, tmp_path: Path) -> Iterator[Any]:
    """Orthanc and a node with the shipped bundle, each the other's destination."""
    requests = pytest.importorskip("requests")
    if kit.ORTHANC is None:
        pytest.skip("no Orthanc: `make dicom-tools` installs it")
    with kit.started_orthanc(tmp_path / "orthanc", node.port, requests.Session()) as orthanc:
        node.settings.update(bundle=str(BUNDLE), callers=[orthanc.title], destination=orthanc.destination)
        node.start()
        yield orthanc


def test_there_and_back_and_as_the_bundle_command(
    kit: Any,
    node: Any,
    pacs: Any,
    series: Callable[..., list[Path]],
    monai_bundle: Callable[..., Any],
    tmp_path: Path,
) -> None:
    files = series(1, shape=SHAPE)
    pacs.upload(files)
    assert pacs.session.post(f"{pacs.url}/modalities/node/echo", data="{}", timeout=20).ok
    assert pacs.store("node", pacs.series()["1.2.3.1.1"])["FailedInstancesCount"] == 0
    node.idle(1)
    assert not node.jobs("failed"), node.text()
    (uid,) = set(pacs.series()) - {"1.2.3.1.1"}
    back = pacs.fetch(pacs.series()[uid], tmp_path / "back")

    images = {}
    for extension in ("dicom", ".nii.gz"):
        done = monai_bundle(
            "run",
            config_file=BUNDLE / "configs" / "inference.json",
            bundle_root=BUNDLE,
            dataset_dir=files[0].parent,
            output_dir=tmp_path / "out",
            output_ext=extension,
            device="cpu",
            preview=False,
        )
        assert done.status == 0, done.err
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    for path in [*back.iterdir(), *folder.iterdir()]:
        image = pydicom.dcmread(path)
        images.setdefault(image.SOPInstanceUID, []).append(image)
    assert len(images) == 2 * SHAPE[2], "the same UIDs"
    for one, other in images.values():
        assert one.pixel_array.tobytes() == other.pixel_array.tobytes(), "stored integers"
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
            assert one.get(keyword) == other.get(keyword)

    stored, direct = read_volume(back), read_volume(folder)
    np.testing.assert_array_equal(stored.data, direct.data)
    np.testing.assert_array_equal(stored.affine, direct.affine)
    (nifti,) = (tmp_path / "out").glob("*.nii.gz")
    record = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    values = np.asarray(nib.load(nifti).dataobj)
    assert stored.data.shape == values.shape
    slope = float(next(iter(images.values()))[0].get("RescaleSlope", 1))
    assert np.abs(stored.data - values).max() <= 0.5001 * slope
    np.testing.assert_allclose(stored.affine, record["sr_grid"]["affine"], rtol=0, atol=1e-6)
    assert np.abs(values).max() > 100 * slope, "there is something in the image"

    # what the PACS got back it sends again with the rest of the study: nothing comes of it
    assert os.listdir(node.queue / "done")
    assert pacs.store("node", pacs.series()[uid])["FailedInstancesCount"] == 0
    node.idle(2)
    assert len(pacs.series()) == 2
