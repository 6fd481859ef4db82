"""Draw the batches of an epoch from many patches of each volume."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import DataLoader, Dataset, ThreadBuffer, list_data_collate
from monai.data.utils import worker_init_fn

from medsr.engines import WeightedEpochSampler
from medsr.errors import InputError

_AHEAD_OF_GPU = 4  # batches


class PatchLoader(DataLoader):
    """Draw batches of patches from a dataset whose items are lists of patches, mixed in a buffer.

    A volume is drawn by the weights of the dataset's items, degraded and made consistent once, and gives many patches.
    They go into a buffer from which batches are drawn at random, so that a batch holds patches of several volumes. What
    an epoch draws depends on nothing but seed, epoch and the number of workers.

    Args:
        dataset: The dataset, with its items in `data`; what it returns is a list of patches.
        batch_size: The patches of a batch.
        steps: The batches of an epoch, over all processes.
        seed: The seed of the draws.
        buffer: The patches among which the next one is drawn.
        ahead: The batches that a thread prepares beside the training step. 0 prepares them in turn, which is as fast
            where the processor itself trains. None prepares some where there is a GPU.
        num_workers: The processes that prepare volumes; 0 prepares them in this one.

    Raises:
        InputError: If there is nothing to draw, or a number is below its bound.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        steps: int,
        *,
        seed: int = 0,
        buffer: int = 256,
        ahead: int | None = None,
        num_workers: int = 0,
    ) -> None:
        if ahead is None:
            ahead = _AHEAD_OF_GPU if torch.cuda.is_available() else 0
        if min(batch_size, steps, buffer) < 1 or min(ahead, num_workers) < 0:
            raise InputError(
                "expected at least one patch a batch, one step and one patch in the buffer, and no negative number "
                f"ahead or of workers; got {batch_size}, {steps}, {buffer}, {ahead} and {num_workers}"
            )
        self.steps = ceil(steps / idist.get_world_size())
        self.buffer, self.ahead, self.seed, self.workers = buffer, ahead, seed, num_workers
        patches = self.steps * batch_size * idist.get_world_size()  # enough: a volume gives at least one
        sampler = WeightedEpochSampler(dataset.data, patches, seed)
        super().__init__(dataset, batch_size=batch_size, sampler=sampler, num_workers=0)

    def __len__(self) -> int:
        """Return the batches of an epoch, of this process."""
        return self.steps

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's own iterates over single items
        """Return the batches of this epoch."""
        return iter(ThreadBuffer(self._batches(), self.ahead) if self.ahead else self._batches())

    def _batches(self) -> Iterator[Any]:
        seed = self.seed * 1_000_003 + self.sampler.epoch * 7919 + idist.get_rank()  # type: ignore[attr-defined]
        random = np.random.RandomState(seed % 2**32)
        volumes = iter(self._volumes())
        pool: list[Any] = []
        missing = self.steps * int(self.batch_size or 1)
        for _ in range(self.steps):
            batch = []
            for _ in range(int(self.batch_size or 1)):
                while missing > 0 and len(pool) < self.buffer:
                    patches = next(volumes)[:missing]
                    missing -= len(patches)
                    pool += patches
                chosen = random.randint(len(pool))
                pool[chosen], pool[-1] = pool[-1], pool[chosen]
                batch.append(pool.pop())
            yield list_data_collate(batch)

    def _volumes(self) -> Any:
        """Return the lists of patches of the volumes that are drawn, one by one."""
        if self.workers == 0:
            return (self.dataset[index] for index in self.sampler)
        return torch.utils.data.DataLoader(
            self.dataset,
            batch_size=None,
            sampler=self.sampler,
            num_workers=self.workers,
            worker_init_fn=worker_init_fn,
            collate_fn=list,
        )
