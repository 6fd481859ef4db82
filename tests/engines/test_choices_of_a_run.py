"""Averaged weights, schedule, clipping, precision and layout together: a continued run equals a straight one.

The average is compared with its formula, computed from the weights after every step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.optimizers import WarmupCosineSchedule
from torch import nn

from medsr.bundle import Training, TrainingLoader, Validation, ValidationPSNR
from medsr.engines import GradientClipping, chosen
from medsr.engines.measured import Choice
from medsr.errors import InputError

Make = Callable[..., Any]


def items(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    images = [rng.random((1, 10, 12, 14), dtype=np.float32) for _ in range(count)]
    return [{"image": torch.from_numpy(image), "label": torch.from_numpy(image.copy() ** 2)} for image in images]


@pytest.fixture
def make() -> Make:
    def make(directory: Path, epochs: int = 4, **settings: Any) -> Training:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 1, 3, 1, 1))
        optimizer = torch.optim.Adam(network.parameters(), 1e-2)
        loader = TrainingLoader(Dataset(items(4), transform=None), batch_size=2, steps=3)
        validation = Validation(
            torch.device("cpu"),
            DataLoader(Dataset(items(1)), batch_size=1),
            network,
            None,  # type: ignore[arg-type]  # MONAI's own
            {"psnr": ValidationPSNR()},
        )
        return Training(
            network,
            optimizer,
            WarmupCosineSchedule(optimizer, 2, 12),
            loader,
            validation,
            str(directory),
            [GradientClipping(optimizer, 0.05)],
            device=torch.device("cpu"),
            max_epochs=epochs,
            loss_function=nn.MSELoss(),
            **settings,
        )

    return make


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
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


@pytest.mark.parametrize("ema", [None, 0.6])
@pytest.mark.parametrize(
    ("precision", "layout"), [("float32", "contiguous"), ("float32", "channels_last"), ("bfloat16", "channels_last")]
)
def test_continued_run_equals_straight_run(
    make: Make, tmp_path: Path, ema: float | None, precision: str, layout: str
) -> None:
    settings = {"ema": ema, "precision": precision, "layout": layout}
    make(tmp_path / "straight", **settings).run()
    for _ in range(4):
        make(tmp_path / "continued", time_budget_minutes=1e-9, **settings).run()
    straight, continued = (load(tmp_path / run / "checkpoint_epoch=4.pt") for run in ("straight", "continued"))
    assert ("ema" in straight) == (ema is not None)
    assert straight["choice"]["precision"] == precision
    assert_equal(straight, continued)  # weights, their average, moments, schedule: no difference at all
    for name in ("model.pt", "best.pt"):
        state = load(tmp_path / "straight" / name)
        assert_equal(state, load(tmp_path / "continued" / name))
        assert all(value.is_contiguous() for value in state.values())


def test_average_is_what_is_validated_and_saved(make: Make, tmp_path: Path) -> None:
    run = make(tmp_path, epochs=3, ema=0.4)
    decay, expected = 0.4, {}

    def follow(engine: Any) -> None:
        n = engine.state.iteration - 1  # the steps in the average so far
        d = min(decay, (1 + n) / (10 + n)) if n else 0.0
        for name, value in run.network.named_parameters():
            expected[name] = d * expected.get(name, 0) + (1 - d) * value.detach().double()

    run.add_event_handler(Events.ITERATION_COMPLETED, follow)
    run.run()
    state = load(tmp_path / "model.pt")
    for name, value in expected.items():
        assert torch.allclose(state[name].double(), value, atol=1e-6), name
        assert not torch.equal(state[name], run.network.state_dict()[name]), name
    for name, buffer in run.network.named_buffers():
        assert torch.equal(state[name], buffer), name
    checkpoint = load(tmp_path / "checkpoint_epoch=3.pt")
    assert_equal(state, {k.removeprefix("module."): v for k, v in checkpoint["ema"].items() if k != "n_averaged"})
    assert_equal(dict(run.network.state_dict()), checkpoint["network"])


def test_validator_runs_the_average(make: Make, tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = make(tmp_path, epochs=1, ema=0.9)
    run.run()
    network = make(tmp_path / "other").network
    network.load_state_dict(load(tmp_path / "model.pt"))
    item = items(1)[0]
    with torch.no_grad():
        error = (network.eval()(item["image"][None]) - item["label"][None]).square().mean()
        last = (run.network.eval()(item["image"][None]) - item["label"][None]).square().mean()
    psnr = -10 * torch.log10(error).item()
    best = load(tmp_path / "checkpoint_epoch=1.pt")["best"]
    assert best["metric"] == pytest.approx(psnr, abs=1e-4)
    assert abs(psnr + 10 * torch.log10(last).item()) > 1e-2  # the last weights would have another one


def test_choice_is_measured_once_and_kept(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def choose(trial: Any, precisions: Any, layouts: Any, *args: Any, **options: Any) -> tuple[Choice, list[Any]]:
        calls.append((tuple(precisions), tuple(layouts), tuple(trial.lr.shape), len(trial.before_step)))
        return Choice(precisions[-1], layouts[-1]), []

    monkeypatch.setattr(chosen, "choose", choose)
    settings = {"precision": "auto", "layout": "auto"}
    make(tmp_path / "a", 2, **settings).run()
    assert calls == [(("float32", "bfloat16"), ("contiguous", "channels_last"), (2, 1, 10, 12, 14), 1)]
    make(tmp_path / "a", 4, **settings).run()
    assert len(calls) == 1  # the checkpoint knows
    make(tmp_path / "b", 4, precision="bfloat16", layout="channels_last").run()
    assert_equal(*(load(tmp_path / run / "checkpoint_epoch=4.pt") for run in "ab"))

    make(tmp_path / "a", 5, precision="float32", layout="auto").run()  # what is stated overrides
    assert len(calls) == 1
    kept = load(tmp_path / "a" / "checkpoint_epoch=5.pt")["choice"]
    assert (kept["precision"], kept["layout"]) == ("float32", "channels_last")


def test_measuring_changes_no_result(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = chosen.choose

    def and_stay(*args: Any, **options: Any) -> tuple[Choice, list[Any]]:
        return Choice(), measure(*args, **options)[1]

    monkeypatch.setattr(chosen, "choose", and_stay)
    make(tmp_path / "measured", 2, precision="auto", layout="auto", ema=0.5).run()
    make(tmp_path / "stated", 2, ema=0.5).run()
    assert_equal(*(load(tmp_path / run / "checkpoint_epoch=2.pt") for run in ("measured", "stated")))


def test_checkpoint_of_an_older_version_continues(make: Make, tmp_path: Path) -> None:
    make(tmp_path, 1).run()
    checkpoint = load(tmp_path / "checkpoint_epoch=1.pt")
    del checkpoint["choice"]
    torch.save(checkpoint, tmp_path / "checkpoint_epoch=1.pt")
    make(tmp_path, 2).run()
    assert load(tmp_path / "checkpoint_epoch=2.pt")["trainer"]["iteration"] == 6


def test_choice_of_another_machine_is_measured_anew(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, 1).run()
    checkpoint = load(tmp_path / "checkpoint_epoch=1.pt")
    checkpoint["choice"]["precision"] = "float16"
    torch.save(checkpoint, tmp_path / "checkpoint_epoch=1.pt")
    with caplog.at_level(logging.INFO):
        make(tmp_path, 2, precision="auto", layout="auto").run()
    assert "float16 is not for this machine" in caplog.text
    assert load(tmp_path / "checkpoint_epoch=2.pt")["choice"]["precision"] in ("float32", "bfloat16")


@pytest.mark.parametrize("ema", [1, -0.1, 2])
def test_decay_is_between_0_and_1(make: Make, tmp_path: Path, ema: float) -> None:
    with pytest.raises(InputError, match="ema is a decay between 0 and 1 such as"):
        make(tmp_path, ema=ema)
