"""Random places with something to see, so that background is not learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from medsr.errors import InputError

Image = TypeVar("Image", bound=torch.Tensor)


def contrast(image: torch.Tensor) -> float:
    """Return the largest standard deviation of a channel of (C, *spatial).

    That channels differ from one another says nothing.
    """
    return max(float(channel.std()) for channel in torch.Tensor.as_subclass(image, torch.Tensor))


@dataclass(frozen=True)
class InformativePlaces:
    """Draw a place again while what is there is nearly constant.

    Attributes:
        minimum_deviation: standard deviation below which another place is drawn.
        tries: draws before an empty place is accepted.

    Raises:
        InputError: no draw at all.
    """

    minimum_deviation: float
    tries: int

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise InputError(f"a patch is drawn at least once, got tries={self.tries}")

    def draw(
        self, random: np.random.RandomState, counts: Sequence[int], cut: Callable[[list[int]], Image]
    ) -> tuple[list[int], Image]:
        """Return a place and what is there.

        Args:
            random: where the numbers come from: one for each axis and try.
            counts: number of places along each axis.
            cut: make the patch at a place, given by its number along each axis.
        """
        for _ in range(self.tries):
            place = [int(random.randint(count)) for count in counts]
            patch = cut(place)
            if contrast(patch) > self.minimum_deviation:
                break
        return place, patch
