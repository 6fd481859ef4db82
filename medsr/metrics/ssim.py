"""Structural similarity (Wang et al. 2004) by named definitions, because programs differ in what they call SSIM.

With local means mu, variances and covariance sigma under a moving window and data range R,

    SSIM = (2 mu_p mu_t + C1) (2 sigma_pt + C2) / ((mu_p^2 + mu_t^2 + C1) (sigma_p^2 + sigma_t^2 + C2)),
    C1 = (K1 R)^2, C2 = (K2 R)^2.

The value of an image is the mean over the positions where the window lies wholly inside it (after the border
is cut), and over channels. On volumes the window is 3D, unless `slice_axis` asks for a mean over 2D slices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from medsr.errors import InputError
from medsr.metrics.image_pair import DataRange, Pair, make_pair

__all__ = ["SSIM_DEFINITIONS", "SSIMDefinition", "ssim", "ssim_map"]

BLOCK_VOXELS = 2**18  # the voxels that are processed at once; it limits the memory and about fits a cache


@dataclass(frozen=True)
class SSIMDefinition:
    """A definition of SSIM: its window, covariance and constants.

    Attributes:
        name: The name in reports.
        size: The window length in voxels along every axis, odd.
        sigma: The standard deviation of a Gaussian window in voxels; None for a uniform window.
        sample_covariance: Whether variances are multiplied by N / (N - 1), where N is the number of voxels of the
            window; otherwise they are weighted population variances.
        k1: The constant K1, of the luminance term.
        k2: The constant K2, of the contrast and structure term.

    Raises:
        InputError: If the size is even or below 3, or sigma is not positive.
    """

    name: str
    size: int
    sigma: float | None
    sample_covariance: bool
    k1: float = 0.01
    k2: float = 0.03

    def __post_init__(self) -> None:
        if self.size < 3 or self.size % 2 == 0 or (self.sigma is not None and self.sigma <= 0):
            raise InputError(f"an SSIM window must have an odd size >= 3 and sigma > 0 or None, got {self}")

    @property
    def radius(self) -> int:
        """The number of voxels on every side of the image where the window does not fit."""
        return self.size // 2

    def weights(self) -> list[float]:
        """Return the weights of the window along one axis, whose sum is 1."""
        if self.sigma is None:
            return [1 / self.size] * self.size
        x = torch.arange(-self.radius, self.radius + 1, dtype=torch.float64)
        gaussian = torch.exp(-0.5 * (x / self.sigma) ** 2)
        values: list[float] = (gaussian / gaussian.sum()).tolist()
        return values


SSIM_DEFINITIONS: dict[str, SSIMDefinition] = {
    # The dissertation's definition: scikit-image with its defaults.
    "uniform7": SSIMDefinition("uniform7", size=7, sigma=None, sample_covariance=True),
    # Wang et al. 2004: a Gaussian of 1.5 voxels cut at 3.5 sigma.
    "gaussian11": SSIMDefinition("gaussian11", size=11, sigma=1.5, sample_covariance=False),
}


def ssim(
    pred: Tensor,
    target: Tensor,
    *,
    data_range: DataRange,
    definition: str | SSIMDefinition = "gaussian11",
    border: int | Sequence[int] = 0,
    mask: Tensor | None = None,
    spatial_dims: int | None = None,
    slice_axis: int | None = None,
) -> Tensor:
    """Return the structural similarity, at most 1.

    Args:
        pred: The image to measure, (C, *spatial) or (B, C, *spatial).
        target: The true image, of the same shape.
        data_range: The data range, as a number, or "target" for max - min of each target, before border and mask.
        definition: The definition of SSIM: a name in `SSIM_DEFINITIONS`, or an object.
        border: The number of voxels removed on every side before windows are placed.
        mask: The mask of the window centres over which the mean is taken.
        spatial_dims: The number of spatial axes, 2 or 3; needed only for a 4D tensor.
        slice_axis: The spatial axis across the slices of a volume, whose 2D values are averaged.

    Returns:
        A 0-d tensor, or (B,) for a batch; float64.

    Raises:
        InputError: If the images cannot be compared, or are smaller than the window.
    """
    pair = make_pair(
        pred,
        target,
        data_range=data_range,
        border=border,
        mask=mask,
        spatial_dims=spatial_dims,
        slice_axis=slice_axis,
    )
    return pair.per_case(ssim_values(pair, definition), "SSIM")


def ssim_map(
    pred: Tensor,
    target: Tensor,
    *,
    data_range: DataRange,
    definition: str | SSIMDefinition = "gaussian11",
    spatial_dims: int | None = None,
) -> Tensor:
    """Return the SSIM of every window inside the image, for figures.

    Returns:
        The map, float64, smaller than `pred` by 2 * radius on every spatial axis (its voxel 0 is voxel `radius` of the
        images).

    Raises:
        InputError: If the images cannot be compared, or are smaller than the window.
    """
    pair = make_pair(pred, target, data_range=data_range, spatial_dims=spatial_dims)
    chosen = get_definition(definition)
    _check_size(pair, chosen)
    assert pair.data_range is not None
    values = _map(pair.pred, pair.target, pair.data_range, chosen)
    return values[0] if pair.single else values


def get_definition(definition: str | SSIMDefinition) -> SSIMDefinition:
    """Return a definition by name, or the definition itself.

    Raises:
        InputError: If the name is unknown.
    """
    if isinstance(definition, SSIMDefinition):
        return definition
    if definition not in SSIM_DEFINITIONS:
        raise InputError(f"the SSIM definition must be one of {', '.join(SSIM_DEFINITIONS)}, got {definition!r}")
    return SSIM_DEFINITIONS[definition]


@torch.no_grad()
def ssim_values(pair: Pair, definition: str | SSIMDefinition) -> Tensor:
    """Return the SSIM of checked images, (N,); NaN if no window's centre lies in the mask.

    Raises:
        InputError: If an image is smaller than the window.
    """
    chosen = get_definition(definition)
    _check_size(pair, chosen)
    assert pair.data_range is not None
    radius = chosen.radius
    centres = (slice(None), slice(None), *(slice(radius, n - radius) for n in pair.pred.shape[2:]))
    mask = None if pair.mask is None else pair.mask[centres]
    total = pair.pred.new_zeros(len(pair.pred))
    for items, rows in _blocks(pair.pred.shape, radius):
        wide = slice(rows.start, rows.stop + 2 * radius)
        values = _map(pair.pred[items, :, wide], pair.target[items, :, wide], pair.data_range[items], chosen)
        if mask is not None:
            values = values.masked_fill(~mask[items, :, rows], 0)
        total[items] += values.flatten(1).sum(1)
    if mask is None:
        return total / (pair.pred.shape[1] * prod(n - 2 * radius for n in pair.pred.shape[2:]))
    return total / mask.flatten(1).sum(1)


def _check_size(pair: Pair, definition: SSIMDefinition) -> None:
    shape = tuple(pair.pred.shape[2:])
    if min(shape) < definition.size:
        hint = "" if pair.spatial_dims == 2 else ", or compare slice by slice (slice_axis)"
        raise InputError(
            f"SSIM {definition.name} needs at least {definition.size} voxels on every axis, got {shape} "
            f"without the border: take a definition with a smaller window{hint}"
        )


def _blocks(shape: Sequence[int], radius: int) -> Iterator[tuple[slice, slice]]:
    """Yield the items and rows (first spatial axis, counted in windows) of the pieces that are processed one by one."""
    items, windows = shape[0], shape[2] - 2 * radius
    together = max(1, BLOCK_VOXELS // prod(shape[1:]))
    rows = windows
    if together == 1:
        rows = max(1, BLOCK_VOXELS // prod([shape[1], *shape[3:]]) - 2 * radius)
    for i in range(0, items, together):
        for row in range(0, windows, rows):
            yield slice(i, min(i + together, items)), slice(row, min(row + rows, windows))


def _map(pred: Tensor, target: Tensor, data_range: Tensor, definition: SSIMDefinition) -> Tensor:
    """Return the SSIM (N, C, *valid) of float64 images (N, C, *spatial)."""
    weights = definition.weights()
    mean_p, mean_t = _filter(pred, weights), _filter(target, weights)
    products = _filter(pred * target, weights)
    squares = _filter(pred.square() + target.square(), weights)
    voxels = definition.size ** (pred.ndim - 2)
    unbiased = voxels / (voxels - 1) if definition.sample_covariance else 1.0
    mean_product, mean_squares = mean_p * mean_t, mean_p.square() + mean_t.square()
    covariance, variances = unbiased * (products - mean_product), unbiased * (squares - mean_squares)
    per_item = data_range.view(-1, *[1] * (pred.ndim - 1))
    c1, c2 = (definition.k1 * per_item) ** 2, (definition.k2 * per_item) ** 2
    return (2 * mean_product + c1) * (2 * covariance + c2) / ((mean_squares + c1) * (variances + c2))


def _filter(image: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the means of (N, C, *spatial) under a separable window, only where the window fits.

    They are sums of shifted views, because torch's float64 convolution on a CPU is several times slower.
    """
    for axis in range(2, image.ndim):
        length = image.shape[axis] - len(weights) + 1
        result = image.narrow(axis, 0, length) * weights[0]
        for start, weight in enumerate(weights[1:], 1):
            result.add_(image.narrow(axis, start, length), alpha=weight)
        image = result
    return image
