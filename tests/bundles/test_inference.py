"""Inference by the bundle's own command, against a computation that shares no code with medsr.

The result is computed anew with numpy (normalisation, affine), scipy (`ndimage.zoom(order=3, mode="nearest",
grid_mode=True)`) and torch convolutions from the state dict, in float64. `TOLERANCE` is relative to the intensity
window: float32 networks of ten layers differ from float64 by less than 1e-6 of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai.bundle import create_workflow, load
from monai.data import MetaTensor
from monai.transforms import SaveImaged

from medsr.inferers import SuperResolutionInferer

TOLERANCE = 1e-5
NIFTI_MM = 2e-5  # float32 sform
SHAPE = (12, 14, 10)
FORMATS = ("nifti", "nrrd", "metaimage", "dicom")


def relative_error(result: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(result.astype(np.float64) - expected).max() / np.ptp(expected))


def as_itk(volume: np.ndarray, affine: np.ndarray) -> Any:
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(volume.transpose(2, 1, 0))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


@pytest.fixture(scope="module")
def inputs(
    tmp_path_factory: pytest.TempPathFactory,
    phantom: Callable[..., np.ndarray],
    left_handed_affine: np.ndarray,
    write_dicom: Callable[..., None],
) -> tuple[Path, np.ndarray]:
    """A folder with one oblique left-handed volume in every format, and the volume."""
    folder, volume = tmp_path_factory.mktemp("inputs"), phantom(SHAPE)
    image = nib.Nifti1Image(volume, left_handed_affine)
    image.set_sform(left_handed_affine, 1)
    image.set_qform(left_handed_affine, 1)
    nib.save(image, folder / "nifti.nii.gz")
    for name in ("nrrd.nrrd", "metaimage.mha"):
        sitk.WriteImage(as_itk(volume, left_handed_affine), str(folder / name))
    write_dicom(folder / "dicom", volume, left_handed_affine)
    return folder, volume


@pytest.fixture(scope="module")
def outputs(bundle: Any, inputs: tuple[Path, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process, started elsewhere, makes of the folder."""
    elsewhere, results = tmp_path_factory.mktemp("elsewhere"), tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "monai.bundle", "run"]
    options = {
        "config_file": bundle.root / "configs" / "inference.json",
        "bundle_root": bundle.root,
        "dataset_dir": inputs[0],
        "output_dir": results,
        "scale": f"{bundle.scale:g}",
    }
    command += [text for key, value in options.items() for text in (f"--{key}", str(value))]
    # the package is found where the tests found it, whether or not it is installed
    path = os.pathsep.join(p for p in (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")) if p)
    # the number of threads decides the order of sums
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "nvImageCodec" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not list(elsewhere.iterdir()), "nothing is written but where it was told"
    return results


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_by_an_independent_computation(
    bundle: Any,
    outputs: Path,
    inputs: tuple[Path, np.ndarray],
    left_handed_affine: np.ndarray,
    expected_affine: Callable[..., np.ndarray],
    expected_image: Callable[..., np.ndarray],
    read_image: Callable[..., Any],
    name: str,
) -> None:
    array, affine, dtype = read_image(outputs / f"{name}_sr.nii.gz")
    volume, lr_affine = inputs[1], left_handed_affine
    if name == "dicom":  # slices of a series are sorted along row x column, which makes it right-handed
        volume, lr_affine = volume[:, :, ::-1], lr_affine.copy()
        lr_affine[:3, 3] += (SHAPE[2] - 1) * lr_affine[:3, 2]
        lr_affine[:3, 2] *= -1
    scale = bundle.possible((bundle.scale,) * 3, lr_affine)
    assert dtype == np.float32
    assert array.shape == tuple(round(n * s) for n, s in zip(SHAPE, scale, strict=True))
    np.testing.assert_allclose(affine, expected_affine(lr_affine, scale), atol=NIFTI_MM)
    assert np.linalg.det(affine[:3, :3]) * np.linalg.det(lr_affine[:3, :3]) > 0
    assert array.min() < 0, "negative intensities are kept"
    record = json.loads((outputs / f"{name}_sr.json").read_text())
    assert relative_error(array, expected_image(volume, lr_affine, scale, record)) < TOLERANCE


def test_files_of_a_case(bundle: Any, outputs: Path) -> None:
    suffixes = (".nii.gz", ".json", ".png")
    assert {p.name for p in outputs.iterdir()} == {f"{name}_sr{suffix}" for name in FORMATS for suffix in suffixes}
    record = json.loads((outputs / "nifti_sr.json").read_text())
    assert record["method"]["bundle"] == bundle.name
    assert record["sr_grid"]["shape"] == list(nib.load(outputs / "nifti_sr.nii.gz").shape)


def run_inference(bundle: Any, monai_bundle: Callable[..., Any], folder: Path, output: Path, **options: Any) -> None:
    done = monai_bundle(
        "run",
        config_file=bundle.root / "configs" / "inference.json",
        bundle_root=bundle.root,
        dataset_dir=folder,
        output_dir=output,
        preview=False,
        **options,
    )
    assert done.status == 0, done.err


# spacing of the input (mm), scale per array axis, how it is asked for, extension of the result
REQUESTS = {
    "thick-slices": ((1.0, 5.0, 1.0), (1.0, 5.0, 1.0), "spacing", ".nii.gz"),
    "real-valued-spacing": ((0.9, 1.2, 4.0), (1.2, 1.6, 2.5), "spacing", ".nrrd"),
    "one-number": ((1.1, 0.8, 2.0), (1.5, 1.5, 1.5), "number", ".mha"),
    "mixed-scales": ((1.0, 1.0, 3.0), (1.0, 1.5, 2.5), "scale", ".nii"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_real_valued_requests(
    bundle: Any,
    monai_bundle: Callable[..., Any],
    phantom: Callable[..., np.ndarray],
    left_handed_affine: np.ndarray,
    expected_affine: Callable[..., np.ndarray],
    expected_image: Callable[..., np.ndarray],
    read_image: Callable[..., Any],
    tmp_path: Path,
    name: str,
) -> None:
    if bundle.is_fixed:
        pytest.skip(f"{bundle.name} enlarges by {bundle.scale:g} only")
    spacing, wanted, asked_by, extension = REQUESTS[name]
    affine = left_handed_affine.copy()
    affine[:3, :3] *= np.array(spacing) / np.linalg.norm(affine[:3, :3], axis=0)
    shape = (10, 10, 8)  # n * s is an integer on every axis
    scale = bundle.possible(wanted, affine)
    request = {
        "spacing": {"spacing": str([d / s for d, s in zip(spacing, scale, strict=True)])},
        "number": {"scale": wanted[0]},
        "scale": {"scale": str(list(scale))},
    }[asked_by]
    volume = phantom(shape)
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(volume, affine), tmp_path / "in" / "case.nii.gz")
    run_inference(bundle, monai_bundle, tmp_path / "in", tmp_path / "out", output_ext=extension, **request)
    array, result_affine, dtype = read_image(tmp_path / "out" / f"case_sr{extension}")
    assert dtype == np.float32
    assert array.shape == tuple(round(n * s) for n, s in zip(shape, scale, strict=True))
    np.testing.assert_allclose(result_affine, expected_affine(affine, scale), atol=NIFTI_MM)
    record = json.loads((tmp_path / "out" / "case_sr.json").read_text())
    assert relative_error(array, expected_image(volume, affine, scale, record)) < TOLERANCE


def edges(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """World coordinates of the corners of the field of view: half a voxel beyond the outer centres."""
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
    corners[:, :3] = corners[:, :3] * np.array(shape) - 0.5
    return (corners @ affine.T)[:, :3]


SCALES = (1, 1.1, 1.5, 2, 2.3, 2.7, 3, 4, (1, 2.3, 1.5), (2.7, 1, 4))


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_field_of_view_is_that_of_the_grid_rule(
    bundle: Any,
    monai_bundle: Callable[..., Any],
    phantom: Callable[..., np.ndarray],
    left_handed_affine: np.ndarray,
    tmp_path: Path,
    scale: Any,
) -> None:
    """The first edge is kept; the last lies at round(n * s) / s input voxels (the size is rounded, the scale not)."""
    if bundle.is_fixed and scale != bundle.scale:
        pytest.skip(f"{bundle.name} enlarges by {bundle.scale:g} only")
    shape = (7, 6, 5)
    requested = bundle.possible(scale if isinstance(scale, tuple) else (scale,) * 3, left_handed_affine)
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(phantom(shape), left_handed_affine), tmp_path / "in" / "case.nii.gz")
    stored = nib.load(tmp_path / "in" / "case.nii.gz").affine  # float32, as the program sees it
    text = str(list(requested)) if isinstance(scale, tuple) else f"{scale:g}"
    run_inference(bundle, monai_bundle, tmp_path / "in", tmp_path / "out", scale=text)

    made = tuple(round(n * s) for n, s in zip(shape, requested, strict=True))  # halves to even
    by_rule = stored.astype(np.float64).copy()
    for axis, s in enumerate(requested):
        by_rule[:3, axis] = stored[:3, axis] / s
        by_rule[:3, 3] -= stored[:3, axis] * (1 - 1 / s) / 2
    lr_edges, rule_edges = edges(stored, shape), edges(by_rule, made)
    np.testing.assert_allclose(rule_edges[0], lr_edges[0], atol=1e-12)  # all low: the first edges coincide

    grid = json.loads((tmp_path / "out" / "case_sr.json").read_text())["sr_grid"]
    assert tuple(grid["shape"]) == made
    # a scale of two digits is held as that fraction, so memory follows the rule to float64 rounding
    np.testing.assert_allclose(edges(np.array(grid["affine"]), made), rule_edges, atol=1e-6)
    image = nib.load(tmp_path / "out" / "case_sr.nii.gz")
    assert image.shape == made
    np.testing.assert_allclose(edges(image.affine, made), rule_edges, atol=NIFTI_MM)


def test_config_file_alone_says_where_the_bundle_is(
    bundle: Any,
    monai_bundle: Callable[..., Any],
    inputs: tuple[Path, np.ndarray],
    outputs: Path,
    read_image: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = monai_bundle(
        "run",
        config_file=bundle.root / "configs" / "inference.json",
        dataset_dir=inputs[0] / "nifti.nii.gz",
        output_dir="out",
        scale=f"{bundle.scale:g}",
    )
    assert done.status == 0, done.err
    array, _, _ = read_image(tmp_path / "out" / "nifti_sr.nii.gz")
    np.testing.assert_array_equal(array, read_image(outputs / "nifti_sr.nii.gz")[0])


def test_monai_bundle_load_from_anywhere(bundle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, bundle.root):
        monkeypatch.chdir(folder)
        network = load(bundle.name, bundle_dir=str(bundle.root.parent), workflow_type="inference")
        assert isinstance(network, torch.nn.Module)
        for key, value in network.state_dict().items():
            assert torch.equal(value.cpu(), bundle.weights[key])


@pytest.mark.parametrize("kind", ["inference", "train"])
def test_workflow_has_the_properties_monai_asks_for(bundle: Any, kind: str, dataset: Path, tmp_path: Path) -> None:
    workflow = create_workflow(
        config_file=str(bundle.root / "configs" / f"{kind}.json"),
        workflow_type=kind,
        bundle_root=str(bundle.root),
        dataset_dir=str(dataset),
        output_dir=str(tmp_path),
        logging_file=False,
    )
    assert workflow.check_properties() == []


def test_workflow_runs_in_python(
    bundle: Any, inputs: tuple[Path, np.ndarray], outputs: Path, tmp_path: Path, read_image: Callable[..., Any]
) -> None:
    workflow = create_workflow(
        config_file=str(bundle.root / "configs" / "inference.json"),
        workflow_type="inference",
        bundle_root=str(bundle.root),
        dataset_dir=str(inputs[0] / "nifti.nii.gz"),
        output_dir=str(tmp_path),
        scale=bundle.scale,
        logging_file=False,
    )
    workflow.run()
    workflow.finalize()
    array, affine, _ = read_image(tmp_path / "nifti_sr.nii.gz")
    reference, reference_affine, _ = read_image(outputs / "nifti_sr.nii.gz")
    np.testing.assert_array_equal(array, reference)
    np.testing.assert_array_equal(affine, reference_affine)


def test_hosts_that_save_by_themselves_get_the_sr_image(
    bundle: Any, inputs: tuple[Path, np.ndarray], outputs: Path, read_image: Callable[..., Any]
) -> None:
    """As MONAI Label does it: parts of the config, no `initialize`, SaveImaged removed, LoadImaged not image_only."""
    parser = bundle.parser(scale=bundle.scale)
    preprocessing, inferer, postprocessing = (
        parser.get_parsed_content(key) for key in ("preprocessing", "inferer", "postprocessing")
    )
    preprocessing.transforms[0].image_only = False
    data = {"image": str(inputs[0] / "nifti.nii.gz"), "result_dtype": "uint8"}
    data = preprocessing(data)
    data["pred"] = inferer(data["image"][None], bundle.network())[0]
    savers = [t for t in postprocessing.transforms if isinstance(t, SaveImaged)]
    assert len(savers) == 1
    for transform in postprocessing.transforms:
        if transform not in savers:
            data = transform(data)
    array, affine, _ = read_image(outputs / "nifti_sr.nii.gz")
    assert isinstance(data["pred"], MetaTensor)
    np.testing.assert_array_equal(data["pred"].numpy()[0], array)
    # what MONAI Label's `Restored` resamples to, and the affine it writes
    for meta in (data["image"].meta, data["pred"].meta):
        assert tuple(int(n) for n in meta["spatial_shape"]) == array.shape
        np.testing.assert_allclose(meta["original_affine"], affine, atol=NIFTI_MM)
    assert "result_dtype" not in data, "3D Slicer's uint8 would wrap intensities around"


def without_a_last_layer(state: dict[str, torch.Tensor], path: Path) -> None:
    torch.save(dict(list(state.items())[:-1]), path)


# what is done to models/model.pt of a copy, whether its hash stays recorded, what the line says
UNUSABLE: dict[str, tuple[Callable[[dict[str, torch.Tensor], Path], object], bool, str]] = {
    "missing": (lambda state, path: path.unlink(), True, "is missing; train the bundle"),
    "changed": (without_a_last_layer, True, "SHA-256"),
    "misfitting": (without_a_last_layer, False, "missing"),
    "corrupt": (lambda state, path: path.write_bytes(path.read_bytes()[:500]), False, "is not a file of weights"),
}


@pytest.mark.parametrize("config", ["inference", "evaluate"])
@pytest.mark.parametrize("fault", UNUSABLE)
def test_unusable_weights_are_one_line(
    bundle: Any, monai_bundle: Callable[..., Any], dataset: Path, tmp_path: Path, fault: str, config: str
) -> None:
    """Never an untrained network's picture with exit status 0, and no traceback."""
    damage, recorded, words = UNUSABLE[fault]
    root = shutil.copytree(bundle.root, tmp_path / bundle.name)
    damage(bundle.weights, root / "models" / "model.pt")
    if not recorded:
        (root / "models" / "SHA256SUMS").unlink()
    done = monai_bundle(
        "run",
        config_file=root / "configs" / f"{config}.json",
        dataset_dir=dataset / "test_0.nii.gz" if config == "inference" else dataset,
        output_dir=tmp_path / "out",
        device="cpu",
    )
    assert done.status == 1
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("medsr: error: ")
    assert words in last
    assert "model.pt" in last
    assert "Traceback" not in done.err
    assert not list((tmp_path / "out").rglob("*"))


def test_weights_of_ones_own(
    bundle: Any, monai_bundle: Callable[..., Any], dataset: Path, read_image: Callable[..., Any], tmp_path: Path
) -> None:
    """Weights that nobody recorded are used, and the record says which they were."""
    torch.save({key: torch.zeros_like(value) for key, value in bundle.weights.items()}, tmp_path / "mine.pt")
    image = dataset / "test_0.nii.gz"
    results = {}
    for name, options in (("shipped", {}), ("own", {"weights": tmp_path / "mine.pt"})):
        request = {"scale": f"{bundle.scale:g}", "device": "cpu", **options}
        run_inference(bundle, monai_bundle, image, tmp_path / name, **request)
        results[name] = read_image(tmp_path / name / "test_0_sr.nii.gz")[0]
        method = json.loads((tmp_path / name / "test_0_sr.json").read_text())["method"]
        path = options.get("weights", bundle.root / "models" / "model.pt")
        assert method["weights"] == path.name
        assert method["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert method["weights_recorded"] is (name == "shipped")
    assert not np.array_equal(results["own"], results["shipped"])


@pytest.mark.parametrize("kind", ["modality", "format"])
def test_dicom_output_is_refused_before_the_network_runs(
    bundle: Any,
    monai_bundle: Callable[..., Any],
    inputs: tuple[Path, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    given = inputs[0] / "nifti.nii.gz"
    if kind == "modality":
        given = Path(shutil.copytree(inputs[0] / "dicom", tmp_path / "pet"))
        for path in given.iterdir():
            image = pydicom.dcmread(path)
            image.Modality, image.SOPClassUID = "PT", pydicom.uid.PositronEmissionTomographyImageStorage
            image.save_as(path)
    monkeypatch.setattr(SuperResolutionInferer, "__call__", lambda *a, **k: pytest.fail("the network ran"))
    config = bundle.root / "configs" / "inference.json"
    done = monai_bundle("run", config_file=config, dataset_dir=given, output_dir=tmp_path / "out", output_ext="dicom")
    assert done.status == 1
    last = done.err.strip().splitlines()[-1]
    words = "expected a source of modality MR or CT" if kind == "modality" else "expected a DICOM input to write DICOM"
    assert last.startswith(f"medsr: error: {given}: {words}")
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()
