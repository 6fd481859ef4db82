"""The handlers of every training run: seeds, schedule, validation, checkpoints, time budget, progress bar and log."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.handlers import LrScheduleHandler, TensorBoardStatsHandler, ValidationHandler

from medsr.engines.averaging import AveragedWeights
from medsr.engines.checkpoint_loader import StrictCheckpointLoader
from medsr.engines.checkpoints import Checkpoints
from medsr.engines.chosen import ChosenForward
from medsr.engines.seeding import SeedPerEpoch
from medsr.engines.time_budget import TimeBudget
from medsr.errors import InputError


class LogFolder:
    """A summary writer of TensorBoard that makes its folder with the first value, so that failed runs leave none.

    Args:
        folder: The folder of the log.

    Raises:
        InputError: If TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError(f"training needs TensorBoard for its log ({error}); install medsr[train]") from None
        self._open = partial(SummaryWriter, log_dir=str(folder))

    @cached_property
    def _writer(self) -> Any:
        return self._open()

    def add_scalar(self, *arguments: Any, **options: Any) -> None:
        """Log a value."""
        self._writer.add_scalar(*arguments, **options)

    def flush(self) -> None:
        """Write the logged values to the disk."""
        self._writer.flush()


class StandardHandlers:
    """The handlers of a training run in the necessary order, for supervised training and `AdversarialTrainer`.

    Args:
        network: The network that is trained.
        optimizer: The optimiser, whose state is saved in the checkpoints.
        scheduler: The scheduler of the learning rate, stepped after every iteration.
        validator: The evaluator with a key metric, run every `val_interval` epochs and after the last one.
        directory: The directory of the checkpoints, `model.pt` and `best.pt`, with `tensorboard` below it.
        loss: The loss; if it has an attribute `last` with the values of its terms by name, they are logged too, as are
            those of a trainer with `terms`.
        transform: The training transform, seeded every epoch.
        seed: The seed of the run.
        resume: Whether to continue from the newest checkpoint.
        val_interval: The number of epochs between validations.
        time_budget_minutes: The time budget in minutes; the run stops after the last epoch that fits. None: no limit.
        initial_weights: The file of weights to load before the first epoch; a checkpoint to continue from is loaded
            after it. None trains from the network's own initialisation.
        ema: The decay of a moving average of the weights, see `AveragedWeights`, which is then validated and saved as
            `model.pt` and `best.pt`. None or 0 for none.
        notes: What those who run the network must know of its training, written beside both networks.
        forward: The inferer that runs the network in the precision and layout of the run; checkpoints hold its choice.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
        validator: Any,
        directory: str,
        loss: torch.nn.Module | None = None,
        transform: Any = None,
        seed: int = 0,
        resume: bool = True,
        val_interval: int = 1,
        time_budget_minutes: float | None = None,
        initial_weights: str | Path | None = None,
        ema: float | None = None,
        forward: ChosenForward | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        objects: dict[str, Any] = {"network": network, "optimizer": optimizer, "scheduler": scheduler}
        averaged = AveragedWeights(network, ema) if ema else None
        if averaged is not None:
            objects["ema"], validator.network = averaged.model, averaged.network
        if forward is not None:
            objects["choice"] = forward
            forward.copies += () if averaged is None else (averaged.network,)
        self.handlers: list[Any] = [
            *([] if initial_weights is None else [StrictCheckpointLoader(str(initial_weights), network)]),
            SeedPerEpoch(transform, seed),
            *([] if averaged is None else [averaged]),
            LrScheduleHandler(scheduler, print_lr=False, epoch_level=False),
            ValidationHandler(val_interval, validator, epoch_level=True),
            Checkpoints(directory, objects, resume, validator=validator, notes=notes),
            *([] if forward is None else [forward]),
            TimeBudget(time_budget_minutes),
        ]
        self.loss = loss
        self.log_dir = Path(directory) / "tensorboard"

    def attach(self, engine: Engine) -> None:
        """Register all handlers with the trainer; the progress bar and the log only on rank 0."""
        for handler in self.handlers:
            handler.attach(engine)
        if idist.get_rank() == 0:
            from ignite.handlers import ProgressBar

            ProgressBar(persist=True).attach(engine)
            TensorBoardStatsHandler(
                LogFolder(self.log_dir), output_transform=lambda output: self._logged(output, engine)
            ).attach(engine)

    def _logged(self, output: Any, engine: Engine) -> dict[str, float]:
        terms = {f"train_loss_{name}": value for name, value in getattr(self.loss, "last", {}).items()}
        terms.update({f"train_{name}": value for name, value in getattr(engine, "terms", {}).items()})
        loss = (output[0] if isinstance(output, list) else output)["loss"]
        return {"train_loss": float(loss), **{name: float(value) for name, value in terms.items()}}
