"""Checkpoints that a stopped run continues from."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.handlers import CheckpointLoader, CheckpointSaver

logger = logging.getLogger(__name__)


class Checkpoints:
    """Save everything a run needs after every epoch, and continue from it when the run is started again.

    Together with `SeedPerEpoch` and `WeightedEpochSampler` a continued run equals a straight one. The last two
    checkpoints are kept; the best network by the validation metric is `best.pt` where a validator has one.

    Args:
        directory: where checkpoints are written.
        objects: what to save besides the trainer's own state: network, optimizer, scheduler.
        resume: continue from the newest checkpoint in the directory, if there is one.
        map_location: device on which a checkpoint is loaded.
    """

    def __init__(
        self, directory: str, objects: Mapping[str, Any], resume: bool = True, map_location: str = "cpu"
    ) -> None:
        self.directory = Path(directory)
        self.objects = dict(objects)
        self.resume = resume
        self.map_location = map_location

    def newest(self) -> Path | None:
        """The checkpoint of the latest epoch."""
        epochs = {
            int(match[1]): path
            for path in self.directory.glob("checkpoint_epoch=*.pt")
            if (match := re.fullmatch(r"checkpoint_epoch=(\d+)", path.stem))
        }
        return epochs[max(epochs)] if epochs else None

    def attach(self, engine: Engine) -> None:
        """Register on the trainer."""
        state = {**self.objects, "trainer": engine}
        newest = self.newest() if self.resume else None
        if newest is not None:
            logger.info("continuing from %s", newest)
            CheckpointLoader(str(newest), state, map_location=self.map_location).attach(engine)
        CheckpointSaver(str(self.directory), state, save_interval=1, n_saved=2).attach(engine)
