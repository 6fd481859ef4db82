"""The operators against a double of the SDK's documented interface; `test_monai_deploy_sdk.py` has the real one."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor

import medsr
from medsr.errors import GridError, InputError

SHAPE = (12, 10, 8)


class Operator:
    def __init__(self, fragment: Any, *args: Any, **kwargs: Any) -> None:
        self.ports: list[str] = []

    def input(self, name: str) -> Operator:
        self.ports.append(name)
        return self

    output = input

    def condition(self, kind: Any) -> None:
        assert kind == "none"


class Image:
    def __init__(self, data: Any, metadata: Any = None) -> None:
        self.data, self.meta = data, metadata

    def asnumpy(self) -> Any:
        return self.data

    def metadata(self) -> Any:
        return self.meta


class MonaiBundleInferenceOperator(Operator):
    """What the base class keeps, and calls of the methods that are overridden."""

    def __init__(self, fragment: Any, *args: Any, bundle_path: Path, input_mapping: Any, **kwargs: Any) -> None:
        super().__init__(fragment)
        self.bundle_path, self.inputs, self._inferer = bundle_path, input_mapping, types.SimpleNamespace(scale=9)

    def _init_config(self, names: Any) -> None:
        self.names = names

    def pre_process(self, data: Any) -> Any:
        return data


class Port:
    """Both contexts of a call."""

    def __init__(self, **inputs: Any) -> None:
        self.inputs, self.sent = inputs, {}

    def receive(self, name: str) -> Any:
        return self.inputs[name]

    def emit(self, value: Any, name: str) -> None:
        self.sent[name] = value


@pytest.fixture
def operators(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`medsr.deploy.operators`, imported with doubles in the places of the SDK's modules."""
    core: Any = types.ModuleType("monai.deploy.core")
    core.Operator, core.Image, core.Fragment, core.OperatorSpec = Operator, Image, object, Operator
    core.ConditionType, core.IOType = types.SimpleNamespace(NONE="none"), types.SimpleNamespace(IN_MEMORY="memory")
    base: Any = types.ModuleType("monai.deploy.operators.monai_bundle_inference_operator")
    base.IOMapping, base.MonaiBundleInferenceOperator = (lambda *words: words), MonaiBundleInferenceOperator
    for module in (types.ModuleType("monai.deploy"), types.ModuleType("monai.deploy.operators"), core, base):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "medsr.deploy.operators", raising=False)
    yield importlib.import_module("medsr.deploy.operators")
    sys.modules.pop("medsr.deploy.operators", None)


def selection(*folders: Path) -> list[Any]:
    """A study with a selected series in each folder, as the SDK hands it on."""
    chosen = []
    for folder in folders:
        files = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
        sops = [types.SimpleNamespace(get_native_sop_instance=lambda file=file: file) for file in files]
        uid = files[0].SeriesInstanceUID
        series = types.SimpleNamespace(SeriesInstanceUID=uid, get_sop_instances=lambda sops=sops: sops)
        chosen.append(types.SimpleNamespace(series=series))
    return [types.SimpleNamespace(selected_series=chosen)]


def test_series_in_derived_series_out(
    operators: Any,
    tiny_bundle: Path,
    write_dicom: Callable[..., None],
    phantom: Callable[..., np.ndarray],
    oblique_affine: np.ndarray,
    tmp_path: Path,
) -> None:
    def second(k: int, image: Any) -> None:
        image.SeriesInstanceUID, image.SOPInstanceUID = "1.2.3.5", f"1.2.3.5.{k + 1}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID

    write_dicom(tmp_path / "study" / "a", phantom(SHAPE), oblique_affine)
    write_dicom(tmp_path / "study" / "b", phantom(SHAPE, 1), oblique_affine, second)
    settings = {"output_dir": str(tmp_path / "direct"), "output_ext": "dicom", "output_postfix": "", "preview": False}
    uid = "1.2.3.5"
    medsr.upscaling.Upscaler(tiny_bundle, scale=2, series=uid, **settings).save(tmp_path / "study", "x")

    operator = operators.SuperResolutionSeriesOperator(
        None, output_folder=tmp_path / "out", bundle=tiny_bundle, scale=2
    )
    operator.setup(operator)
    assert operator.ports == ["study_selected_series_list", "series_folders"]
    port = Port(study_selected_series_list=selection(tmp_path / "study" / "a", tmp_path / "study" / "b"))
    operator.compute(port, port, None)
    assert port.sent["series_folders"] == [tmp_path / "out" / "sr-1", tmp_path / "out" / "sr-2"]
    records = [json.loads((tmp_path / "out" / f"sr-{k}.json").read_text()) for k in (1, 2)]
    assert [record["dicom"]["source_series_uid"] for record in records] == ["1.2.3.4", uid]
    for path in (tmp_path / "direct" / "x").iterdir():
        direct, ours = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "out" / "sr-2" / path.name)
        for word in ("PixelData", "ImagePositionPatient", "PixelSpacing", "RescaleSlope", "SeriesInstanceUID"):
            assert direct[word].value == ours[word].value, word


def test_series_operator_refuses(operators: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    make = operators.SuperResolutionSeriesOperator
    with pytest.raises(GridError, match="give either a scale"):
        make(None, output_folder=tmp_path, bundle=tiny_bundle)
    with pytest.raises(InputError, match="no bundle is called"):
        make(None, output_folder=tmp_path, bundle="nonsense", scale=2)
    for settings, words in (({"ensembel": True}, "it has 'ensemble'"), ({"memory_mb": 0}, "memory_mb, got 0")):
        with pytest.raises(InputError, match=words):
            make(None, output_folder=tmp_path / "out", bundle=tiny_bundle, scale=2, settings=settings)
    with pytest.raises(GridError, match="must be positive, got 0"):
        make(None, output_folder=tmp_path / "out", bundle=tiny_bundle, scale=0)
    with pytest.raises(GridError, match="must be positive, got 0"):
        operators.SuperResolutionOperator(None, app_context=None, bundle=tiny_bundle, scale=0)
    assert not (tmp_path / "out").exists()
    operator = make(None, output_folder=tmp_path, bundle=tiny_bundle, scale=2)
    with pytest.raises(InputError, match="expected at least one selected series"):
        operator.compute(Port(study_selected_series_list=[]), None, None)
    in_memory = types.SimpleNamespace(get_native_sop_instance=pydicom.Dataset)
    series = types.SimpleNamespace(SeriesInstanceUID="1.2", get_sop_instances=lambda: [in_memory])
    study = types.SimpleNamespace(selected_series=[types.SimpleNamespace(series=series)])
    with pytest.raises(InputError, match="loaded from files"):
        operator.compute(Port(study_selected_series_list=[study]), None, None)


def test_image_keeps_its_floats_and_gets_the_sr_grid(
    operators: Any, tiny_bundle: Path, phantom: Callable[..., np.ndarray], oblique_affine: np.ndarray
) -> None:
    sr = medsr.upscale(nib.Nifti1Image(phantom(SHAPE), oblique_affine), tiny_bundle, scale=2)
    value = MetaTensor(torch.as_tensor(sr.get_fdata(dtype=np.float32))[None], affine=torch.as_tensor(sr.affine))
    operator = operators.SuperResolutionOperator(None, app_context=None, bundle=tiny_bundle, spacing=0.5)
    assert operator.bundle_path == tiny_bundle.resolve()
    operator._init_config(["inference"])
    assert (operator._inferer.scale, operator._inferer.spacing) == (None, 0.5)
    port = Port()
    given = {"modality": "MR", "nifti_affine_transform": oblique_affine, "affine": torch.eye(4)}
    operator._send_output(value, "pred", given, port, None)
    image = port.sent["pred"]
    assert image.asnumpy().dtype == np.float32
    np.testing.assert_array_equal(image.asnumpy().transpose(2, 1, 0), sr.get_fdata(dtype=np.float32))
    meta = image.metadata()
    assert meta["modality"] == "MR"
    for key in ("affine", "original_affine", "nifti_affine_transform"):
        np.testing.assert_array_equal(meta[key], sr.affine)
    np.testing.assert_allclose(
        meta["dicom_affine_transform"] @ [1, 2, 3, 1], (sr.affine @ [1, 2, 3, 1]) * [-1, -1, 1, 1]
    )
    pixels = [meta[f"{name}_pixel_spacing"] for name in ("row", "col", "depth")]
    np.testing.assert_allclose(pixels, np.linalg.norm(oblique_affine[:3, :3], axis=0) / 2)
    assert operator.pre_process({"image": torch.zeros(4, 3, 2, dtype=torch.int16)})["image"].shape == (1, 4, 3, 2)


def test_image_operator_checks_the_weights_that_the_sdk_will_load(
    operators: Any, tiny_bundle: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))

    def refused(words: str, **request: Any) -> None:
        with pytest.raises(InputError, match=words):
            operators.SuperResolutionOperator(None, app_context=None, bundle=root, **request)

    refused("got both", scale=2, spacing=1)
    (root / "models" / "model.ts").write_text("")
    refused("would be used instead")
    (root / "models" / "model.ts").unlink()
    (root / "models" / "SHA256SUMS").write_text(f"{'0' * 64}  model.pt\n")
    refused("SHA-256")
    (root / "models" / "model.pt").unlink()
    refused("is missing")
