"""Draw one scale for each batch, for networks of any scale, from the seed, the epoch and the number of the batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.engines import default_prepare_batch
from monai.transforms import Compose
from torch.utils.data import Dataset

from medsr.engines.sampling import WeightedEpochSampler
from medsr.errors import InputError
from medsr.geometry import ScaleLike, as_scale, check_enlarging, scale_from_text
from medsr.transforms import ArbitraryScaleTraining


def scale_range(low: float | str, high: float | str, step: float | str = "1/10") -> list[str]:
    """Return the scales of an interval, as exact fractions: `scale_range(1.1, 4)` are the published 1.1, 1.2, ..., 4.0.

    An interval is drawn from at a stated fineness, because a scale p/q ties a patch to every p-th HR voxel and takes p
    predictions per axis: arbitrary real numbers would have no common lattice.

    Args:
        low: The smallest scale, at least 1.
        high: The largest scale; included where the steps meet it.
        step: The step between scales.

    Raises:
        InputError: No scale between the two, or a step that is not positive.
    """
    first, last, by = (Fraction(str(value)) for value in (low, high, step))
    if by <= 0 or first > last or first < 1:
        raise InputError(f"scales are from a low of at least 1 to a high by a positive step, got {low}, {high}, {step}")
    return [str(first + i * by) for i in range(int((last - first) / by) + 1)]


class ScaleSampler(WeightedEpochSampler):
    """Draw items by their weights, and one scale for each batch: yield pairs of an index and the text of a scale.

    For a data loader of `batch_size` over a `ScaledDataset`. The scale of a batch depends on the seed, the epoch and
    the number of the batch, so that a resumed run equals a straight one; under torchrun all processes have the same.

    Args:
        data: The dataset's items; their "weight" entry is used, 1 where absent.
        samples: The items drawn per epoch, over all ranks.
        batch_size: The batch size of the data loader.
        scales: The scales to draw from, with equal frequency.
        seed: The seed of the draws.

    Raises:
        InputError: Nothing to draw, no scale, or one below 1.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        samples: int,
        batch_size: int,
        scales: Iterable[ScaleLike],
        seed: int = 0,
    ) -> None:
        super().__init__(data, samples, seed)
        self.batch_size = int(batch_size)
        self.scales = _exact(scales)
        if self.batch_size < 1:
            raise InputError(f"expected a batch size of at least 1, got {batch_size}")

    def scale_of(self, batch: int) -> str:
        """Return the scale of a batch of this epoch."""
        draw = np.random.default_rng([self.seed % 2**32, self.epoch, batch]).integers(len(self.scales))
        return self.scales[int(draw)]

    def __iter__(self) -> Iterator[Any]:
        """Items of this rank in this epoch, each with the scale of its batch."""
        for place, index in enumerate(super().__iter__()):
            yield index, self.scale_of(place // self.batch_size)


class ScaledDataset(Dataset):
    """The items of a datalist, each at the scale that `ScaleSampler` asks for.

    What does not depend on chance or scale is computed once and kept in memory, as by MONAI's `CacheDataset`.

    Args:
        data: The items.
        transform: What makes patches of them.
        num_workers: Threads that fill the cache.
        progress: Show a bar meanwhile.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: ArbitraryScaleTraining,
        num_workers: int | None = 2,
        progress: bool = True,
    ) -> None:
        self.data = data
        self.transform = transform
        self._cached = CacheDataset(
            data, Compose(transform.before_scale), num_workers=num_workers, copy_cache=False, progress=progress
        )
        self._at_scale = Compose(transform.at_scale)

    def __len__(self) -> int:
        """Items."""
        return len(self.data)

    def __getitem__(self, index: tuple[int, str]) -> Any:
        """Return the item of an (index, scale)."""
        number, scale = index
        return self._at_scale({**self._cached[number], self.transform.scale_key: scale})


def each_scale(items: Sequence[Mapping[str, Any]], scales: Iterable[ScaleLike]) -> list[dict[str, Any]]:
    """Return every item at every scale, for validation.

    Raises:
        InputError: No list of scales, or an empty one.
        GridError: A scale below 1.
    """
    exact = _exact(scales)
    return [{**item, "scale": scale} for item in items for scale in exact]


def _exact(scales: Iterable[ScaleLike]) -> list[str]:
    """Return a list of scales as texts."""
    listed = isinstance(scales, Iterable) and not isinstance(scales, str | Mapping)
    found = [str(check_enlarging(as_scale(scale, 1))[0]) for scale in scales] if listed else []
    if not found:
        raise InputError(f"expected a list of one or more scales such as [1.5, 2], got {scales}")
    return found


def prepare_batch_of_scale(
    batchdata: Mapping[str, Any],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[Any, Any, tuple[Any, ...], dict[str, Any]]:
    """Return a batch's images on the device, and its scale where it has one: `prepare_batch` of MONAI's engines.

    Args:
        batchdata: "image", "label", and "scale": one text an item, all the same.
        device: The device to move images to.
        non_blocking: Do not wait for it.
        kwargs: The arguments of `Tensor.to`.

    Returns:
        LR, HR, positional arguments of the network: the scale (a fraction, or one an axis), or none; named ones: none.

    Raises:
        InputError: Items of several scales.
    """
    lr, hr = default_prepare_batch({key: batchdata[key] for key in ("image", "label")}, device, non_blocking, **kwargs)
    scales = batchdata.get("scale")
    if scales is None:
        return lr, hr, (), {}
    different = {scales} if isinstance(scales, str) else {str(scale) for scale in scales}
    if len(different) != 1:
        raise InputError(f"the items of a batch have one scale, got {', '.join(sorted(different))}")
    exact = scale_from_text(different.pop())
    return lr, hr, (exact if len(exact) > 1 else exact[0],), {}
