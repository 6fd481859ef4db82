"""Measure in every result what users look at: noise in flat tissue, values that nothing near them supports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from monai.data import MetaTensor

from medsr.errors import InputError
from medsr.geometry import Scale, ScaleLike, as_scale, source_voxels
from medsr.interpolation import Matrix, apply_matrices, resampling_matrix

_RANGE = (0.001, 0.999)  # quantiles of the LR image: a few extreme voxels do not set the range
_FOREGROUND = 0.1  # of the range above its lower end: air, its noise and padding lie below
_FLAT = 0.2  # share of the foreground that counts as flat
_FLAT_VOXELS = 100_000  # LR voxels that a spread is taken from: its standard error is below 0.5 %
_TOLERANCE = 0.02  # of the range: less beyond the envelope is not seen
_SILENCE = 1e-4  # of the range: weaker noise is not seen, so that a phantom without noise has no gain
_PASSES = 2  # of the filter (1, 2, 1)/4: (1, 4, 6, 4, 1)/16 has a standard deviation of one SR voxel
_SLAB_VOXELS = 2**21  # SR voxels that are looked at together


@dataclass(frozen=True)
class Limits:
    """The values of `Guards` above which a user is warned.

    Attributes:
        noise_gain: Good results have 1.0 to 1.3 times the noise of a spline, woven textures 2.5 times and more.
        outside_envelope: Of a spline at most some 0.5 % of the voxels leave the envelope, of ringing results 10 % and
            more.
    """

    noise_gain: float = 1.5
    outside_envelope: float = 0.02


@dataclass(frozen=True)
class Guards:
    """What users look at in a result, measured by `measure`; None where there is nothing to measure.

    Attributes:
        noise_gain: The high-pass noise of the SR image in flat tissue over that of the cubic-spline interpolation.
        outside_envelope: The share of the foreground voxels of the SR image that leave the values of the LR voxels
            around them by more than 2 % of the LR image's range.
        consistency_before: The RMS of y - A x over the range of y, before the result was made consistent with the LR
            image y. The inferer fills it in where it knows the formation A.
        consistency_after: The same of the result.
    """

    noise_gain: float | None = None
    outside_envelope: float | None = None
    consistency_before: float | None = None
    consistency_after: float | None = None

    LIMITS: ClassVar[Limits] = Limits()

    @property
    def exceeded(self) -> bool:
        """Whether a value is above its limit in `LIMITS`."""
        return bool(self.warnings())

    def warnings(self, limits: Limits = LIMITS) -> list[str]:
        """Return one sentence for each value above its limit: what was found, and what to do."""
        found = []
        if self.noise_gain is not None and self.noise_gain > limits.noise_gain:
            found.append(
                f"the result has {self.noise_gain:.1f} times the noise of a spline in flat tissue "
                f"(limit {limits.noise_gain:g})"
            )
        if self.outside_envelope is not None and self.outside_envelope > limits.outside_envelope:
            found.append(
                f"{self.outside_envelope:.1%} of the result's foreground leaves the values of the LR voxels around it "
                f"(limit {limits.outside_envelope:.1%})"
            )
        return [f"{what}: choose other weights, state --formation, or use --safe" for what in found]

    def to_dict(self) -> dict[str, float | None]:
        """Return the fields for JSON, with four significant digits."""
        values = asdict(self).items()
        return {name: None if value is None else float(f"{value:.4g}") for name, value in values}


def measure(sr: torch.Tensor, lr: torch.Tensor, scale: ScaleLike) -> Guards:
    """Measure the guards of one result, in the largest of its channels.

    All rules are relative to the robust range of the LR image, its 0.1 % to 99.9 % quantiles, so that neither the
    units nor their sign matter:

    - Foreground: LR voxels more than a tenth of the range above its lower end, with no value that is not finite among
      their neighbours (3 per axis); and the SR voxels whose centres lie in them.
    - Flat tissue: the fifth of the foreground where the largest and the smallest of the neighbours differ least,
      without voxels where they are equal (padding, saturation). Of large images 100,000 of these, evenly chosen.
    - Noise: 1.4826 times the median absolute deviation of `x - B x` in the SR voxels of flat tissue; B is the binomial
      filter (1, 4, 6, 4, 1)/16 along each axis of the SR grid, edge voxels repeated. The gain is None if both images
      have less than 0.01 % of the range, and the spline is taken to have at least that.
    - Envelope: the smallest and the largest of the neighbours of the LR voxel in which an SR voxel lies, also along an
      axis of scale 1 (with one voxel there, a spline leaves the envelope in 4 % of a noisy FLAIR image at 1x1x3, with
      three in 0.3 %). SR values that are not finite count as outside.

    The SR image is read slab by slab along its longest axis, so that beside both images the memory is that of about
    six LR images and some slabs of 2 million voxels.

    Args:
        sr: (C, *SR spatial), any units, on any device; the work is done on it.
        lr: (C or more, *LR spatial), 2D or 3D, in the same units; the SR image's channels are the first ones.
        scale: One number or one per spatial axis.

    Raises:
        InputError: If the two images do not have as many axes, or the LR image has fewer channels.
    """
    sr, lr = (image.as_tensor() if isinstance(image, MetaTensor) else image for image in (sr, lr))
    if sr.ndim != lr.ndim or lr.shape[0] < sr.shape[0] or sr.ndim < 2:
        raise InputError(
            f"expected SR and LR images (C, *spatial) of the same channels and axes, got {tuple(sr.shape)} and "
            f"{tuple(lr.shape)}; pass one image of a batch at a time"
        )
    exact = as_scale(scale, sr.ndim - 1)
    with torch.no_grad():
        channels = [_measure_channel(sr[k], lr[k].detach().to(sr.device), exact) for k in range(sr.shape[0])]
    gains = [gain for gain, _ in channels if gain is not None]
    shares = [share for _, share in channels if share is not None]
    return Guards(max(gains, default=None), max(shares, default=None))


def _measure_channel(sr: torch.Tensor, lr: torch.Tensor, scale: Scale) -> tuple[float | None, float | None]:
    """Return noise gain and share outside the envelope of two images without channels."""
    finite = torch.isfinite(lr)
    low, width = _robust_range(lr[finite])
    if width is None or 0 in sr.shape:
        return None, None
    units = _Units(low, width)
    known = torch.where(finite, units.of(lr), torch.zeros((), device=lr.device))
    smallest, largest = known, known
    every_finite = finite.float()
    for axis in range(lr.ndim):
        smallest, largest = -_largest_near(-smallest, axis), _largest_near(largest, axis)
        every_finite = -_largest_near(-every_finite, axis)
    foreground = (known > _FOREGROUND) & (every_finite > 0)
    flat = _flat_voxels(foreground, largest - smallest)
    outside = voxels = 0
    noise: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for slab in _slabs(sr, known, scale, units):
        inside = slab.of(foreground)
        beyond = (slab.image < slab.of(smallest) - _TOLERANCE) | (slab.image > slab.of(largest) + _TOLERANCE)
        outside += int(((beyond | ~torch.isfinite(slab.image)) & inside).sum())
        voxels += int(inside.sum())
        chosen = slab.of(flat)
        if chosen.any():
            for values, image in zip(noise, slab.high_passed(), strict=True):
                values.append(image[chosen])
    return _gain(*noise), outside / voxels if voxels else None


@dataclass(frozen=True)
class _Units:
    """The units of all that is measured here: the robust range of the LR image is [0, 1]."""

    low: float
    width: float

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """Return values of the image in these units, float32."""
        return ((values.double() - self.low) / self.width).float()


@dataclass(frozen=True)
class _Slab:
    """Some layers of the SR image across its longest axis.

    Attributes:
        wide: The SR image in `_Units`, with the filter's reach on either side where the image goes on.
        lr: The whole LR image in `_Units`.
        matrices: Those of the spline, for the layers of `wide`.
        voxels: The LR voxel in which the SR voxels lie, for each axis and index of `image`.
        axis: The longest one.
        kept: The layers of `wide` that are the slab.
    """

    wide: torch.Tensor
    lr: torch.Tensor
    matrices: tuple[Matrix | None, ...]
    voxels: tuple[torch.Tensor, ...]
    axis: int
    kept: slice

    @property
    def image(self) -> torch.Tensor:
        """The SR image."""
        return self.wide[(slice(None),) * self.axis + (self.kept,)]

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """Return for each SR voxel the value of the LR voxel that it lies in."""
        for axis, voxels in enumerate(self.voxels):
            values = values.index_select(axis, voxels)
        return values

    def high_passed(self) -> Iterator[torch.Tensor]:
        """Return what a binomial filter takes away from the SR image, then the same of the spline."""
        for number in range(2):
            image = self.wide if number == 0 else apply_matrices(self.lr[None, None], self.matrices)[0, 0]
            smooth = image
            for axis in sorted([*range(image.ndim)] * _PASSES):
                before, after = _neighbours(smooth, axis)
                smooth = smooth / 2 + (before + after) / 4
            yield (image - smooth)[(slice(None),) * self.axis + (self.kept,)]


def _slabs(sr: torch.Tensor, lr: torch.Tensor, scale: Scale, units: _Units) -> Iterator[_Slab]:
    """Return the slabs that together are the SR image."""
    axis = max(range(sr.ndim), key=lambda a: sr.shape[a])
    matrices = [
        None if s == 1 and n == m else resampling_matrix(n, m, s, "spline3")
        for n, m, s in zip(lr.shape, sr.shape, scale, strict=True)
    ]
    voxels = [
        torch.as_tensor(source_voxels(range(m), s)[0].clip(0, n - 1), device=sr.device)
        for n, m, s in zip(lr.shape, sr.shape, scale, strict=True)
    ]
    size = sr.shape[axis]
    layers = max(1, _SLAB_VOXELS * size // sr.numel())
    for start in range(0, size, layers):
        stop = min(start + layers, size)
        wide = slice(max(0, start - _PASSES), min(size, stop + _PASSES))
        rows, whole = matrices[axis], lr
        if rows is None:
            whole = lr[(slice(None),) * axis + (wide,)]
        own = tuple(m if a != axis or m is None else m[wide] for a, m in enumerate(matrices))
        where = tuple(v if a != axis else v[start:stop] for a, v in enumerate(voxels))
        image = units.of(sr[(slice(None),) * axis + (wide,)])
        yield _Slab(image, whole, own, where, axis, slice(start - wide.start, stop - wide.start))


def _flat_voxels(foreground: torch.Tensor, contrast: torch.Tensor) -> torch.Tensor:
    """Return the voxels of flat tissue; `contrast` is the largest minus the smallest of the neighbours."""
    tissue = foreground & (contrast > 0)
    if not tissue.any():
        return tissue
    flat = tissue & (contrast <= _quantile(contrast[tissue], _FLAT))
    index = flat.flatten().nonzero()[:, 0]
    if len(index) > _FLAT_VOXELS:
        index = index[torch.linspace(0, len(index) - 1, _FLAT_VOXELS, dtype=torch.float64, device=index.device).long()]
        flat = torch.zeros_like(flat)
        flat.view(-1)[index] = True
    return flat


def _gain(sr: Sequence[torch.Tensor], spline: Sequence[torch.Tensor]) -> float | None:
    """Return the spread of high-passed values of the SR image over that of the spline's."""
    spreads = [_spread(torch.cat(list(values))) if values else 0.0 for values in (sr, spline)]
    return None if max(spreads) < _SILENCE else max(spreads[0], 0.0) / max(spreads[1], _SILENCE)


def _spread(values: torch.Tensor) -> float:
    """Return 1.4826 times the median absolute deviation, the standard deviation of what is normally distributed."""
    values = values[torch.isfinite(values)]
    return 1.4826 * float((values - values.median()).abs().median()) if len(values) else 0.0


def _robust_range(values: torch.Tensor) -> tuple[float, float | None]:
    """Return the lower end and the width of the robust range; None for the width if the image is constant."""
    if not len(values):
        return 0.0, None
    low, high = (_quantile(values, share) for share in _RANGE)
    if not high > low:  # what is there is small
        low, high = float(values.min()), float(values.max())
    # what rounding makes of a constant image is not a range
    return low, high - low if high - low > 1e-6 * max(abs(low), abs(high)) else None


def _quantile(values: torch.Tensor, share: float) -> float:
    """Return the value below which a share lies, one that occurs (torch.quantile refuses large images)."""
    values = values.flatten()
    return float(values.kthvalue(1 + int(share * (len(values) - 1))).values)


def _largest_near(image: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the largest of each voxel and its two neighbours along an axis."""
    before, after = _neighbours(image, axis)
    return torch.maximum(torch.maximum(before, after), image)


def _neighbours(image: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the image moved by one voxel either way along an axis; the voxels of its edge are repeated."""
    n = image.shape[axis]
    first, last = image.narrow(axis, 0, 1), image.narrow(axis, n - 1, 1)
    before = torch.cat([first, image.narrow(axis, 0, n - 1)], axis)
    return before, torch.cat([image.narrow(axis, 1, n - 1), last], axis)
