"""The handlers every slice bundle trains with, and the schedule in steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.engines import Evaluator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from medsr.engines import StandardHandlers, milestone_schedule
from medsr.losses import WeightedLoss


def optimizer(rate: float = 0.8) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=rate)


def test_rate_halves_at_the_milestones() -> None:
    made = optimizer()
    schedule = milestone_schedule(made, [2, 5])
    rates = []
    for _ in range(7):
        rates.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2])


def test_rate_is_constant_without_milestones() -> None:
    made = optimizer()
    schedule = milestone_schedule(made)
    for _ in range(10):
        made.step()
        schedule.step()
    assert made.param_groups[0]["lr"] == 0.8


class Validator(Evaluator):
    """Its key metric is the epoch, so that the last one is the best."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"), [0])
        self.validated: list[int] = []

    def run(self, global_epoch: int = 1) -> None:
        self.validated.append(global_epoch)
        self.state.best_metric, self.state.best_metric_epoch = float(global_epoch), global_epoch


class Task:
    """Fit one number."""

    def __init__(self, directory: Path, epochs: int, resume: bool = True) -> None:
        self.network = nn.Linear(1, 1)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)
        self.schedule = milestone_schedule(self.optimizer, [3])
        self.loss = WeightedLoss({"l1": nn.L1Loss(), "mse": nn.MSELoss()}, [1, 0.5])
        self.validator = Validator()
        self.epochs = epochs
        self.trainer = Engine(self.step)
        self.trainer.state.max_epochs, self.trainer.state.epoch_length = epochs, 2
        StandardHandlers(
            self.network, self.optimizer, self.schedule, self.validator, str(directory), self.loss, val_interval=2
        ).attach(self.trainer)

    def step(self, engine: Engine, batch: torch.Tensor) -> list[dict[str, float]]:
        self.optimizer.zero_grad()
        loss = self.loss(self.network(batch), torch.ones_like(batch))
        loss.backward()
        self.optimizer.step()
        return [{"loss": loss.item()}]

    def run(self) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        nn.init.zeros_(self.network.weight)
        nn.init.zeros_(self.network.bias)
        self.trainer.run([torch.ones(1, 1), 2 * torch.ones(1, 1)], max_epochs=self.epochs)
        return {key: value.clone() for key, value in self.network.state_dict().items()}


def test_run_in_two_parts_equals_one(tmp_path: Path) -> None:
    straight = Task(tmp_path / "one", 4)
    expected = straight.run()
    assert straight.validator.validated == [2, 4]
    assert straight.optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    Task(tmp_path / "two", 2).run()
    assert (tmp_path / "two" / "model.pt").is_file()
    result = Task(tmp_path / "two", 4).run()
    assert all(torch.equal(expected[key], result[key]) for key in expected)


def test_run_that_fails_before_its_first_value_leaves_nothing(tmp_path: Path) -> None:
    def fail(engine: Engine, batch: torch.Tensor) -> None:
        raise RuntimeError("no such image")

    task = Task(tmp_path / "runs", 2)
    assert not (tmp_path / "runs").exists(), "a trainer that is built has not run"
    task.trainer._process_function = fail
    with pytest.raises(RuntimeError, match="no such image"):
        task.run()
    assert not (tmp_path / "runs").exists()
    Task(tmp_path / "runs", 2).run()
    assert {path.name for path in (tmp_path / "runs").iterdir()} > {"model.pt", "tensorboard"}


def test_every_term_of_the_loss_is_logged(tmp_path: Path) -> None:
    Task(tmp_path, 2).run()
    log = EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    assert {"train_loss", "train_loss_l1", "train_loss_mse"} <= set(log.Tags()["scalars"])
    terms = {tag: [event.value for event in log.Scalars(tag)] for tag in log.Tags()["scalars"]}
    for total, l1, mse in zip(terms["train_loss"], terms["train_loss_l1"], terms["train_loss_mse"], strict=True):
        assert total == pytest.approx(l1 + 0.5 * mse, rel=1e-6)
