"""Handlers for exact resumption, clean stops, and clipped gradients."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from medsr.engines.distributed import active, rank
from medsr.errors import InputError

logger = logging.getLogger(__name__)


class SeedPerEpoch:
    """Seed every random stream from (seed, epoch) as an epoch starts, so a resumed run equals a straight one.

    Under torchrun the rank enters too, or all ranks would draw the same crops.

    Args:
        transform: the training transform; its random transforms are seeded.
        seed: of the run.
    """

    def __init__(self, transform: Any = None, seed: int = 0) -> None:
        self.transform = transform
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Register on the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed torch, numpy and the transform."""
        seed = (self.seed * 1_000_003 + engine.state.epoch * 7919 + rank() * 104_729) % 2**32
        torch.manual_seed(seed)
        np.random.seed(seed)
        if hasattr(self.transform, "set_random_state"):
            self.transform.set_random_state(seed)


class TimeBudget:
    """Stop after the last epoch that fits into a time budget; checkpoints of that epoch are written as usual.

    The next run continues from them. At least one epoch is done, so that each run gets further. Under
    torchrun the clock of rank 0 decides for all.

    Args:
        minutes: budget, counted from the start of the run; None or 0 means no limit.
    """

    def __init__(self, minutes: float | None = None) -> None:
        if minutes is not None and not minutes >= 0:
            raise InputError(f"a time budget is a number of minutes, or null for none, got {minutes}")
        self.minutes = minutes
        self.started = 0.0
        self.epochs = 0

    def attach(self, engine: Engine) -> None:
        """Register on the trainer."""
        if self.minutes:
            engine.add_event_handler(Events.STARTED, self.start)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def start(self, engine: Engine) -> None:
        """Start the clock."""
        self.started = time.monotonic()
        self.epochs = 0

    def __call__(self, engine: Engine) -> None:
        """Stop if another epoch of average length would exceed the budget."""
        self.epochs += 1
        elapsed = time.monotonic() - self.started
        stop = [elapsed * (1 + 1 / self.epochs) > 60 * (self.minutes or 0)]
        if active():
            dist.broadcast_object_list(stop, src=0)  # a rank that goes on alone would wait for the others for ever
        if stop[0]:
            logger.info("time budget of %g minutes: stopped after epoch %d", self.minutes, engine.state.epoch)
            engine.terminate()


class GradientClipping:
    """Rescale gradients before the optimiser step.

    Args:
        optimizer: its step is preceded by the clipping.
        threshold: norm gamma, of all gradients together, above which they are changed; None or 0 for never.
        mode: "norm" rescales to norm gamma (what equation 9 of Pham et al. must mean); "pham" divides by
            gamma, as it is printed, which enlarges gradients where gamma is below 1.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, threshold: float | None, mode: str = "norm") -> None:
        if mode not in ("norm", "pham"):
            raise InputError(f"the mode of gradient clipping is 'norm' or 'pham', got {mode!r}")
        if threshold is not None and not threshold >= 0:
            raise InputError(f"the threshold of gradient clipping is a norm, or null for none, got {threshold}")
        self.threshold = threshold
        self.mode = mode
        self.optimizer = optimizer

    def attach(self, engine: Engine) -> None:
        """Hook the optimiser for the duration of the program."""
        if self.threshold:
            self.optimizer.register_step_pre_hook(self.clip)

    def clip(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Clip the gradients of all parameters of the optimiser."""
        threshold = float(self.threshold or 0)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if self.mode == "norm":
            torch.nn.utils.clip_grad_norm_(parameters, threshold)
            return
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if norm > threshold:
            for p in parameters:
                if p.grad is not None:
                    p.grad.div_(threshold)
