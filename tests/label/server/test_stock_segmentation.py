"""The segmentation bundle in MONAI Label's stock app: labels as its own command gives them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

BUNDLE = Path(__file__).resolve().parents[3] / "bundles" / "segmentation_unet"

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_labels_are_those_of_the_command(
    start_server: Callable[..., Any], label_python: str, environment: dict[str, str], images: Path, tmp_path: Path
) -> None:
    words = ["apps", "--download", "--name", "monaibundle", "--output", str(tmp_path)]
    subprocess.run([label_python, "-m", "monailabel.main", *words], check=True, env=environment, capture_output=True)
    app = tmp_path / "monaibundle"
    shutil.copytree(BUNDLE, app / "model" / BUNDLE.name)
    shutil.copytree(images, tmp_path / "studies")
    config = str(BUNDLE / "configs" / "inference.json")
    options = [
        "--config_file",
        config,
        "--dataset_dir",
        str(images / "packed.nii.gz"),
        "--output_dir",
        str(tmp_path / "direct"),
    ]
    command = [label_python, "-m", "monai.bundle", "run", *options, "--device", "cpu"]
    subprocess.run(command, check=True, env=environment, capture_output=True, cwd=BUNDLE.parents[1])
    expected = nib.load(tmp_path / "direct" / "packed_seg.nii.gz")
    conf = {"models": BUNDLE.name, "zoo_source": "ngc", "sam2": "false"}
    with start_server(app, tmp_path / "studies", tmp_path / "log.txt", **conf) as server:
        assert BUNDLE.name in server.get("/info/").json()["models"]
        answer = server.infer(BUNDLE.name, upload=images / "packed.nii.gz", device="cpu")
        assert answer.status_code == 200, answer.text + json.dumps(server.log.read_text()[-2000:])
        (tmp_path / "answer.nii.gz").write_bytes(answer.content)
        labels = nib.load(tmp_path / "answer.nii.gz")
        np.testing.assert_array_equal(np.asarray(labels.dataobj), np.asarray(expected.dataobj))
        np.testing.assert_allclose(labels.affine, expected.affine, atol=2e-5)
        assert server.alive()
