"""Gaussian degradation against scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from medsr import degradation


@pytest.mark.parametrize("scale", [(2, 2, 2), (3, 3, 3), (1, 1, 3), (1.5, 2, 1)])
def test_equals_scipy_blur_then_zoom(scale):
    hr = np.random.default_rng(0).random((18, 12, 24))
    protocol = degradation.get("gaussian-blur")
    sigma = [0 if s == 1 else 1 for s in scale]
    blurred = ndimage.gaussian_filter(hr, sigma, mode="reflect", truncate=4)
    expected = ndimage.zoom(blurred, [1 / s for s in scale], order=3, mode="nearest", grid_mode=True)
    lr = protocol(torch.from_numpy(hr)[None, None], scale)
    np.testing.assert_allclose(lr[0, 0], expected, atol=1e-12)


def test_unscaled_axes_are_blurred_when_asked():
    hr = np.random.default_rng(0).random((12, 12))
    lr = degradation.get("gaussian-blur", blur_unscaled_axes=True)(torch.from_numpy(hr)[None, None], 1)
    np.testing.assert_allclose(lr[0, 0], ndimage.gaussian_filter(hr, 1), atol=1e-12)
