"""Samplers and datasets for networks of any scale: the scale of a batch follows from seed, epoch and batch number."""

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
    """Return the scales of an interval as exact fractions: `scale_range(1.1, 4)` gives the published 1.1, ..., 4.0.

    The interval has a step, because a scale p/q ties a patch to every p-th HR voxel and takes p predictions per axis:
    arbitrary real numbers would have no common lattice.

    Args:
        low: The smallest scale, at least 1.
        high: The largest scale, which is included if the steps meet it.
        step: The step between scales.

    Raises:
        InputError: If `low` is below 1 or above `high`, or the step is not positive.
    """
    first, last, by = (Fraction(str(value)) for value in (low, high, step))
    if by <= 0 or first > last or first < 1:
        raise InputError(f"a range of scales needs 1 <= low <= high and a step above 0, got {low}, {high} and {step}")
    return [str(first + i * by) for i in range(int((last - first) / by) + 1)]


class ScaleSampler(WeightedEpochSampler):
    """A sampler that draws items by their weights and one scale per batch, as pairs of an index and a scale's text.

    It serves a data loader of `batch_size` over a `ScaledDataset`. The scale of a batch depends on the seed, the epoch
    and the number of the batch, so that a resumed run equals an uninterrupted one; under torchrun all processes have
    the same scale.

    Args:
        data: The dataset's items, with their weights in the entry "weight"; 1 where it is absent.
        samples: The number of items drawn per epoch, over all ranks.
        batch_size: The batch size of the data loader.
        scales: The scales to draw from, with equal frequency.
        seed: The seed of the draws.

    Raises:
        InputError: If there is nothing to draw, or no scale, or the batch size is below 1.
        GridError: If a scale is below 1.
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
        """Yield the indices of this rank's items in this epoch, each with the scale of its batch."""
        for place, index in enumerate(super().__iter__()):
            yield index, self.scale_of(place // self.batch_size)


class ScaledDataset(Dataset):
    """The items of a datalist, each at the scale that `ScaleSampler` asks for.

    Transforms that depend neither on chance nor on the scale run once, and their results are kept in memory, as by
    MONAI's `CacheDataset`.

    Args:
        data: The items.
        transform: The transform that makes patches of them.
        num_workers: The number of threads that fill the cache.
        progress: Whether to show a progress bar while the cache is filled.
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
        """Return the number of items."""
        return len(self.data)

    def __getitem__(self, index: tuple[int, str]) -> Any:
        """Return the item of an index at a scale; `index` is the pair of both."""
        number, scale = index
        return self._at_scale({**self._cached[number], self.transform.scale_key: scale})


def each_scale(items: Sequence[Mapping[str, Any]], scales: Iterable[ScaleLike]) -> list[dict[str, Any]]:
    """Return every item at every scale, for validation.

    Raises:
        InputError: If `scales` is not a list, or is empty.
        GridError: If a scale is below 1.
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
    """Return a batch's images on the device, and its scale if it has one, as `prepare_batch` of MONAI's engines.

    Args:
        batchdata: The batch, with "image", "label" and, for networks of any scale, "scale": one text per item, all
            equal.
        device: The device to move the images to.
        non_blocking: Whether the copy to the device is asynchronous.
        kwargs: The arguments of `Tensor.to`.

    Returns:
        The LR images, the HR images, the positional arguments of the network (the scale as a fraction or one fraction
        per axis, or none), and the named arguments (none).

    Raises:
        InputError: If the items have different scales.
    """
    lr, hr = default_prepare_batch({key: batchdata[key] for key in ("image", "label")}, device, non_blocking, **kwargs)
    scales = batchdata.get("scale")
    if scales is None:
        return lr, hr, (), {}
    different = {scales} if isinstance(scales, str) else {str(scale) for scale in scales}
    if len(different) != 1:
        raise InputError(
            f"the items of a batch must have one scale, got {', '.join(sorted(different))}; use batches of one item"
        )
    exact = scale_from_text(different.pop())
    return lr, hr, (exact if len(exact) > 1 else exact[0],), {}
