"""The parts of training that bundles share: the data loader, the trainers and the validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import MeanDice, PeakSignalToNoiseRatio, StatsHandler, from_engine
from monai.inferers import Inferer
from torch import nn

from medsr.engines import (
    AdversarialTrainer,
    ChosenForward,
    GradientClipping,
    ScaleSampler,
    StandardHandlers,
    WeightedEpochSampler,
    prepare_batch_of_scale,
    rank,
)
from medsr.errors import InputError
from medsr.geometry import ScaleLike

_EVALUATED = from_engine(["pred", "label"])


class TrainingLoader(DataLoader):
    """The loader that draws the batches of an epoch by the weights of the dataset's items, from the seed and the epoch.

    Args:
        dataset: The dataset, with its items in `data`.
        batch_size: The number of items in a batch.
        seed: The seed of the draws.
        steps: The number of batches in an epoch, over all processes.
        samples: The number of items in an epoch, instead of `steps`.
        scales: The scales to draw from, one for each batch, for networks of any scale; the dataset must then be a
            `ScaledDataset`.
        num_workers: The number of processes that prepare items; 0 prepares them in the main process.

    Raises:
        InputError: If neither or both of `steps` and `samples` are given, or there is nothing to draw.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int = 0,
        *,
        steps: int | None = None,
        samples: int | None = None,
        scales: Iterable[ScaleLike] | None = None,
        num_workers: int = 0,
    ) -> None:
        if (steps is None) == (samples is None):
            raise InputError(f"give either the steps or the samples of an epoch, got {steps} and {samples}")
        drawn = samples if steps is None else steps * batch_size
        sampler: WeightedEpochSampler
        if scales is None:
            sampler = WeightedEpochSampler(dataset.data, drawn, seed)  # type: ignore[arg-type]
        else:
            sampler = ScaleSampler(dataset.data, drawn, batch_size, scales, seed)  # type: ignore[arg-type]
        super().__init__(dataset, batch_size=batch_size, sampler=sampler, num_workers=num_workers)


class _StandardRun:
    """The base of the trainers of bundles, with the standard handlers and, where there is one, the scale of a batch.

    The names of the arguments are those of MONAI's trainer, in which MONAI looks for the properties of a bundle.

    Args:
        network: The network to train.
        optimizer: The optimiser of the network.
        scheduler: The scheduler of its learning rate, stepped after every iteration.
        train_data_loader: The training batches, each with its scale if the network needs one.
        validator: The evaluator of validations; see `Validation`.
        directory: The directory of checkpoints and networks.
        train_handlers: The further handlers, registered before the standard ones.
        seed: The seed of the run.
        resume: Whether to continue from the newest checkpoint in `directory`.
        val_interval: The number of epochs between validations.
        time_budget_minutes: The time budget in minutes; the run stops after the last epoch that fits. None: no limit.
        initial_weights: The file of weights to load before the first epoch; None for none.
        ema: The decay of a moving average of the weights, which is then validated and saved; None for none.
        precision: The precision of the network's steps; "auto" measures which is fastest, see `ChosenForward`.
        layout: The memory layout of the network's steps: "contiguous", "channels_last" or "auto".
        threads: The number of CPU threads, or "auto"; None leaves it as it is.
        inferer: The inferer that calls the network.
        amp: Whether to use MONAI's mixed precision, in place of `precision` and `layout`.
        notes: What those who run the network must know of its training; written beside its weights.
        trainer: The further arguments of the trainer: device, max_epochs, loss_function.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
        train_data_loader: DataLoader,
        validator: SupervisedEvaluator,
        directory: str,
        train_handlers: Sequence[Any] = (),
        *,
        seed: int = 0,
        resume: bool = True,
        val_interval: int = 1,
        time_budget_minutes: float | None = None,
        initial_weights: str | None = None,
        ema: float | None = None,
        precision: str = "float32",
        layout: str = "contiguous",
        threads: int | str | None = None,
        inferer: Inferer | None = None,
        amp: bool = False,
        notes: Mapping[str, Any] | None = None,
        **trainer: Any,
    ) -> None:
        forward = ChosenForward(
            network,
            inferer,
            "float32" if amp else precision,
            "contiguous" if amp else layout,
            threads,
            before_step=[h.clip for h in train_handlers if isinstance(h, GradientClipping) and h.threshold],
            scaling=isinstance(self, SupervisedTrainer),
        )
        standard = StandardHandlers(
            network,
            optimizer,
            scheduler,
            validator,
            directory,
            loss=trainer["loss_function"],
            transform=train_data_loader.dataset.transform,  # type: ignore[attr-defined]
            seed=seed,
            resume=resume,
            val_interval=val_interval,
            time_budget_minutes=time_budget_minutes,
            initial_weights=initial_weights,
            ema=ema,
            forward=forward,
            notes=notes,
        )
        super().__init__(
            network=network,  # type: ignore[call-arg]  # an argument of the trainer that subclasses inherit too
            optimizer=optimizer,
            train_data_loader=train_data_loader,
            train_handlers=[*train_handlers, standard],
            prepare_batch=prepare_batch_of_scale,
            inferer=forward,
            amp=amp,
            **trainer,
        )


class Training(_StandardRun, SupervisedTrainer):
    """The trainer of a network by a loss, with the handlers of `medsr.engines.StandardHandlers`."""


class AdversarialTraining(_StandardRun, AdversarialTrainer):
    """The trainer of a network against a discriminator; for its further arguments see `AdversarialTrainer`."""


class ValidationPSNR(PeakSignalToNoiseRatio):
    """The mean PSNR (dB) of the validation images, whose intensities are about [0, 1]."""

    def __init__(self) -> None:
        super().__init__(max_val=1.0, output_transform=_EVALUATED)


class ValidationDice(MeanDice):
    """The mean Dice of the labels above 0 of the validation images."""

    def __init__(self) -> None:
        super().__init__(include_background=False, output_transform=_EVALUATED)


class Validation(SupervisedEvaluator):
    """The evaluator that validates the network during training, image by image, by a key metric.

    The names of the arguments are those of MONAI's evaluator, in which MONAI looks for the properties of a bundle.

    Args:
        device: The device to run on.
        val_data_loader: The batches of validation images, each with its scale if the network needs one.
        network: The network that is trained.
        inferer: The inferer that runs it.
        key_val_metric: The key metric by its name; the largest value counts as the best.
        postprocessing: The postprocessing of each item.
        val_handlers: The further handlers.
        amp: Whether to use MONAI's mixed precision.
    """

    def __init__(
        self,
        device: torch.device,
        val_data_loader: Iterable[Any],
        network: nn.Module,
        inferer: Inferer,
        key_val_metric: dict[str, Any],
        postprocessing: Any = None,
        val_handlers: Sequence[Any] = (),
        amp: bool = False,
    ) -> None:
        told = [StatsHandler(iteration_log=False)] if rank() == 0 else []
        super().__init__(
            device=device,
            val_data_loader=val_data_loader,
            network=network,
            inferer=inferer,
            key_val_metric=key_val_metric,
            postprocessing=postprocessing,
            val_handlers=[*told, *val_handlers],
            amp=amp,
            prepare_batch=prepare_batch_of_scale,
        )
