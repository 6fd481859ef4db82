"""The benchmark of trainings sees what the pipeline costs beside the steps."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from benchmarks import training_pipeline
from medsr.transforms import slice_pipelines

SMALL = ["slice_baselines", "--steps", "3", "--size", "32", "--threads", "1"]
SETTINGS = {
    "precision": '"float32"', "layout": '"contiguous"', "device": '"cpu"', "batch_size": "2", "patch_size": "16",
    "network_def": '{"_target_": "medsr.networks.registry.small", "name": "edsr", "scale": 4}',
}  # fmt: skip
ENTRIES = [word for key, value in SETTINGS.items() for word in ("--set", key, value)]


def figures(text: str) -> dict[str, float]:
    found = re.search(r"batch ([\d.]+) s, step ([\d.]+) s, bare step ([\d.]+) s; the training runs at (\d+)%", text)
    assert found, text
    names = ("batch", "step", "bare", "share")
    return dict(zip(names, map(float, found.groups()), strict=True))


@pytest.mark.parametrize("ahead", [False, True])
def test_a_slow_pipeline_is_seen(ahead: bool, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Half a second for each slice that is drawn, of which three steps need at least one."""
    normal = slice_pipelines.RandSliced.__call__

    def slow(self: Any, data: Any) -> Any:
        time.sleep(0.5)
        return normal(self, data)

    monkeypatch.setattr(slice_pipelines.RandSliced, "__call__", slow)
    entry = ["--set", "train#dataloader#ahead", "2"] if ahead else []
    assert training_pipeline.main([*SMALL, *ENTRIES, *entry]) == 1
    found = figures(capsys.readouterr().out)
    assert found["batch"] > 0.5 / 3
    assert 0 < found["bare"] < 0.5
    assert found["share"] == pytest.approx(100 * found["bare"] / (found["batch"] + found["step"]), abs=1.5)


def test_one_step_is_too_few(capsys: Any) -> None:
    assert training_pipeline.main(["recnn3d", "--steps", "1"]) == 2
    assert "at least 2" in capsys.readouterr().err
