"""Adversarial training of super-resolution networks, which MONAI's adversarial trainers do not fit.

MONAI's `AdversarialTrainer` shows the discriminator LR images as real ones; its `GanTrainer` makes images from noise.
Neither has a gradient penalty, a warm-up or critic steps of this kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents, Trainer, default_metric_cmp_fn
from monai.engines.workflow import Workflow
from monai.inferers import Inferer, SimpleInferer
from monai.utils import GanKeys
from monai.utils.enums import CommonKeys as Keys
from torch import nn
from torch.amp import GradScaler

from medsr.engines.discarding import EXPLOSION, DiscardedBatches
from medsr.engines.distributed import average_gradients, share_state, unwrapped
from medsr.engines.scales import prepare_batch_of_scale
from medsr.errors import InputError
from medsr.losses import AdversarialLoss, adversarial_loss


class AdversarialTrainer(Trainer):
    """A trainer of a super-resolution network by pixel and perceptual losses and against a discriminator.

    One iteration, on one batch of (LR, HR), consists of

    1. SR = network(LR), or network(LR, scale) if the batch has a scale;
    2. after the warm-up, `critic_steps` steps of the discriminator on HR and SR, by the adversarial loss;
    3. one step of the network on loss_function(SR, HR) + adversarial_weight * adversarial term.

    The dissertation's weights are 1 (L1), 0.006 (VGG) and 0.001 (adversarial), with WGAN-GP and one critic step on the
    same batch. A batch is discarded if any of these losses is not finite or reaches `explosion` in absolute value: the
    remaining steps of the iteration are skipped (so the network takes no step), and the batch is counted and logged.
    The next batch begins with new gradients.

    Output and events are those of MONAI's trainers: "image", "label", "pred", "loss" (all that the network minimises),
    and after the warm-up "g_loss" (its adversarial term, unweighted) and "d_loss" of `GanKeys`; `FORWARD_COMPLETED`,
    `LOSS_COMPLETED`, `BACKWARD_COMPLETED` of the network's step and `MODEL_COMPLETED`. `StandardHandlers` saves
    `objects` and logs `terms`.

    Mixed precision needs CUDA; on other devices `amp` has no effect. Gradient penalties are computed in float32.
    Several processes average their gradients here, whether or not `engines.parallel` has wrapped the networks; buffers
    (batch norm) are copied from rank 0 when an epoch starts.

    Args:
        device: The device to train on.
        max_epochs: The number of epochs.
        train_data_loader: The loader of batches, which are dictionaries.
        network: The generator.
        optimizer: The optimiser of the network.
        loss_function: The loss function of (SR, HR), such as `WeightedLoss`.
        discriminator: The network that maps images to scores (logits).
        discriminator_optimizer: The optimiser of the discriminator. The dissertation uses Adam with 1e-5 and betas
            (0, 0.9) for WGAN-GP.
        adversarial: The adversarial loss, as a name for `medsr.losses.adversarial_loss` ("vanilla", "ragan", "wgan",
            "wgan-gp") or an object.
        adversarial_weight: The weight of the adversarial term.
        critic_steps: The number of steps of the discriminator in each iteration.
        warm_up: The number of iterations, counted from the start of the run, before adversarial training begins.
        discriminator_scheduler: The scheduler of the discriminator's learning rate, stepped after every iteration of
            adversarial training; `StandardHandlers` steps the network's own scheduler.
        explosion: The absolute value of a loss from which its batch is discarded.
        epoch_length: The number of iterations per epoch; all batches by default.
        non_blocking: Whether copies to the device are asynchronous; for this and the following see MONAI's trainers.
        prepare_batch: The function from a batch to (LR, HR, positional arguments, named arguments) of the network.
        iteration_update: The function that replaces the iteration described above.
        inferer: The inferer that calls the network.
        postprocessing: The postprocessing of outputs.
        key_train_metric: The key metric of outputs.
        additional_metrics: The additional metrics of outputs.
        metric_cmp_fn: The comparison of the key metric.
        train_handlers: The handlers, such as `StandardHandlers`.
        amp: Whether to use mixed precision.
        event_names: The names of further events.
        event_to_attr: The attributes of the state for these events.
        decollate: Whether to split batches into items after the iteration.
        optim_set_to_none: Whether to drop gradients instead of setting them to zero.
        to_kwargs: The arguments for `prepare_batch`.
        amp_kwargs: The arguments for `torch.autocast`.

    Attributes:
        terms: The last values of the adversarial terms by name, for logs: "d_loss", "d_real" and "d_fake" (mean
            scores), "d_penalty", "g_adversarial", "discarded".
        objects: The objects that checkpoints save besides the network, optimizer and scheduler.
        discarded: The check for exploding losses; `discarded.count` is the number of discarded batches so far.

    Raises:
        InputError: If there is less than one critic step, a negative warm-up or weight, or `explosion` is not positive.
        MedsrError: If the adversarial loss is unknown.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        discriminator: nn.Module,
        discriminator_optimizer: torch.optim.Optimizer,
        adversarial: str | AdversarialLoss = "wgan-gp",
        adversarial_weight: float = 1e-3,
        critic_steps: int = 1,
        warm_up: int = 0,
        discriminator_scheduler: Any = None,
        explosion: float = EXPLOSION,
        epoch_length: int | None = None,
        non_blocking: bool = False,
        prepare_batch: Callable[..., Any] = prepare_batch_of_scale,
        iteration_update: Callable[[Engine, Any], Any] | None = None,
        inferer: Inferer | None = None,
        postprocessing: Any = None,
        key_train_metric: dict[str, Any] | None = None,
        additional_metrics: dict[str, Any] | None = None,
        metric_cmp_fn: Callable[..., bool] = default_metric_cmp_fn,
        train_handlers: Sequence[Any] | None = None,
        amp: bool = False,
        event_names: list[Any] | None = None,
        event_to_attr: dict[str, Any] | None = None,
        decollate: bool = True,
        optim_set_to_none: bool = False,
        to_kwargs: dict[str, Any] | None = None,
        amp_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if critic_steps < 1 or warm_up < 0 or not adversarial_weight >= 0:
            raise InputError(
                "adversarial training needs critic_steps >= 1, warm_up >= 0 and adversarial_weight >= 0, got "
                f"{critic_steps}, {warm_up} and {adversarial_weight}"
            )
        # The constructor of the base class attaches the handlers, which need these attributes.
        self.network, self.optimizer, self.loss_function = network, optimizer, loss_function
        self.discriminator, self.discriminator_optimizer = discriminator, discriminator_optimizer
        self.discriminator_scheduler = discriminator_scheduler
        self.adversarial = adversarial_loss(adversarial)
        self.adversarial_weight, self.critic_steps = float(adversarial_weight), int(critic_steps)
        self.warm_up = int(warm_up)
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.optim_set_to_none = optim_set_to_none
        self.discarded = DiscardedBatches(explosion)
        self.terms: dict[str, float] = {}
        kind = torch.device(device).type
        mixed = bool(amp) and kind == "cuda"
        self.generator_scaler = GradScaler(kind, enabled=mixed)
        self.discriminator_scaler = GradScaler(kind, enabled=mixed)
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            epoch_length=epoch_length,
            non_blocking=non_blocking,
            prepare_batch=prepare_batch,
            iteration_update=iteration_update,
            postprocessing=postprocessing,
            key_metric=key_train_metric,
            additional_metrics=additional_metrics,
            metric_cmp_fn=metric_cmp_fn,
            handlers=train_handlers,
            amp=mixed,
            event_names=event_names,
            event_to_attr=event_to_attr,
            decollate=decollate,
            to_kwargs=to_kwargs,
            amp_kwargs=amp_kwargs,
        )
        self.add_event_handler(Events.EPOCH_STARTED, self._share)  # so that a loaded checkpoint is shared too

    @property
    def objects(self) -> dict[str, Any]:
        """The objects that checkpoints save besides the network, optimizer and scheduler."""
        found: dict[str, Any] = {
            "discriminator": self.discriminator,
            "discriminator_optimizer": self.discriminator_optimizer,
            "discarded": self.discarded,
        }
        if self.discriminator_scheduler is not None:
            found["discriminator_scheduler"] = self.discriminator_scheduler
        if self.generator_scaler.is_enabled():
            found |= {"scaler": self.generator_scaler, "discriminator_scaler": self.discriminator_scaler}
        return found

    def run(self) -> None:  # type: ignore[override]
        """Train, or continue a run that was stopped."""
        self.scaler: Any = self.generator_scaler if self.amp else None
        Workflow.run(self)

    def _share(self) -> None:
        share_state(self.network)
        share_state(self.discriminator)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.state.device.type, enabled=self.amp, **self.amp_kwargs)

    def _iteration(self, engine: Any, batchdata: Any) -> dict[str, Any]:
        """Run one iteration and return its output; see the class.

        Raises:
            ValueError: If there is no batch.
        """
        if batchdata is None:
            raise ValueError("Must provide batch data for current iteration.")
        batch = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        lr, hr, args, kwargs = batch if len(batch) == 4 else (*batch, (), {})
        output = engine.state.output = {Keys.IMAGE: lr, Keys.LABEL: hr}
        self.terms = {}
        generator = unwrapped(self.network).train()
        with self._autocast():
            output[Keys.PRED] = sr = self.inferer(lr, generator, *args, **kwargs)
            engine.fire_event(IterationEvents.FORWARD_COMPLETED)
            loss = self.loss_function(sr, hr).mean()
        usable = not self.discarded.exploded(loss)
        if usable and self.state.iteration > self.warm_up:
            usable = self._train_discriminator(hr, sr.detach(), output)
            if usable:
                loss = loss + self.adversarial_weight * self._adversarial_term(hr, sr, output)
                usable = not self.discarded.exploded(loss)
        output[Keys.LOSS] = loss
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        if usable:
            self._step(loss, generator, self.optimizer, self.generator_scaler, IterationEvents.BACKWARD_COMPLETED)
        else:
            losses: dict[str, float] = {"loss": _number(loss)}
            losses.update((name, self.terms[name]) for name in ("d_loss", "d_penalty") if name in self.terms)
            self.discarded.say(self.state.iteration, losses)
        self.terms["discarded"] = self.discarded.count
        output[Keys.LOSS], output[Keys.PRED] = loss.detach(), sr.detach()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _train_discriminator(self, hr: torch.Tensor, sr: torch.Tensor, output: dict[str, Any]) -> bool:
        """Do the discriminator's steps, and return whether no loss exploded."""
        critic = unwrapped(self.discriminator).train()
        for _ in range(self.critic_steps):
            with self._autocast():
                real, fake = critic(hr), critic(sr)
                loss = self.adversarial.discriminator(real, fake)
            penalty = self.adversarial.penalty(critic, hr, sr)
            self.terms |= {"d_loss": _number(loss), "d_real": _number(real.mean()), "d_fake": _number(fake.mean())}
            if penalty is not None:
                self.terms["d_penalty"] = _number(penalty)
                loss = loss + penalty
            output[GanKeys.DLOSS] = _number(loss)
            if self.discarded.exploded(loss):
                return False
            self._step(loss, critic, self.discriminator_optimizer, self.discriminator_scaler)
            self.adversarial.constrain(critic)
        if self.discriminator_scheduler is not None:
            self.discriminator_scheduler.step()
        return True

    def _adversarial_term(self, hr: torch.Tensor, sr: torch.Tensor, output: dict[str, Any]) -> torch.Tensor:
        critic = unwrapped(self.discriminator)
        with _without_gradients(critic), self._autocast():
            real = None
            if self.adversarial.generator_needs_real:
                with torch.no_grad():
                    real = critic(hr)
            term = self.adversarial.generator(critic(sr), real)
        output[GanKeys.GLOSS] = self.terms["g_adversarial"] = _number(term)
        return term

    def _step(
        self,
        loss: torch.Tensor,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: GradScaler,
        event: Any = None,
    ) -> None:
        """Do one step of an optimiser, on gradients averaged over the processes."""
        optimizer.zero_grad(set_to_none=self.optim_set_to_none)
        scaler.scale(loss).backward()
        average_gradients(network.parameters())
        if event is not None:
            self.fire_event(event)
        scaler.step(optimizer)
        scaler.update()


def _number(value: torch.Tensor) -> float:
    return float(value.detach())


@contextmanager
def _without_gradients(network: nn.Module) -> Iterator[None]:
    """Let gradients pass through a network without storing them for its parameters."""
    trained = [p for p in network.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
