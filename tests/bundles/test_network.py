"""The network by MONAI's own checks, and what those do not look at; exports give the same numbers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

SCHEMA = Path(__file__).with_name("metadata_schema.json")
# Weights are compared by what they do to an image about [0, 1]; both sides compute in float32.
EXPORT_TOLERANCE = 1e-5


def configs(bundle: Any) -> dict[str, Any]:
    return {
        "meta_file": bundle.root / "configs" / "metadata.json",
        "config_file": bundle.root / "configs" / "inference.json",
        "bundle_root": bundle.root,
    }


def input_shape(bundle: Any, n: int = 1) -> tuple[int, ...]:
    image = bundle.metadata["network_data_format"]["inputs"]["image"]
    return (1, image["num_channels"], *bundle.patch(image["spatial_shape"], n))


def test_metadata_by_the_schema(any_bundle: Any, monai_bundle: Callable[..., Any], tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    shutil.copy(SCHEMA, schema)  # where the file is, nothing is downloaded
    done = monai_bundle("verify_metadata", meta_file=configs(any_bundle)["meta_file"], filepath=schema)
    assert done.status == 0, done.err


def test_net_in_out(any_bundle: Any, monai_bundle: Callable[..., Any]) -> None:
    for n in (1, 2):
        done = monai_bundle("verify_net_in_out", net_id="network_def", n=n, device="cpu", **configs(any_bundle))
        assert done.status == 0, done.err


@pytest.mark.parametrize("n", [1, 2])
def test_output_shape_is_what_the_metadata_says(any_bundle: Any, n: int) -> None:
    # verify_net_in_out looks at channels and dtype only
    output = any_bundle.metadata["network_data_format"]["outputs"]["pred"]
    with torch.no_grad():
        result = any_bundle.network()(torch.rand(input_shape(any_bundle, n)))
    assert tuple(result.shape) == (1, output["num_channels"], *any_bundle.patch(output["spatial_shape"], n))
    assert result.dtype == torch.float32


def test_sizes_and_scale_agree(any_bundle: Any) -> None:
    formats = any_bundle.metadata["network_data_format"]
    given = any_bundle.patch(formats["inputs"]["image"]["spatial_shape"], 1)
    made = any_bundle.patch(formats["outputs"]["pred"]["spatial_shape"], 1)
    ratio = tuple(b / a for a, b in zip(given, made, strict=True))
    network = any_bundle.parser().get_parsed_content("network_def")
    expected = network.scale if any_bundle.is_arbitrary else any_bundle.spec.scales or [1] * len(given)
    assert ratio == tuple(float(s) for s in expected)


def test_torchscript_export(any_bundle: Any, monai_bundle: Callable[..., Any], tmp_path: Path) -> None:
    if "not exportable to TorchScript" in (any_bundle.root / "docs" / "README.md").read_text():
        pytest.skip("the model card says that it cannot be exported")
    done = monai_bundle(
        "ckpt_export",
        net_id="network_def",
        filepath=tmp_path / "model.ts",
        ckpt_file=any_bundle.root / "models" / "model.pt",
        **configs(any_bundle),
    )
    assert done.status == 0, done.err
    exported = torch.jit.load(str(tmp_path / "model.ts"))
    network = any_bundle.network()
    shape = input_shape(any_bundle)
    for size in (shape, (1, shape[1], *(n + 3 + axis for axis, n in enumerate(shape[2:])))):
        image = torch.rand(size)
        with torch.no_grad():
            expected = network(image)
            assert (exported(image) - expected).abs().max() <= EXPORT_TOLERANCE * max(1.0, expected.abs().max())


@pytest.mark.slow
def test_onnx_export(any_bundle: Any, monai_bundle: Callable[..., Any], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if "not exportable to ONNX" in (any_bundle.root / "docs" / "README.md").read_text():
        pytest.skip("the model card says that it cannot be exported")
    shape = input_shape(any_bundle)
    axes = {
        name: {2 + k: letter for k, letter in enumerate(letters[: len(shape) - 2])}
        for name, letters in (("image", "dhw"), ("pred", "DHW"))
    }
    done = monai_bundle(
        "onnx_export",
        net_id="network_def",
        filepath=tmp_path / "model.onnx",
        ckpt_file=any_bundle.root / "models" / "model.pt",
        input_shape=list(shape),
        converter_kwargs={"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": axes},
        **configs(any_bundle),
    )
    assert done.status == 0, done.err
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    network = any_bundle.network()
    for size in (shape, (1, shape[1], *(n + 3 + axis for axis, n in enumerate(shape[2:])))):
        image = torch.rand(size)
        (result,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        with torch.no_grad():
            expected = network(image).numpy()
        np.testing.assert_allclose(result, expected, atol=EXPORT_TOLERANCE * max(1.0, np.abs(expected).max()))
