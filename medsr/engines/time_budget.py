"""The handler that stops a training cleanly when its time is used up."""

from __future__ import annotations

import logging
import time

import ignite.distributed as idist
from ignite.engine import Engine, Events

from medsr.errors import InputError

logger = logging.getLogger(__name__)


class TimeBudget:
    """A handler that stops a run after the last epoch that fits into a time budget.

    The checkpoint of that epoch is written as usual, and the next run continues from it. At least one epoch is done,
    so that each run makes progress. Under torchrun the clock of rank 0 decides for all.

    Args:
        minutes: The time budget in minutes, counted from the start of the run; None or 0 means no limit.

    Raises:
        InputError: If the time budget is negative.
    """

    def __init__(self, minutes: float | None = None) -> None:
        if minutes is not None and not minutes >= 0:
            raise InputError(f"a time budget must be at least 0 minutes, or null for no limit, got {minutes}")
        self.minutes = minutes
        self.started = 0.0
        self.epochs = 0

    def attach(self, engine: Engine) -> None:
        """Register the handler with the trainer."""
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
        stop = elapsed * (1 + 1 / self.epochs) > 60 * (self.minutes or 0)
        if idist.broadcast(float(stop), src=0):  # a rank that continued alone would wait for the others for ever
            logger.info("time budget of %g minutes: stopped after epoch %d", self.minutes, engine.state.epoch)
            engine.terminate()
