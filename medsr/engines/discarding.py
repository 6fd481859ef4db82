"""Batches with exploding losses, which are left out of training, counted and logged (Zhu 2022, section 4.3.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch

from medsr.engines.distributed import any_process
from medsr.errors import InputError

logger = logging.getLogger(__name__)

EXPLOSION = 1e8  # the dissertation's value


class DiscardedBatches:
    """The check for unusable losses, with a count of their batches that is part of a run's checkpoints.

    Args:
        explosion: The absolute value of a loss from which its batch is discarded.

    Raises:
        InputError: If `explosion` is not positive.
    """

    def __init__(self, explosion: float = EXPLOSION) -> None:
        if not explosion > 0:
            raise InputError(f"explosion must be a positive number such as {EXPLOSION:g}, got {explosion}")
        self.explosion = float(explosion)
        self.count = 0

    def exploded(self, loss: torch.Tensor) -> bool:
        """Return whether a loss is not finite or too large in any process."""
        size = abs(float(loss.detach()))
        return any_process(not size < self.explosion)  # also true of NaN

    def say(self, iteration: int, losses: Mapping[str, float]) -> None:
        """Count a batch, and log why it is discarded."""
        self.count += 1
        logger.warning(
            "iteration %d: %s; a loss is not finite or reaches %g, so the batch is discarded (%d so far)",
            iteration,
            ", ".join(f"{name} {value:g}" for name, value in losses.items()),
            self.explosion,
            self.count,
        )

    def state_dict(self) -> dict[str, int]:
        """Return the count for a checkpoint; see `Checkpoints`."""
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore the count from a checkpoint; see `Checkpoints`."""
        self.count = int(state["count"])
