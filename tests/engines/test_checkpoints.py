"""What is written, what is kept, and what happens when it cannot be read back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.engines import SupervisedEvaluator
from monai.optimizers import WarmupCosineSchedule
from torch import nn
from torch.utils.data import DataLoader

from medsr.engines import Checkpoints
from medsr.errors import InputError, OutputError
from medsr.weights import read_notes, start_of


class Run:
    """A trainer whose network holds the number of epochs trained, with what a checkpoint saves."""

    def __init__(self, directory: Path, max_epochs: int = 3, length: int = 2, width: int = 1, **options: Any) -> None:
        self.network = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.network.weight)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1.0)
        self.scheduler = WarmupCosineSchedule(self.optimizer, warmup_steps=0, t_total=max_epochs * length)
        self.max_epochs, self.length = max_epochs, length
        self.engine = Engine(lambda engine, batch: self.step())
        self.engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: self.set_weight(engine.state.epoch))
        self.epochs: list[int] = []
        self.engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: self.epochs.append(engine.state.epoch))
        objects = {"network": self.network, "optimizer": self.optimizer, "scheduler": self.scheduler}
        if "validator" in options:
            validator = options["validator"]
            self.engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: validator.run(engine.state.epoch))
        self.checkpoints = Checkpoints(str(directory), objects, **options)
        self.checkpoints.attach(self.engine)

    def step(self) -> None:
        self.optimizer.step()
        self.scheduler.step()

    def set_weight(self, epoch: int) -> None:
        with torch.no_grad():
            self.network.weight.fill_(epoch)

    def start(self, epochs: int | None = None) -> Run:
        if epochs is not None:
            self.engine.add_event_handler(Events.EPOCH_COMPLETED(once=epochs), lambda engine: engine.terminate())
        self.engine.run(range(self.length), max_epochs=self.max_epochs)
        return self


def weight(path: Path) -> float:
    state = torch.load(path, weights_only=True)
    return float(state["weight"].mean())


class Scripted(Metric):
    """A metric that has said beforehand what it will be."""

    def __init__(self, values: list[float]) -> None:
        self.values = iter(values)
        super().__init__()

    def reset(self) -> None: ...

    def update(self, output: Any) -> None: ...

    def compute(self) -> float:
        return next(self.values)


def validator_of(values: list[float], **options: Any) -> SupervisedEvaluator:
    return SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader([{"image": torch.zeros(1, 2, 2)}]),
        network=nn.Identity(),
        key_val_metric={"psnr": Scripted(values)},
        **options,
    )


def test_two_newest_are_kept_over_restarts(tmp_path: Path) -> None:
    Run(tmp_path, max_epochs=12).start(9)
    assert Run(tmp_path, max_epochs=12).start().epochs == [10, 11, 12]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint_epoch=11.pt", "checkpoint_epoch=12.pt", "model.pt"]  # by number, not by name
    assert weight(tmp_path / "model.pt") == 12


def test_notes_are_written_beside_both_networks(tmp_path: Path) -> None:
    notes = {"start": "consistent", "degradation": {"name": "block-mean"}}
    Run(tmp_path, validator=validator_of([1.0, 3.0, 2.0]), notes=notes).start()
    assert {path.name for path in tmp_path.glob("*.json")} == {"model.json", "best.json"}
    for name in ("model.pt", "best.pt"):
        assert read_notes(tmp_path / name) == notes
        assert start_of(tmp_path / name) == "consistent"


def test_newest_is_by_number_and_ignores_other_files(tmp_path: Path) -> None:
    checkpoints = Run(tmp_path).checkpoints
    assert checkpoints.newest() is None
    for name in ("checkpoint_epoch=9.pt", "checkpoint_epoch=10.pt", "checkpoint_epoch=old.pt", "checkpoint_99.pt"):
        (tmp_path / name).touch()
    assert checkpoints.newest() == tmp_path / "checkpoint_epoch=10.pt"


def test_checkpoint_of_monai_layout_is_continued(tmp_path: Path) -> None:
    """Files that MONAI's CheckpointSaver wrote have no record of the best metric."""
    run = Run(tmp_path)
    state = {name: value.state_dict() for name, value in run.checkpoints.objects.items()}
    trainer = {"epoch_length": 2, "max_epochs": 9, "iteration": 4}
    torch.save({**state, "trainer": trainer}, tmp_path / "checkpoint_epoch=2.pt")
    validator = validator_of([1.0])
    assert Run(tmp_path, validator=validator).start().epochs == [3]
    assert validator.state.best_metric == 1.0


def test_checkpoint_as_it_was_written_before_is_continued(tmp_path: Path) -> None:
    """Before ignite's `Checkpoint` gathered what is saved: the same entries, put together by hand."""
    run = Run(tmp_path)
    state = {name: value.state_dict() for name, value in run.checkpoints.objects.items()}
    state["network"]["weight"] = torch.full((1, 1), 2.0)
    trainer = {"epoch_length": 2, "max_epochs": 3, "iteration": 4}
    best = {"metric": 31.5, "epoch": 1}
    torch.save({**state, "trainer": trainer, "best": best}, tmp_path / "checkpoint_epoch=2.pt")
    validator = validator_of([30.0])
    assert Run(tmp_path, validator=validator).start().epochs == [3]
    assert weight(tmp_path / "model.pt") == 3
    assert validator.state.best_metric == 31.5
    saved = torch.load(tmp_path / "checkpoint_epoch=3.pt", weights_only=True)
    assert saved["best"] == best
    assert saved["trainer"] == {**trainer, "iteration": 6}


# --- one training at a time


def test_second_training_in_a_folder_is_refused(tmp_path: Path) -> None:
    first, second = Run(tmp_path), Run(tmp_path)
    refused = []

    def start_another(engine: Engine) -> None:
        with pytest.raises(OutputError) as error:
            second.start()
        refused.append(str(error.value))

    first.engine.add_event_handler(Events.EPOCH_COMPLETED(once=2), start_another)
    assert first.start().epochs == [1, 2, 3]
    assert refused == [f"{tmp_path} is in use by another training; wait for its end, or choose another ckpt_dir"]
    assert second.epochs == []
    assert Run(tmp_path, max_epochs=4).start().epochs == [4], "it has ended"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_folder_is_free_after_an_interruption(tmp_path: Path) -> None:
    run = Run(tmp_path)

    def interrupt(engine: Engine) -> None:
        raise KeyboardInterrupt

    run.engine.add_event_handler(Events.EPOCH_COMPLETED(once=2), interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.start()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint_epoch=1.pt", "checkpoint_epoch=2.pt", "model.pt"]
    assert Run(tmp_path).start().epochs == [3]


# --- the best network


def test_best_network_by_key_metric(tmp_path: Path) -> None:
    best = []
    run = Run(tmp_path, max_epochs=4, validator=validator_of([20.0, 31.5, 31.0, 31.5]))
    run.engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: best.append(weight(tmp_path / "best.pt")))
    run.start()
    assert best == [1, 2, 2, 2]
    saved = torch.load(tmp_path / "checkpoint_epoch=4.pt", weights_only=True)["best"]
    assert saved == {"metric": 31.5, "epoch": 2}


def test_best_metric_survives_a_restart(tmp_path: Path) -> None:
    Run(tmp_path, max_epochs=4, validator=validator_of([20.0, 30.0])).start(2)
    Run(tmp_path, max_epochs=4, validator=validator_of([29.0, 28.0])).start()
    assert weight(tmp_path / "best.pt") == 2
    Run(tmp_path, max_epochs=6, validator=validator_of([29.9, 30.1])).start()
    assert weight(tmp_path / "best.pt") == 6


def test_errors_as_metric_are_compared_by_the_validators_function(tmp_path: Path) -> None:
    validator = validator_of([0.3, 0.1, 0.2], metric_cmp_fn=lambda new, best: new < best)
    Run(tmp_path, validator=validator).start()
    assert weight(tmp_path / "best.pt") == 2


def test_no_best_network_without_a_validation(tmp_path: Path) -> None:
    Run(tmp_path).start()
    assert not (tmp_path / "best.pt").exists()
    assert weight(tmp_path / "model.pt") == 3


# --- a continued run with other settings


def test_longer_run_stretches_the_schedule(tmp_path: Path) -> None:
    """WarmupCosineSchedule saves its length too; loading that would let the rate rise again after the old end."""
    Run(tmp_path, max_epochs=2).start()
    longer = Run(tmp_path, max_epochs=4).start()
    assert longer.epochs == [3, 4]
    assert longer.scheduler.t_total == 8
    assert longer.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
    state = torch.load(tmp_path / "checkpoint_epoch=3.pt", weights_only=True)
    straight = Run(tmp_path / "straight", max_epochs=4).start()
    assert straight.scheduler.last_epoch == longer.scheduler.last_epoch == 8
    expected = torch.load(tmp_path / "straight" / "checkpoint_epoch=3.pt", weights_only=True)
    assert state["scheduler"]["_last_lr"] == expected["scheduler"]["_last_lr"]


def test_other_length_of_an_epoch_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Run(tmp_path, length=2).start(2)
    with caplog.at_level(logging.WARNING):
        run = Run(tmp_path, length=5).start()
    assert "2 iterations per epoch, this run has 5" in caplog.text
    assert run.epochs == [3]
    assert run.engine.state.iteration == 15


def test_shorter_run_than_the_checkpoint(tmp_path: Path) -> None:
    Run(tmp_path, max_epochs=3).start()
    with pytest.raises(InputError, match=r"checkpoint_epoch=3.pt is past epoch 2; raise max_epochs, or choose"):
        Run(tmp_path, max_epochs=2).start()


def test_not_resuming_beside_another_run(tmp_path: Path) -> None:
    assert Run(tmp_path, resume=False).start(1).epochs == [1]
    with pytest.raises(InputError, match=r"holds the checkpoints of another run .* and resume is false"):
        Run(tmp_path, resume=False).start()


def test_other_network_is_a_one_line_error(tmp_path: Path) -> None:
    Run(tmp_path).start(1)
    with pytest.raises(InputError, match=r"does not fit this run's network .*another ckpt_dir") as error:
        Run(tmp_path, width=3).start()
    assert "\n" not in str(error.value)


# --- files that cannot be read or written


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "flipped"])
def test_damaged_checkpoint_says_what_to_delete(tmp_path: Path, damage: str) -> None:
    Run(tmp_path).start(2)
    newest = tmp_path / "checkpoint_epoch=2.pt"
    whole = newest.read_bytes()
    contents = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"hello", "flipped": whole[::-1]}
    newest.write_bytes(contents[damage])
    with pytest.raises(InputError) as error:
        Run(tmp_path).start()
    message = str(error.value)
    assert message.startswith(f"{newest} cannot be read (")
    assert message.endswith("delete it, the run then continues from checkpoint_epoch=1.pt")
    assert "\n" not in message
    newest.unlink()
    assert Run(tmp_path).start().epochs == [2, 3]


def test_damaged_only_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint_epoch=1.pt").write_bytes(b"")
    with pytest.raises(InputError, match="delete it, the run then starts anew"):
        Run(tmp_path).start()


def test_something_else_under_a_checkpoints_name(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "checkpoint_epoch=1.pt")
    with pytest.raises(InputError, match=r"lacks network, optimizer, scheduler, trainer"):
        Run(tmp_path).start()


def test_interrupted_writing_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Run(tmp_path).start(2)

    def half(state: Any, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OutputError, match=r"checkpoint_epoch=3.pt: cannot be written: the disk is full"):
        Run(tmp_path).start()
    monkeypatch.undo()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint_epoch=1.pt", "checkpoint_epoch=2.pt", "model.pt"]
    assert Run(tmp_path).start().epochs == [3]


def test_network_must_be_among_the_objects(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the network among the objects"):
        Checkpoints(str(tmp_path), {"model": nn.Linear(1, 1)})


def test_wrapped_network_is_saved_without_its_wrapper(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path), {"network": nn.DataParallel(nn.Linear(1, 1))})
    engine = Engine(lambda engine, batch: None)
    checkpoints.attach(engine)
    engine.run([0], max_epochs=1)
    assert set(torch.load(tmp_path / "model.pt", weights_only=True)) == {"weight", "bias"}
