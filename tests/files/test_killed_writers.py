"""At every door that writes: what a process that was killed in the middle of it left is gone after the next run."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from torch import nn

from medsr.cli import main
from medsr.datasets.datalists import write_datalist
from medsr.datasets.manifest_files import load_manifest
from medsr.engines import Checkpoints
from medsr.files.leftovers import hidden_name
from medsr.metrics import CaseReport
from medsr.weights import EXTERNAL

NAME = "vgg19-imagenet"


def weights_import(folder: Path) -> None:
    source = folder / "download.pth"
    if not source.exists():
        torch.save(nn.Linear(3, 2).state_dict(), source)
    content = source.read_bytes()
    small = dataclasses.replace(EXTERNAL[NAME], size=len(content), sha256=hashlib.sha256(content).hexdigest())
    with (
        mock.patch.dict(EXTERNAL, {NAME: small}),
        mock.patch.dict(os.environ, {"MEDSR_WEIGHTS": str(folder / "models")}),
    ):
        assert main(["weights", "import", str(source)]) == 0


def weights_record(folder: Path) -> None:
    (folder / "models").mkdir(exist_ok=True)
    torch.save(nn.Linear(3, 2).state_dict(), folder / "models" / "model.pt")
    assert main(["weights", "record", str(folder / "models")]) == 0


def training(folder: Path) -> None:
    engine = Engine(lambda engine, batch: None)
    Checkpoints(str(folder / "models"), {"network": nn.Linear(3, 2)}).attach(engine)
    engine.run([0], max_epochs=1)


def evaluation(folder: Path) -> None:
    image = torch.rand(1, 16, 16, 16)
    engine = Engine(lambda engine, batch: [{"pred": image, "label": image}])
    CaseReport(folder / "models", quiet=True).attach(engine)
    engine.run([[{}]], max_epochs=1)


def datalist(folder: Path) -> None:
    item = {"image": "a.nii.gz", "label": "a.nii.gz", "subject": "a", "case": "a", "modality": "T1w"}
    write_datalist(load_manifest("msd_hippocampus"), {"training": [item]}, folder / "models" / "datalist.json")


def upscaling(folder: Path) -> None:
    image = folder / "image.nii.gz"
    if not image.exists():
        nib.save(nib.Nifti1Image(np.random.default_rng(0).random((12, 12, 12), np.float32), np.eye(4)), image)
    assert main(["upscale", str(image), "-o", str(folder / "models"), "--scale", "2", "--no-preview"]) == 0


DOORS: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights import": (weights_import, EXTERNAL[NAME].file),
    "weights record": (weights_record, "SHA256SUMS"),
    "training": (training, "model.pt"),
    "evaluation": (evaluation, "metrics.csv"),
    "datalist": (datalist, "datalist.json"),
    "upscaling": (upscaling, "image_sr.nii.gz"),
}


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The number of another process, which lives."""
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_next_run_removes_what_a_killed_one_left(door: str, tmp_path: Path, sleeper: int) -> None:
    run, result = DOORS[door]
    folder = tmp_path / "models"
    killed = subprocess.Popen([sys.executable, __file__, door, str(tmp_path)], stderr=subprocess.PIPE)
    told = killed.communicate(timeout=300)[1].decode()
    assert killed.returncode == -signal.SIGKILL, told
    left = [path for path in folder.iterdir() if re.search(rf"-{killed.pid}-", path.name)]
    assert left, "it was killed while its temporary file was there"
    assert not (folder / result).exists()
    living = folder / hidden_name(".pt").replace(f"-{os.getpid()}-", f"-{sleeper}-")
    living.write_text("half")

    run(tmp_path)
    assert (folder / result).is_file()
    assert [path for path in folder.iterdir() if path.name.startswith(".medsr")] == [living]
    assert living.read_text() == "half"


def _die(handle: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    os.fsync = _die  # what was written so far has a temporary name
    DOORS[sys.argv[1]][0](Path(sys.argv[2]))
