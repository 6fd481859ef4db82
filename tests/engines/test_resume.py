"""A run that was stopped and continued ends where a straight one ends; files are what users copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from medsr.engines import time_budget

Workflow = Callable[..., ConfigWorkflow]

NOISY = {"name": "noisy", "steps": [{"name": "gaussian-blur"}, {"name": "gaussian-noise", "sigma": 0.01}]}


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of nested dictionaries and lists by their path."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{prefix}/{key}").items()}
    if isinstance(value, (list, tuple)):
        return {k: v for i, item in enumerate(value) for k, v in flat(item, f"{prefix}/{i}").items()}
    return {prefix: value}


def assert_equal(a: Any, b: Any) -> None:
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert torch.equal(value, b[key]) if isinstance(value, torch.Tensor) else value == b[key], key


def stop_after(workflow: ConfigWorkflow, epoch: int) -> ConfigWorkflow:
    workflow.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=epoch), lambda engine: engine.terminate())
    return workflow


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_resumed_run_equals_straight_run(tmp_path: Path, workflow: Workflow, num_workers: int) -> None:
    settings = {"max_epochs": 4, "degradation": NOISY, "train__dataloader__num_workers": num_workers}
    workflow(tmp_path / "straight", **settings).run()
    stop_after(workflow(tmp_path / "resumed", **settings), 2).run()
    assert load(tmp_path / "resumed" / "checkpoint_epoch=2.pt")["trainer"]["iteration"] == 6
    workflow(tmp_path / "resumed", **settings).run()

    straight, resumed = (load(tmp_path / run / "checkpoint_epoch=4.pt") for run in ("straight", "resumed"))
    assert {"network", "optimizer", "scheduler", "choice", "trainer", "best"} == set(straight)
    assert_equal(straight, resumed)  # weights, moments, learning rate, step: no difference at all
    for name in ("model.pt", "best.pt"):
        assert_equal(load(tmp_path / "straight" / name), load(tmp_path / "resumed" / name))
    first = load(tmp_path / "straight" / "checkpoint_epoch=3.pt")
    assert max(float((first["network"][k] - v).abs().max()) for k, v in straight["network"].items()) > 0


def test_files_of_a_run(tmp_path: Path, workflow: Workflow) -> None:
    workflow(tmp_path, max_epochs=3).run()
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names == {"checkpoint_epoch=2.pt", "checkpoint_epoch=3.pt", "model.pt", "model.json", "best.pt", "best.json"}
    state = load(tmp_path / "model.pt")
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert_equal(state, load(tmp_path / "checkpoint_epoch=3.pt")["network"])
    network = workflow(tmp_path / "other", max_epochs=1).network_def
    network.load_state_dict(load(tmp_path / "best.pt"), strict=True)


def test_finished_run_does_nothing_more(tmp_path: Path, workflow: Workflow) -> None:
    workflow(tmp_path, max_epochs=1).run()
    before = (tmp_path / "checkpoint_epoch=1.pt").stat().st_mtime_ns
    again = workflow(tmp_path, max_epochs=1)
    again.run()
    assert again.trainer.state.epoch == 1
    assert (tmp_path / "checkpoint_epoch=1.pt").stat().st_mtime_ns == before


def test_time_budget_leaves_a_checkpoint_to_continue_from(
    tmp_path: Path, workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"max_epochs": 4, "time_budget_minutes": 2.5}
    workflow(tmp_path / "straight", max_epochs=4).run()
    epochs = []
    for _ in range(2):
        stopped = workflow(tmp_path / "stopped", **settings)
        # The clock shows one minute for every epoch that was started.
        clock = {"minutes": 0}
        stopped.trainer.add_event_handler(
            Events.EPOCH_STARTED, lambda _, clock=clock: clock.update(minutes=clock["minutes"] + 1)
        )
        fake = SimpleNamespace(monotonic=lambda clock=clock: 60.0 * clock["minutes"])
        monkeypatch.setattr(time_budget, "time", fake)  # the module's name only: threads need the real one
        stopped.run()
        epochs.append(stopped.trainer.state.epoch)
    assert epochs == [2, 4]
    assert_equal(*(load(tmp_path / run / "checkpoint_epoch=4.pt") for run in ("straight", "stopped")))
