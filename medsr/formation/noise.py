"""Estimate the noise of an image from its finest details."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, uniform_filter

Array = NDArray[Any]

# The high-pass filter of the Daubechies wavelet with two vanishing moments (Daubechies 1988, table 1): edges that are
# straight lines between voxels give nothing.
_ROOT = np.sqrt(3.0)
_DETAIL = np.array([1 - _ROOT, -(3 - _ROOT), 3 + _ROOT, -(1 + _ROOT)]) / (4 * np.sqrt(2.0))
_BLOCK = 5  # voxels along an axis of the blocks in which details are measured
_LARGEST = 160  # voxels along an axis of the middle of the image that is looked at
_FEWEST = 8  # voxels along an axis
_BACKGROUND = 0.05  # of the 99th percentile; below it lie air, where magnitude noise is not normal, and masks

# 5th percentile over median of the mean squared details in blocks: of white noise (by dimensions), and of
# the structures of images without noise (0.17 to 0.39 over formations and training images).
_QUIET = 5.0
_OF_NOISE = {2: 0.47, 3: 0.67}
_OF_STRUCTURE = 0.33


def noise_sigma(image: Array, axes: Sequence[int], acquired: Sequence[float]) -> float:
    """Return the standard deviation of the noise, from the finest diagonal wavelet details.

    Structures rarely have details along all axes at once, noise has (Donoho and Johnstone 1994, section 4.2). What is
    left of structures is told from noise by its places: noise is the same everywhere, structures are not. The mean
    squared details d in blocks of foreground are noise n and structure s, so that their median and 5th percentile are

        d50 = n + s,  d5 = a n + b s

    with `a` of white noise and `b` of images without noise. Axes that are zero-filled have no noise at the finest
    frequencies and are brought to the voxels that were acquired before.

    Args:
        image: (C, *spatial).
        axes: The spatial axes to look along.
        acquired: The fraction of the Nyquist frequency that was acquired, per spatial axis.
    """
    middle_part = tuple(slice(max(n - _LARGEST, 0) // 2, max(n - _LARGEST, 0) // 2 + _LARGEST) for n in image.shape[1:])
    values = image[(slice(None), *middle_part)].astype(np.float64)
    for axis, part in enumerate(acquired):
        if part < 1:
            values = _at_acquired_voxels(values, axis + 1, part)
    usable = [axis + 1 for axis in axes if values.shape[axis + 1] >= _FEWEST]
    if not usable:
        return 0.0
    detail = values
    for axis in usable:
        detail = correlate1d(detail, _DETAIL, axis=axis, mode="mirror")
    size = [1] + [_BLOCK if n >= _FEWEST else 1 for n in values.shape[1:]]
    inside = uniform_filter((values > _BACKGROUND * np.percentile(values, 99)).astype(np.float64), size) > 0.999
    squares = uniform_filter(detail**2, size)[inside]
    if not squares.size:
        return 0.0
    low, middle = np.percentile(squares, [_QUIET, 50.0])
    of_noise = _OF_NOISE[max(sum(n > 1 for n in size), 2)]
    variance = (low - _OF_STRUCTURE * middle) / (of_noise - _OF_STRUCTURE)
    return float(np.sqrt(min(max(variance, 0.0), middle)))


def _at_acquired_voxels(values: Array, axis: int, part: float) -> Array:
    """Return the image with the empty outer part of its k-space cut off along an axis; the noise stays per voxel.

    White noise of the acquired voxels that was zero-filled has its standard deviation times the square root of `part`.
    """
    n = values.shape[axis]
    kept = max(int(n * part) // 2 * 2, 2)
    spectrum = np.fft.rfft(values, axis=axis)
    cut = np.take(spectrum, range(kept // 2 + 1), axis=axis)
    return np.asarray(np.fft.irfft(cut, kept, axis=axis) * (kept / n), dtype=np.float64)
