"""Checkpoints that a stopped run continues from, and the networks that a run leaves behind."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, global_step_from_engine
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from medsr.engines.distributed import unwrapped
from medsr.errors import InputError
from medsr.files.atomic import atomic_path, write_json_atomic
from medsr.files.locks import FolderLock
from medsr.weights import notes_path

logger = logging.getLogger(__name__)

MODEL, BEST = "model.pt", "best.pt"
_NEWER = {"choice"}  # the objects that checkpoints of older versions lack, and that a run can do without
_KEPT = 2  # the last checkpoint, and one to fall back on
# A LambdaLR computes its rate from the step. Only its counters are restored, because its other attributes are
# configuration that may have changed: a longer `max_epochs` stretches the schedule.
_COUNTERS = ("last_epoch", "_step_count", "_last_lr", "base_lrs")


class Checkpoints:
    """A handler that saves everything a run needs after every epoch, and continues a run that is started again.

    Together with `SeedPerEpoch` and `WeightedEpochSampler` it makes a continued run equal an uninterrupted one. The
    directory holds the last two checkpoints; `model.pt`, the network after the last epoch; and with a
    validator `best.pt`, the network of the epoch in which its key metric was best. Both networks are flat
    state dicts of tensors, ready to be copied to a bundle's `models/model.pt`. Files appear complete or not
    at all. Under torchrun rank 0 writes and all ranks read. Only one training at a time can use the directory.

    Ignite's `Checkpoint` gathers the state, but files are written and removed here: ignite's `DiskSaver` removes the
    oldest checkpoint before the new one is written, and a killed process leaves unfinished files.

    If "ema" is among the objects (`AveragedWeights.model`), both networks have the averaged weights.

    Register it with the trainer after the `ValidationHandler`, so that a checkpoint contains its epoch's metric.

    Args:
        directory: The directory of the checkpoints.
        objects: The objects to save besides the trainer's own state: the network, the optimizer, the scheduler, and
            any others that have `state_dict` and `load_state_dict`. `AdversarialTrainer` adds its own.
        resume: Whether to continue from the newest checkpoint in the directory, if there is one.
        map_location: The device on which a checkpoint is loaded.
        validator: The evaluator with a key metric (by MONAI's convention larger is better, unless its
            `metric_cmp_fn` says otherwise).
        notes: What those who run the network must know of its training, ready for JSON; written beside both networks,
            see `medsr.weights.read_notes`.
    """

    def __init__(
        self,
        directory: str,
        objects: Mapping[str, Any],
        resume: bool = True,
        map_location: str = "cpu",
        validator: Engine | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self.notes = dict(notes or {})
        self.directory = Path(directory)
        self.objects = dict(objects)
        self.resume = resume
        self.map_location = map_location
        self.validator = validator
        if not isinstance(self.objects.get("network"), nn.Module):
            raise ValueError(f"expected the network among the objects to save, got {sorted(self.objects)}")
        self._lock = FolderLock(
            self.directory, "is in use by another training; wait for its end, or choose another ckpt_dir"
        )

    def attach(self, engine: Engine) -> None:
        """Register the handler with the trainer and the validator; the trainer's own `objects` are saved too."""
        self.objects.update(getattr(engine, "objects", {}))
        saved = {**self.objects, "trainer": engine}
        if self.validator is not None:
            saved["best"] = _BestMetric(self.validator)
        name, epoch = "checkpoint_epoch={global_step}.pt", global_step_from_engine(engine)
        gather = Checkpoint(saved, self._write, n_saved=None, filename_pattern=name, global_step_transform=epoch)
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, gather)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        engine.add_event_handler(Events.COMPLETED, self.end)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.end)
        if self.validator is not None:
            self.validator.add_event_handler(Events.COMPLETED, self.save_best)

    def checkpoints(self) -> list[Path]:
        """Return all checkpoints in the directory, that of the latest epoch first."""
        epochs = {
            int(match[1]): path
            for path in self.directory.glob("checkpoint_epoch=*.pt")
            if (match := re.fullmatch(r"checkpoint_epoch=(\d+)", path.stem))
        }
        return [epochs[epoch] for epoch in sorted(epochs, reverse=True)]

    def newest(self) -> Path | None:
        """Return the checkpoint of the latest epoch, or None."""
        return next(iter(self.checkpoints()), None)

    def start(self, engine: Engine) -> None:
        """Lock the directory, and continue from the newest checkpoint in it.

        Raises:
            OutputError: If another training uses the directory, or it cannot be written.
            InputError: If a checkpoint cannot be used; see `load`.
        """
        if idist.get_rank() == 0:
            self._lock.acquire()
        self.load(engine)

    def end(self, engine: Engine, error: BaseException | None = None) -> None:
        """Release the directory, and raise the error that ended the run, if there is one."""
        self._lock.release()
        if error is not None:
            raise error

    def save(self, engine: Engine) -> None:
        """Write `model.pt`, and remove old checkpoints."""
        self._save_network(MODEL)
        if idist.get_rank() == 0:
            for old in self.checkpoints()[_KEPT:]:
                old.unlink(missing_ok=True)

    def save_best(self, validator: Engine) -> None:
        """Write `best.pt` if the validation that has just ended gave the best key metric so far."""
        state: Any = validator.state
        if state.best_metric_epoch == state.epoch:
            self._save_network(BEST)

    def _save_network(self, name: str) -> None:
        network = self.objects["ema"].module if "ema" in self.objects else self.objects["network"]
        state = unwrapped(network).state_dict()
        if self.notes and idist.get_rank() == 0:
            write_json_atomic(notes_path(self.directory / name), self.notes)
        self._write({key: value.detach().cpu().contiguous() for key, value in state.items()}, name)

    def _write(self, state: Mapping[str, Any], name: str, metadata: Any = None) -> None:
        if idist.get_rank() == 0:
            with atomic_path(self.directory / name) as temporary:
                torch.save(state, temporary)

    def load(self, engine: Engine) -> None:
        """Continue from the newest checkpoint, if there is one.

        Raises:
            InputError: If the checkpoint cannot be read, does not fit the network, or is past `max_epochs`; or if it
                exists although the run must not resume.
        """
        path = self.newest()
        if path is None:
            return
        if not self.resume:
            raise InputError(
                f"{self.directory} holds the checkpoints of another run ({path.name}) and resume is false; "
                "choose another ckpt_dir, remove them, or set resume to true"
            )
        content = self._read(path)
        for name, value in self.objects.items():
            if name not in content:
                continue
            state = content[name]
            if isinstance(value, LambdaLR):
                state = {**value.state_dict(), **{key: state[key] for key in _COUNTERS if key in state}}
            try:
                Checkpoint.load_objects({name: value}, {name: state})
            except (RuntimeError, ValueError, KeyError) as error:
                reason = " ".join(str(error).split())[:200]
                raise InputError(
                    f"{path} does not fit this run's {name} ({reason}); use the settings it was made with, "
                    "or another ckpt_dir"
                ) from error
        self._set_epoch(engine, content["trainer"], path)
        if self.validator is not None and "best" in content:
            _BestMetric(self.validator).load_state_dict(content["best"])

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content = torch.load(path, map_location=self.map_location, weights_only=True)
            absent = sorted({*self.objects, "trainer"} - _NEWER - set(content))
        except Exception as error:  # a damaged file can make the unpickler raise anything
            older = self.checkpoints()[1:]
            then = f"the run then continues from {older[0].name}" if older else "the run then starts anew"
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise InputError(f"{path} cannot be read ({reason}); delete it, {then}") from error
        if absent:
            raise InputError(f"{path} lacks {', '.join(absent)}; it is of another kind of run, use another ckpt_dir")
        return content

    def _set_epoch(self, engine: Engine, trainer: Mapping[str, Any], path: Path) -> None:
        length, last = int(engine.state.epoch_length or 0), int(engine.state.max_epochs or 0)
        saved_length = int(trainer["epoch_length"])
        epoch = int(trainer["iteration"]) // saved_length
        if epoch > last:
            raise InputError(f"{path} is past epoch {last}; raise max_epochs, or choose another ckpt_dir")
        if length != saved_length:
            logger.warning(
                "%s has %d iterations per epoch, this run has %d: it continues, but differs from an uninterrupted run",
                path,
                saved_length,
                length,
            )
        engine.state.epoch, engine.state.iteration = epoch, epoch * length
        logger.info("continuing from %s: epoch %d of %d", path, epoch, last)


class _BestMetric:
    """The best key metric of an evaluator so far, as a part of a checkpoint."""

    def __init__(self, evaluator: Engine) -> None:
        self._evaluator: Any = evaluator

    def state_dict(self) -> dict[str, Any]:
        """Return the best metric and its epoch for a checkpoint."""
        state = self._evaluator.state
        return {"metric": float(state.best_metric), "epoch": int(state.best_metric_epoch)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the best metric and its epoch from a checkpoint."""
        kept = self._evaluator.state
        kept.best_metric, kept.best_metric_epoch = state["metric"], state["epoch"]
