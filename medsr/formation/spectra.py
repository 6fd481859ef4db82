"""Power spectra of an image along its axes: where they end, and how they decay towards the Nyquist frequency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BANDS = ((0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.9), (0.9, 1.0))  # fractions of Nyquist; the first is the reference
FEWEST = 14  # voxels along an axis, below which its spectrum says nothing
FEWEST_FOR_EDGE = 24  # the same for where k-space ends

_EDGE = 5.0  # least drop of the logarithm of power at the edge of the acquired k-space (a factor of 150) ...
_SHARP = 4.0  # ... which is this many times that over as many frequencies before it
FEWEST_FOR_STEP = 64  # the same for an edge that a filter has smoothed
_STEP = 1.5  # least drop of the logarithm of power (a factor of 4.5) over ...
_STEP_WIDTH = 0.08  # ... this fraction of the Nyquist frequency, in a step with a smoothed edge
_ENOUGH = 1 << 22  # voxels; of larger images every second line is passed over, as often as it takes
_FINER = 4  # frequencies per frequency of the image, for averages over bands
_GAP = 3  # frequencies that an edge is wide: the Hann window smears it over one on each side


def power_spectrum(image: Array, axis: int, finer: int = 1) -> Array:
    """Return the power at 0 to Nyquist along one axis, averaged over all lines, weighted by a Hann window.

    The window makes an image that is cut off at its borders periodic; of frequencies that are not there it spreads
    each over its neighbours only.

    Args:
        image: (C, *spatial).
        axis: The spatial axis.
        finer: How many frequencies to return for each frequency of the image.
    """
    power = np.abs(_spectrum(_lines(image, axis), finer)) ** 2
    return np.asarray(power.reshape(-1, power.shape[-1]).mean(axis=0), dtype=np.float64)


def _lines(image: Array, axis: int) -> Array:
    """Return the lines (..., n) along an axis; of a large image not all of them."""
    lines = np.moveaxis(image, axis + 1, -1)
    while lines.size > _ENOUGH:
        longest = int(np.argmax(lines.shape[:-1]))
        if lines.shape[longest] == 1:
            break
        lines = lines[(slice(None),) * longest + (slice(None, None, 2),)]
    return lines.astype(np.float64)


def _spectrum(lines: Array, finer: int = 1) -> Array:
    n = lines.shape[-1]
    return np.fft.rfft((lines - lines.mean(axis=-1, keepdims=True)) * _hann(n), n * finer, axis=-1)


def acquired_fraction(image: Array, axis: int) -> float:
    """Return the fraction of the Nyquist frequency where the acquired k-space ends; 1 if it fills the spectrum.

    An image that is zero-filled has a cliff in its spectrum: the power drops by a large factor within a few
    frequencies, much faster than before, and stays low. The decay of images and of blur is smooth.

    Args:
        image: (C, *spatial).
        axis: The spatial axis.
    """
    n = image.shape[axis + 1]
    if n < FEWEST_FOR_EDGE:
        return 1.0
    power = power_spectrum(image, axis)
    if not power.max() > 0:
        return 1.0
    level = np.log(np.maximum(power, power.max() * 1e-13))
    edge = _cliff(level)
    if edge is None and n >= FEWEST_FOR_STEP:
        edge = _step(level)
    return 1.0 if edge is None else float(min(edge * 2 / n, 1.0))


def _cliff(level: Array) -> float | None:
    """Return the frequency beyond which nothing was acquired, where no filter smooths the edge."""
    best, edge = 0.0, None
    for k in range(2 * _GAP, len(level) - _GAP):
        drop, before = level[k] - level[k + _GAP], level[k - _GAP] - level[k]
        low = level[k + _GAP :].max() <= level[k] - 0.8 * drop
        if low and drop >= _EDGE and drop >= _SHARP * max(before, 0.1) and drop > best:
            steps = level[k : k + _GAP] - level[k + 1 : k + _GAP + 1]
            best, edge = drop, k + int(np.argmax(steps)) - 0.5  # the window spreads the edge by one frequency
    return edge


def _step(level: Array) -> float | None:
    """Return where a step ends whose edge a filter has smoothed, with what magnitude and noise put beyond it.

    The magnitude of a noisy complex image has power beyond the acquired frequencies, some percent of that within.
    """
    wide = max(round(_STEP_WIDTH * (len(level) - 1)), _GAP)
    smooth = np.convolve(np.pad(level, 1, mode="edge"), np.ones(3) / 3, mode="valid")
    best, edge = 0.0, None
    for k in range(3 * wide, len(level) - 2 * wide):
        drop = smooth[k] - smooth[k + wide]
        before, after = smooth[k - 3 * wide] - smooth[k - 2 * wide], smooth[k + wide] - smooth[k + 2 * wide]
        rise = smooth[k + wide :].max() - smooth[k + wide]
        if drop >= max(_STEP, 3 * before, 2 * after, 3 * rise) and drop > best:
            best, edge = drop, float(k + wide)
    return edge


@dataclass(frozen=True)
class Decay:
    """How the power of an image decays along one axis.

    Attributes:
        levels: The logarithms of the power in `BANDS` but the first, over that in the first.
        noise: The part of the power in the first band that white noise of standard deviation 1 would have.
        uncertainty: The covariance of the levels, (4, 4), from the number of frequencies that they are averages of.
    """

    levels: Array
    noise: float
    uncertainty: Array


def decay(image: Array, axis: int) -> Decay | None:
    """Return how the power decays along an axis, or None if the axis is too short or the image is empty.

    Args:
        image: (C, *spatial).
        axis: The spatial axis.
    """
    n = image.shape[axis + 1]
    if n < FEWEST:
        return None
    power = power_spectrum(image, axis, _FINER)
    frequency = np.arange(len(power)) * 2 / (n * _FINER)
    means = np.array([power[(frequency >= low) & (frequency <= high)].mean() for low, high in BANDS])
    if not means[0] > 0:
        return None
    levels = np.log(np.maximum(means, means[0] * 1e-13))
    return Decay(levels[1:] - levels[0], float((_hann(n) ** 2).sum() / means[0]), _uncertainty(image, axis))


def _uncertainty(image: Array, axis: int) -> Array:
    """Return the covariance of the levels of an image whose Fourier coefficients are independent.

    A coefficient of expected power p has an exponentially distributed power of variance p^2, so that the relative
    variance of a sum of powers q is about sum(q^2) / 2 / sum(q)^2. The Hann window makes neighbours alike: twice that.
    """
    lines = _lines(image, axis)
    n = lines.shape[-1]
    others = tuple(range(1, lines.ndim - 1))  # not the channels
    power = np.abs(np.fft.fftn(_spectrum(lines), axes=others) if others else _spectrum(lines)) ** 2
    frequency = np.arange(power.shape[-1]) * 2 / n
    variances = []
    for low, high in BANDS:
        chosen = power[..., np.abs(frequency - (low + high) / 2) <= max((high - low) / 2, 1 / n)]
        variances.append((chosen**2).sum() / max(chosen.sum() ** 2, 1e-300))
    return np.asarray(np.diag(variances[1:]) + variances[0])


def _hann(n: int) -> Array:
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n), dtype=np.float64)
