"""The precision and layout of a training run: as the user says, as its checkpoint says, or measured at its start."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from torch import nn
from torch.amp import GradScaler

from medsr.engines.measured import INITIAL_SCALE, LAYOUTS, Choice, Trial, arranged, choose, lay_out, precisions_of
from medsr.errors import InputError
from medsr.inferers import ForwardInferer

logger = logging.getLogger(__name__)

AUTO = "auto"


class ChosenForward(Inferer):
    """The inferer of a training that runs the network in the chosen precision and layout, and the handler that chooses.

    "auto" is measured at the first batch of a run, see `medsr.engines.measured.choose`, and stays the same in a run
    that is continued: checkpoints hold the choice, as "choice", with the state of the gradient scaler. What is stated
    overrides the checkpoint. Without a choice (float32 and contiguous) the given inferer runs as if this one were
    absent. With several processes all take what rank 0 measured, and only precisions are measured.

    Register it on the trainer after `Checkpoints`.

    Args:
        network: The network that is trained, on its device.
        inferer: The inferer of the trainer.
        precision: "auto", "float32", "bfloat16", or "float16" on CUDA.
        layout: "auto", "contiguous" or "channels_last" (for volumes torch's channels_last_3d).
        threads: The number of CPU threads, or "auto"; None leaves it as it is.
        copies: Further networks that run in the layout, such as the averaged one.
        before_step: What is called before the steps that are measured, see `Trial`.
        scaling: Whether the trainer scales gradients (MONAI's `SupervisedTrainer`), which float16 needs.

    Raises:
        InputError: Another precision or layout, or float16 where it cannot be had.
    """

    def __init__(
        self,
        network: nn.Module,
        inferer: Inferer | None = None,
        precision: str = "float32",
        layout: str = "contiguous",
        threads: int | str | None = None,
        copies: Sequence[nn.Module] = (),
        before_step: Sequence[Callable[..., None]] = (),
        scaling: bool = True,
    ) -> None:
        self.device = next(network.parameters()).device
        possible = precisions_of(self.device)[: None if scaling else 2]
        if precision not in (AUTO, *possible):
            raise InputError(
                f"a precision to train in on {self.device.type} is one of {', '.join((AUTO, *possible))}, "
                f"got {precision!r}"
            )
        if layout not in (AUTO, *LAYOUTS):
            raise InputError(f"a layout is one of {', '.join((AUTO, *LAYOUTS))}, got {layout!r}")
        self.network = network
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.given = {"precision": precision, "layout": layout, "threads": threads}
        self.possible, self.copies, self.before_step = possible, tuple(copies), tuple(before_step)
        self.choice = Choice()
        self.scaler = GradScaler(self.device.type, INITIAL_SCALE) if "float16" in possible else None
        self._kept: dict[str, Any] = {}
        self._compiled: Any = None

    def attach(self, engine: Engine) -> None:
        """Register on the trainer."""
        engine.add_event_handler(Events.STARTED, self.start)

    def state_dict(self) -> dict[str, Any]:
        """Return the choice, for checkpoints."""
        scaled = self.scaler is not None and self.choice.precision == "float16"
        return {**asdict(self.choice), "scaler": self.scaler.state_dict() if self.scaler and scaled else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the choice of a checkpoint, as far as none was stated and this device can run it."""
        self._kept = dict(state)
        if state["precision"] not in self.possible:
            logger.warning("the checkpoint's %s is not for this machine, it is measured anew", state["precision"])
            self._kept = {}

    def start(self, engine: Engine) -> None:
        """Take what was stated, else what the checkpoint says; leave the rest to the first batch."""
        settled: dict[str, Any] = {
            key: self._kept.get(key, AUTO) if value == AUTO else value for key, value in self.given.items()
        }
        if AUTO not in settled.values():
            measured = self.given["precision"] == AUTO and self.device.type == "cuda"
            compiled = measured and bool(self._kept.get("compiled"))
            self._take(engine, Choice(**settled, compiled=compiled))
            return

        def first(engine: Engine) -> None:
            engine.remove_event_handler(first, Events.ITERATION_STARTED)
            self._take(engine, self._measured(engine, settled))

        engine.add_event_handler(Events.ITERATION_STARTED, first)

    def _measured(self, engine: Any, settled: dict[str, Any]) -> Choice:
        """Return the fastest choice for the batch of an iteration that has just started."""
        batch = engine.prepare_batch(engine.state.batch, self.device, engine.non_blocking, **engine.to_kwargs)
        lr, hr, arguments, _ = batch if len(batch) == 4 else (*batch, (), {})
        alone = idist.get_world_size() == 1  # the buckets of DistributedDataParallel know the layout of gradients
        trial = Trial(self.network, engine.optimizer, engine.loss_function, lr, hr, arguments, self.before_step)
        number = settled["threads"]
        here = torch.get_num_threads()
        choice, _ = choose(
            trial,
            self.possible if settled["precision"] == AUTO else [settled["precision"]],
            (LAYOUTS if alone else LAYOUTS[:1]) if settled["layout"] == AUTO else [settled["layout"]],
            sorted({here, max(1, here // 2), 1}, reverse=True) if number == AUTO else (),
            # Each scale of a network of any scale would be compiled anew.
            compiling=self.device.type == "cuda" and alone and not arguments and settled["precision"] == AUTO,
        )
        if number != AUTO:
            choice = replace(choice, threads=number)
        return choice if alone else Choice(**json.loads(str(idist.broadcast(json.dumps(asdict(choice)), src=0))))

    def _take(self, engine: Any, choice: Choice) -> None:
        """Train in this choice from now on."""
        self.choice = choice
        if choice.threads is not None:
            torch.set_num_threads(choice.threads)
        if choice.layout != "contiguous":
            for network in (self.network, *self.copies):
                lay_out(network, choice.layout)
        if choice.compiled:
            self._compiled = torch.compile(self.network)
        if choice.precision == "float16" and self.scaler is not None:
            if self._kept.get("scaler"):
                self.scaler.load_state_dict(self._kept["scaler"])
            engine.amp, engine.scaler = True, self.scaler  # MONAI's trainer then scales the loss

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return the output of the network (B, C, *spatial) for `inputs`, in float32."""
        choice = self.choice
        if choice.precision == "float32" and choice.layout == "contiguous" and not choice.compiled:
            return self.inferer(inputs, network, *args, **kwargs)
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        image = arranged(image, choice.layout)
        forward = network if self._compiled is None else self._compiled
        if type(self.inferer) in (SimpleInferer, ForwardInferer):  # the latter would turn autocast off
            return ForwardInferer(choice.precision)(image, forward, *args, **kwargs)
        return ForwardInferer(choice.precision)(image, lambda x: self.inferer(x, forward, *args, **kwargs))
