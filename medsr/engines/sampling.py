"""Weighted sampling that depends on nothing but seed and epoch: a resumed run draws the same items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

import ignite.distributed as idist
import torch
from torch.utils.data import DistributedSampler

from medsr.errors import InputError


class WeightedEpochSampler(DistributedSampler):
    """Draw `samples` items an epoch with replacement, by weight; split over the ranks under torchrun.

    It is a `DistributedSampler` because MONAI's engines tell such a sampler the epoch.

    Args:
        data: The dataset's items; their "weight" entry is used, 1 where absent.
        samples: The items drawn per epoch, over all ranks.
        seed: The seed of the draw, together with the epoch.

    Raises:
        InputError: Nothing to draw from or nothing to draw, a negative weight, or no positive one.
    """

    def __init__(self, data: Sequence[dict[str, Any]], samples: int, seed: int = 0) -> None:
        if not data or samples < 1:
            raise InputError(f"expected training items and samples to draw, got {len(data)} items, {samples} samples")
        super().__init__(data, num_replicas=idist.get_world_size(), rank=idist.get_rank(), seed=seed)  # type: ignore[arg-type]
        self.weights = torch.tensor([float(item.get("weight", 1.0)) for item in data], dtype=torch.float64)
        if not (self.weights.min() >= 0 and self.weights.sum() > 0):
            raise InputError("the weights of training items must not be negative, nor all zero; correct the datalist")
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
