"""Images with the spectrum of images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def natural_image() -> Callable[..., np.ndarray]:
    """Make a random image (1, *shape), in [0, 1], whose power falls with frequency as that of real ones does."""

    def make(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        grid = np.meshgrid(*[np.fft.fftfreq(n) for n in shape], indexing="ij", sparse=True)
        radius = np.sqrt(sum(f**2 for f in grid))
        radius.flat[0] = 1
        fall = 0.7 + len(shape) / 2  # so that the power along an axis, over all lines, falls with the exponent 2.4
        image = np.fft.ifftn(np.fft.fftn(rng.normal(size=shape)) / radius**fall).real
        return ((image - image.min()) / (image.max() - image.min()))[None]

    return make
