"""Batches whose losses explode are left out of training, counted and named (Zhu 2022, section 4.3.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch

from medsr.engines.distributed import any_process
from medsr.errors import InputError

logger = logging.getLogger(__name__)

EXPLOSION = 1e8  # of the dissertation


class DiscardedBatches:
    """Tell which losses are unusable, and count their batches; a part of a run's checkpoints.

    Args:
        explosion: The size of a loss from which its batch is discarded.

    Raises:
        InputError: A size that is not positive.
    """

    def __init__(self, explosion: float = EXPLOSION) -> None:
        if not explosion > 0:
            raise InputError(f"a loss explodes at a positive number, got {explosion}")
        self.explosion = float(explosion)
        self.count = 0

    def exploded(self, loss: torch.Tensor) -> bool:
        """Return whether a loss is not finite or too large, in any process."""
        size = abs(float(loss.detach()))
        return any_process(not size < self.explosion)  # NaN is not smaller

    def say(self, iteration: int, losses: Mapping[str, float]) -> None:
        """Count a batch, and log why it is discarded."""
        self.count += 1
        logger.warning(
            "iteration %d: %s; a loss is not finite or reaches %g, the batch is discarded (%d so far)",
            iteration,
            ", ".join(f"{name} {value:g}" for name, value in losses.items()),
            self.explosion,
            self.count,
        )

    def state_dict(self) -> dict[str, int]:
        """For `Checkpoints`."""
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """For `Checkpoints`."""
        self.count = int(state["count"])
