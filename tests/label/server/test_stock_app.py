"""Every bundle in the `monaibundle` app that comes with MONAI Label, unchanged."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytestmark = [pytest.mark.server, pytest.mark.slow]

NAMES = ("plain.nii", "packed.nii.gz", "scalar.nrrd", "meta.mha")
IDS = ("plain", "packed", "scalar")  # the app lists no MetaImage; those go by path or upload
NIFTI_MM, EXACT_MM = 2e-5, 1e-6
UINT8 = {"result_dtype": "uint8", "result_extension": ".nrrd"}  # what 3D Slicer asks for


@pytest.fixture(scope="module")
def server(
    start_server: Callable[..., Any],
    label_python: str,
    environment: dict[str, str],
    bundle_roots: list[Path],
    images: Path,
    small_training: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("stock")
    words = ["apps", "--download", "--name", "monaibundle", "--output", str(folder)]
    subprocess.run([label_python, "-m", "monailabel.main", *words], check=True, env=environment, capture_output=True)
    for source in bundle_roots:
        copy = folder / "monaibundle" / "model" / source.name
        shutil.copytree(source, copy)
        config = copy / "configs" / "train.json"
        content = json.loads(config.read_text())
        content.update({key: value for key, value in small_training.items() if key in content})
        config.write_text(json.dumps(content))
    shutil.copytree(images, folder / "studies")
    models = ",".join(source.name for source in bundle_roots)
    conf = {"models": models, "zoo_source": "ngc", "sam2": "false"}
    with start_server(folder / "monaibundle", folder / "studies", folder / "log.txt", **conf) as started:
        yield started


@pytest.fixture
def check(
    root: Path,
    images: Path,
    direct: Callable[..., Any],
    read_image: Callable[..., Any],
    tmp_path: Path,
) -> Callable[..., None]:
    """An answer must hold the voxels and the grid that the bundle's own command gives."""

    def check_bytes(content: bytes, stem: str, suffix: str) -> None:
        file = tmp_path / f"answer{suffix}"
        file.write_bytes(content)
        array, affine = read_image(file)
        expected = direct(root, images)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected.array(stem))
        tolerance = NIFTI_MM if ".nii" in suffix else EXACT_MM
        np.testing.assert_allclose(affine, expected.affine(stem), atol=tolerance)

    return check_bytes


def test_info(server: Any, root: Path) -> None:
    info = server.get("/info/").json()
    assert root.name in info["models"]
    assert root.name in info["trainers"]
    assert info["datastore"]["total"] == len(IDS)


@pytest.mark.parametrize("name", NAMES)
def test_upload(server: Any, root: Path, images: Path, check: Callable[..., None], name: str) -> None:
    stem, _, suffix = name.partition(".")
    answer = server.infer(root.name, upload=images / name)
    assert answer.status_code == 200, answer.text
    check(answer.content, stem, f".{suffix}")


@pytest.mark.parametrize("stem", IDS)
def test_datastore_id(server: Any, root: Path, images: Path, check: Callable[..., None], stem: str) -> None:
    answer = server.infer(root.name, stem, result_extension=".nii.gz")
    assert answer.status_code == 200, answer.text
    check(answer.content, stem, ".nii.gz")


def test_client_that_asks_for_uint8(server: Any, root: Path, check: Callable[..., None]) -> None:
    """What 3D Slicer's module sends: the cast would wrap intensities around."""
    answer = server.infer(root.name, "packed", **UINT8)
    assert answer.status_code == 200, answer.text
    check(answer.content, "packed", ".nrrd")


def test_batch(server: Any, root: Path, check: Callable[..., None]) -> None:
    answer = server.batch(root.name, save_label=True, label_tag="original", logging="WARNING")
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == set(IDS)
    for stem, suffix in (("plain", ".nii"), ("packed", ".nii.gz"), ("scalar", ".nrrd")):
        label = server.get("/datastore/label", label=stem, tag="original")
        assert label.status_code == 200
        check(label.content, stem, suffix)


def test_bad_requests_do_not_stop_the_server(server: Any, root: Path, images: Path, tmp_path: Path) -> None:
    assert server.infer("no_such_model", "packed").status_code == 500
    corrupt = tmp_path / "corrupt.nii.gz"
    corrupt.write_bytes((images / "packed.nii.gz").read_bytes()[:400])
    answer = server.infer(root.name, upload=corrupt)
    assert answer.status_code == 500
    assert str(tmp_path) not in answer.text
    assert server.alive()


@pytest.fixture
def pair(server: Any, root: Path, images: Path, tmp_path: Path, write_hr: Callable[..., None]) -> None:
    """HR labels for two of the images, on the bundle's grid."""
    for stem, suffix in (("plain", ".nii"), ("packed", ".nii.gz")):
        file = tmp_path / f"{stem}.nii.gz"
        write_hr(root, images / f"{stem}{suffix}", file)
        assert server.put_label(stem, file).status_code == 200


@pytest.mark.usefixtures("pair")
@pytest.mark.parametrize("run_sync", [True, False], ids=["sync", "async"])
def test_training_leaves_the_shipped_weights(server: Any, root: Path, run_sync: bool) -> None:
    bundle = server.studies.parent / "monaibundle" / "model" / root.name
    shipped = hashlib.sha256((bundle / "models" / "model.pt").read_bytes()).digest()
    shutil.rmtree(bundle / "runs", ignore_errors=True)
    answer = server.train(root.name, run_sync)
    assert answer.status_code == 200, answer.text
    if not run_sync:
        done = server.finished("train")
        assert done["status"] == "DONE", done["details"]
    assert (bundle / "runs" / "model.pt").is_file()
    assert hashlib.sha256((bundle / "models" / "model.pt").read_bytes()).digest() == shipped
    assert server.alive()


@pytest.mark.usefixtures("pair")
def test_pair_that_cannot_be_trained_on_does_not_stop_the_server(server: Any, root: Path, images: Path) -> None:
    source = nib.load(images / "packed.nii.gz")
    affine = source.affine @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] += 500
    file = server.studies.parent / "moved.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((24, 28, 20), np.float32), affine), file)
    for stem in ("plain", "packed"):
        assert server.put_label(stem, file).status_code == 200
    shutil.rmtree(server.studies.parent / "monaibundle" / "model" / root.name / "runs", ignore_errors=True)
    assert server.train(root.name, True).status_code == 500
    assert server.alive()
