"""The handler that seeds all random generators from the seed and the epoch alone."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events


class SeedPerEpoch:
    """A handler that seeds all random generators from (seed, epoch) when an epoch starts.

    A resumed run then equals an uninterrupted one. Under torchrun the seed also depends on the rank, because otherwise
    all ranks would draw the same crops.

    Args:
        transform: The training transform; its random transforms are seeded.
        seed: The seed of the run.
    """

    def __init__(self, transform: Any = None, seed: int = 0) -> None:
        self.transform = transform
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Register the handler with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed torch, numpy and the transform."""
        seed = (self.seed * 1_000_003 + engine.state.epoch * 7919 + idist.get_rank() * 104_729) % 2**32
        torch.manual_seed(seed)
        np.random.seed(seed)
        if hasattr(self.transform, "set_random_state"):
            self.transform.set_random_state(seed)
