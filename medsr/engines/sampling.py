"""Weighted sampling that depends only on the seed and the epoch, so that a resumed run draws the same items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

import ignite.distributed as idist
import torch
from torch.utils.data import DistributedSampler

from medsr.errors import InputError


class WeightedEpochSampler(DistributedSampler):
    """A sampler that draws `samples` items per epoch with replacement, by weight; torchrun splits them over the ranks.

    It is a `DistributedSampler` because MONAI's engines tell such a sampler the epoch.

    Args:
        data: The dataset's items, with their weights in the entry "weight"; 1 where it is absent.
        samples: The number of items drawn per epoch, over all ranks.
        seed: The seed of the draw, together with the epoch.

    Raises:
        InputError: If there are no items, nothing to draw, a negative weight, or no positive weight.
    """

    def __init__(self, data: Sequence[dict[str, Any]], samples: int, seed: int = 0) -> None:
        if not data or samples < 1:
            raise InputError(
                f"expected at least one training item and one sample, got {len(data)} items and {samples} samples"
            )
        super().__init__(data, num_replicas=idist.get_world_size(), rank=idist.get_rank(), seed=seed)  # type: ignore[arg-type]
        self.weights = torch.tensor([float(item.get("weight", 1.0)) for item in data], dtype=torch.float64)
        if not (self.weights.min() >= 0 and self.weights.sum() > 0):
            raise InputError("the weights of training items must not be negative, nor all zero; correct the datalist")
        self.num_samples = ceil(samples / self.num_replicas)

    def __iter__(self) -> Iterator[int]:
        """Return the indices of this rank's items in this epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        total = self.num_samples * self.num_replicas
        drawn = torch.multinomial(self.weights, total, replacement=True, generator=generator)
        return iter(drawn[self.rank :: self.num_replicas].tolist())

    def __len__(self) -> int:
        """Return the number of this rank's items per epoch."""
        return self.num_samples
