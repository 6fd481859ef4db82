"""Weighted sampling that depends on nothing but seed and epoch, so that a resumed run draws the same items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DistributedSampler


class WeightedEpochSampler(DistributedSampler):  # type: ignore[type-arg]
    """Draw `samples` items an epoch with replacement, by weight; split over the ranks under torchrun.

    It is a `DistributedSampler` because MONAI's engines tell such a sampler the epoch.

    Args:
        data: the dataset's items; their "weight" entry is used, 1 where absent.
        samples: items drawn per epoch, over all ranks.
        seed: of the draw, together with the epoch.
    """

    def __init__(self, data: Sequence[dict[str, Any]], samples: int, seed: int = 0) -> None:
        distributed = dist.is_available() and dist.is_initialized()
        replicas = dist.get_world_size() if distributed else 1
        super().__init__(data, num_replicas=replicas, rank=dist.get_rank() if distributed else 0, seed=seed)
        self.weights = torch.tensor([float(item.get("weight", 1.0)) for item in data], dtype=torch.float64)
        self.num_samples = ceil(samples / self.num_replicas)

    def __iter__(self) -> Iterator[int]:
        """Indices of this rank's items in this epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        total = self.num_samples * self.num_replicas
        drawn = torch.multinomial(self.weights, total, replacement=True, generator=generator)
        return iter(drawn[self.rank :: self.num_replicas].tolist())

    def __len__(self) -> int:
        """Items of this rank per epoch."""
        return self.num_samples
