"""Draw random places that are not empty, so that networks do not learn the background."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from medsr.errors import InputError

Image = TypeVar("Image", bound=torch.Tensor)


def contrast(image: torch.Tensor) -> float:
    """Return the largest standard deviation within a channel of (C, *spatial).

    Differences between channels do not count.
    """
    return max(float(channel.std()) for channel in torch.Tensor.as_subclass(image, torch.Tensor))


@dataclass(frozen=True)
class InformativePlaces:
    """The rule of random places: a place is drawn again while the patch there is nearly constant.

    Attributes:
        minimum_deviation: The standard deviation below which another place is drawn.
        tries: The number of draws before an empty place is accepted.

    Raises:
        InputError: If `tries` is below 1.
    """

    minimum_deviation: float
    tries: int

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise InputError(f"a patch is drawn at least once, got tries={self.tries}")

    def draw(
        self, random: np.random.RandomState, counts: Sequence[int], cut: Callable[[list[int]], Image]
    ) -> tuple[list[int], Image]:
        """Return a place and the patch there.

        Args:
            random: The random generator; it is asked for one number per axis and try.
            counts: The number of places along each axis.
            cut: A function that cuts the patch at a place, given by its number along each axis.
        """
        for _ in range(self.tries):
            place = [int(random.randint(count)) for count in counts]
            patch = cut(place)
            if contrast(patch) > self.minimum_deviation:
                break
        return place, patch
