"""Meta-upscale: one layer that enlarges features to an image at any scale (Hu et al. 2019, Zhu 2022, section 4.2.2).

Every output voxel is a weighted sum of the features around the input voxel in which it lies. A small network predicts
the weights from the scale and from the offset within that voxel. There are few distinct offsets: p per axis for a scale
of p/q. Positions are exact (`blocks.output_query`), while the authors' programs multiply floats and so assign some
voxels to the wrong neighbour (at 2.3 from row 69 on, at 2.7 from row 81 on).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from itertools import product
from math import prod
from typing import Any, Optional

import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks.blocks.output_query import Axis, Query, axis_of, beyond, check_positions, one_voxel
from medsr.networks.blocks.upsamplers import quickest_layout

KERNEL = 3  # the number of voxels per axis that an output voxel reads
HIDDEN = 256
_MOST = 2**22  # numbers in an intermediate tensor (16 MiB), for any size of the image and any scale
META_UPSCALE_BYTES = 3 * 4 * _MOST  # the memory of all intermediate tensors together

Evaluate = Callable[[torch.Tensor, Sequence[int], Sequence[Axis]], torch.Tensor]


class MetaUpscale(nn.Module):
    """The map from features on the LR grid to any voxels of the SR grid, at any scale.

    There are two ways to evaluate the same sum. If few offsets repeat over many voxels, as for scales with a small
    denominator, the weights are predicted once per offset and applied to all voxels that share it: with a convolution
    and a shuffle for integer scales, with matrix products over the voxels of equal phase for other scales. If the
    offsets hardly repeat, there would be as many predictions as output voxels; then the last layer of the weight
    prediction, which is linear, is applied to the features first, and the result is summed with the hidden values of
    each offset. Both ways need intermediate tensors of a few times the features and about 16 MiB, at any scale.

    With the positions "centre", an output voxel lies in the input voxel that contains its centre, (i + 1/2) / s; edges
    coincide, as everywhere in this package. "hu2019" counts as the published programs do, from i / s without the half
    voxel, so that their weights can be used; the SR voxels lie at the same places, and only the numbers that the
    prediction sees differ.

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        features: The number of channels of the input.
        out_channels: The number of channels of the image.
        anisotropic: Whether the prediction sees 1/s of every axis instead of their mean; the mean is the published 1/s
            if all scales are equal.
        positions: The way to count positions, "centre" or "hu2019".
    """

    def __init__(
        self,
        spatial_dims: int,
        features: int,
        out_channels: int,
        anisotropic: bool = False,
        positions: str = "centre",
    ) -> None:
        super().__init__()
        self.spatial_dims, self.features, self.out_channels = spatial_dims, features, out_channels
        self.anisotropic, self.positions = anisotropic, check_positions(positions)
        inputs = spatial_dims + (spatial_dims if anisotropic else 1)
        self.P2W = nn.Sequential(  # "position to weight"; the output channel is the last axis of the weights
            nn.Linear(inputs, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN, features * KERNEL**spatial_dims * out_channels),
        )

    @property
    def halo(self) -> int:
        """The number of input voxels to either side on which the output voxels of one input voxel depend."""
        return KERNEL // 2 + (self.positions == "hu2019")  # there an output voxel may belong to the previous voxel

    def forward(self, features: torch.Tensor, query: Query) -> torch.Tensor:
        """Enlarge features.

        Args:
            features: The features, (B, features, *spatial) on the LR grid; their first voxel is the query's origin.
            query: The output voxels to compute, and their scale.

        Returns:
            The output voxels, (B, out_channels, *query.shape).

        Raises:
            MedsrError: If the query reads beyond the features. Outside the image features are zero, but a tile must
                include its halo.
        """
        if all(s.denominator == 1 for s in query.scale):
            return self._shuffled(features, query)
        axes = [axis_of(query, axis, self.positions) for axis in range(self.spatial_dims)]
        problem = beyond(query, axes, features.shape[2:])
        if problem is not None:
            raise MedsrError(problem)
        distinct = prod(len(axis.offsets) for axis in axes)
        voxels = features.shape[0] * prod(axis.count for axis in axes)
        width = self.features * KERNEL**self.spatial_dims
        evaluate: Evaluate
        if distinct <= voxels and distinct * width * self.out_channels <= _MOST:
            weights = self.predicted(query.scale, axes)
            evaluate, numbers = lambda *box: self._by_weights(weights, *box), width
        else:
            slots = prod(axis.slots.shape[1] for axis in axes)
            numbers = 3 * HIDDEN * (slots // features.shape[0] + self.out_channels)
            evaluate = lambda *box: self._by_hidden(query.scale, *box)  # noqa: E731
        return _in_boxes(evaluate, features, query.origin, axes, max(1, _MOST // (numbers * features.shape[0])))

    def positions_of(self, scale: Sequence[Fraction], offsets: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the inputs of the prediction: 1/s and the offset along each axis.

        Args:
            scale: The scale of each axis.
            offsets: The offsets along each axis, of any shape.

        Returns:
            The inputs, (*offsets of axis 0, *offsets of axis 1, ..., inputs).
        """
        inverse = [float(1 / s) for s in scale]
        inverse = inverse if self.anisotropic else [sum(inverse) / len(inverse)]
        shape = [n for offset in offsets for n in offset.shape]
        columns, before = [offsets[0].new_tensor(v).expand(shape) for v in inverse], 0
        for offset in offsets:
            after = len(shape) - before - offset.ndim
            columns.append(offset.reshape([1] * before + list(offset.shape) + [1] * after).expand(shape))
            before += offset.ndim
        return torch.stack(columns, -1)

    def predicted(self, scale: Sequence[Fraction], axes: Sequence[Axis]) -> torch.Tensor:
        """Return the weights of every pair (triple) of offsets: (offsets of axis 0, ..., features, 3, 3, ..., C)."""
        like = next(self.P2W.parameters())
        offsets = [_tensor(axis.offsets, like) for axis in axes]
        with _in_full_precision(like):
            weights = self.P2W(self.positions_of(scale, offsets))
        kernel = [KERNEL] * self.spatial_dims
        return weights.reshape(*(len(a.offsets) for a in axes), self.features, *kernel, self.out_channels)

    def _shuffled(self, features: torch.Tensor, query: Query) -> torch.Tensor:
        """Evaluate an integer scale, where all input voxels are alike, as in Shi et al. 2016 with predicted weights."""
        dims, factors = self.spatial_dims, [s.numerator for s in query.scale]
        weights = self.predicted(query.scale, [one_voxel(s, self.positions) for s in query.scale])
        weights = weights.movedim(-1, 0).flatten(0, dims)  # (C * prod(factors), features, 3, 3, ...)
        convolve = F.conv2d if dims == 2 else F.conv3d
        x = convolve(quickest_layout(features), weights, padding=KERNEL // 2)
        x = _shuffle(x, factors)
        for axis, (low, high, s, o) in enumerate(zip(query.low, query.high, factors, query.origin, strict=True)):
            if low - s * o < 0 or high - s * o > x.shape[2 + axis]:
                raise MedsrError(
                    f"the query asks for output voxels {low} to {high - 1} along axis {axis}, but the features yield "
                    f"{s * o} to {s * o + x.shape[2 + axis] - 1}; ask for less, or give more features"
                )
            x = x.narrow(2 + axis, low - s * o, high - low)
        return x

    def _by_weights(
        self, weights: torch.Tensor, features: torch.Tensor, origin: Sequence[int], axes: Sequence[Axis]
    ) -> torch.Tensor:
        """Evaluate all slots of some input voxels; those of equal phase along all axes share one matrix product."""
        dims, periods = self.spatial_dims, [axis.slots.shape[0] for axis in axes]
        repeats = [-(-axis.count // period) for axis, period in zip(axes, periods, strict=True)]
        x = _around(features, origin, axes, [r * p for r, p in zip(repeats, periods, strict=True)]).movedim(1, -1)
        phases_first = [2 + 2 * i for i in range(dims)] + [0] + [1 + 2 * i for i in range(dims)] + [1 + 2 * dims]
        taps = []
        for tap in product(range(KERNEL), repeat=dims):
            view = x
            for axis, start in enumerate(tap):
                size = repeats[axis] * periods[axis]
                view = view.narrow(1 + 2 * axis, start, size).unflatten(1 + 2 * axis, (repeats[axis], periods[axis]))
            taps.append(view.permute(phases_first))
        voxels = torch.cat(taps, -1)  # (*periods, B, *repeats, taps * features)
        for axis in range(dims):
            index = _tensor(axes[axis].slots, weights, torch.int64)
            weights = weights.index_select(2 * axis, index.flatten()).unflatten(2 * axis, index.shape)
        # (period, slots, period, slots, ..., features, *kernel, C), the kernel before the features as in `voxels`
        order = [2 * i for i in range(dims)] + [1 + 2 * dims + i for i in range(dims)] + [2 * dims]
        weights = weights.permute(*order, *(1 + 2 * i for i in range(dims)), 1 + 3 * dims)
        weights = weights.reshape(prod(periods), voxels.shape[-1], -1)
        sums = torch.bmm(voxels.reshape(prod(periods), -1, voxels.shape[-1]), weights)
        slots = [axis.slots.shape[1] for axis in axes]
        sums = sums.reshape(*periods, features.shape[0], *repeats, *slots, self.out_channels)
        # (B, C, repeat, period, slot, repeat, period, slot, ...)
        places = [n for i in range(dims) for n in (dims + 1 + i, i, 2 * dims + 1 + i)]
        return _chosen(sums.permute(dims, 3 * dims + 1, *places), axes)

    def _by_hidden(
        self, scale: Sequence[Fraction], features: torch.Tensor, origin: Sequence[int], axes: Sequence[Axis]
    ) -> torch.Tensor:
        """Evaluate all slots of some input voxels: the prediction's second layer first, then the hidden values."""
        dims, batch = self.spatial_dims, features.shape[0]
        last: Any = self.P2W[-1]
        kernel = [KERNEL] * dims
        # (features * kernel * C, hidden) to filters; the bias is one more filter
        filters = torch.cat([last.weight, last.bias[:, None]], 1).reshape(self.features, *kernel, -1)
        filters = filters.permute(dims + 1, 0, *range(1, dims + 1))
        x = _around(features, origin, axes, [axis.count for axis in axes])
        x = (F.conv2d if dims == 2 else F.conv3d)(x, filters)
        x = x.reshape(batch, self.out_channels, HIDDEN + 1, -1).permute(3, 2, 0, 1).flatten(2).contiguous()
        hidden = self._hidden(scale, axes).to(x.dtype)
        sums = torch.bmm(hidden, x[:, :HIDDEN]) + x[:, HIDDEN:]  # (voxels, slots, B * C)
        sums = sums.reshape(*(a.count for a in axes), *(a.slots.shape[1] for a in axes), batch, self.out_channels)
        return _chosen(sums.permute(2 * dims, 2 * dims + 1, *(n for i in range(dims) for n in (i, dims + i))), axes)

    def _hidden(self, scale: Sequence[Fraction], axes: Sequence[Axis]) -> torch.Tensor:
        """Return the hidden values of the prediction for every slot of some voxels, (voxels, slots, hidden)."""
        dims = self.spatial_dims
        layer: Any = self.P2W[0]
        nowhere = layer.weight.new_zeros(1)
        with _in_full_precision(nowhere):
            hidden = layer(self.positions_of(scale, [nowhere] * dims)).flatten()  # the layer is linear in the offsets
            for number, axis in enumerate(axes):
                phases = _tensor(axis.slots, nowhere, torch.int64)
                phases = phases.repeat(-(-axis.count // len(phases)), 1)[: axis.count]
                offsets = _tensor(axis.offsets, nowhere)[phases]
                shape = [1] * number + [axis.count] + [1] * (dims - 1) + [offsets.shape[1]] + [1] * (dims - number)
                hidden = hidden + offsets.reshape(shape) * layer.weight[:, number - dims]
            return torch.relu_(hidden).flatten(0, dims - 1).flatten(1, dims)


def _in_boxes(
    evaluate: Evaluate, features: torch.Tensor, origin: Sequence[int], axes: Sequence[Axis], most: int
) -> torch.Tensor:
    """Evaluate at most `most` input voxels at a time."""
    counts = [axis.count for axis in axes]
    if prod(counts) <= most or max(counts) == 1:
        return evaluate(features, origin, axes)
    longest = counts.index(max(counts))
    axis = axes[longest]
    period = min(len(axis.slots), axis.count // 2)
    middle = -(-axis.count // 2 // period) * period
    middle = middle if middle < axis.count else axis.count // 2
    halves = []
    for start, stop in ((0, middle), (middle, axis.count)):
        box = [*axes[:longest], axis.part(start, stop), *axes[longest + 1 :]]
        halves.append(_in_boxes(evaluate, features, origin, box, most))
    return torch.cat(halves, 2 + longest)


def _around(features: torch.Tensor, origin: Sequence[int], axes: Sequence[Axis], sizes: Sequence[int]) -> torch.Tensor:
    """Return the features of `sizes` input voxels from the first of each axis, with a halo of one; zero outside."""
    padding: list[int] = []
    for number, (axis, start, size) in enumerate(zip(axes, origin, sizes, strict=True)):
        low, n = axis.first - KERNEL // 2 - start, features.shape[2 + number]
        high = low + size + KERNEL - 1
        features = features.narrow(2 + number, max(0, low), min(n, high) - max(0, low))
        padding = [max(0, -low), max(0, high - n), *padding]
    return F.pad(features, padding) if any(padding) else features


def _chosen(slots: torch.Tensor, axes: Sequence[Axis]) -> torch.Tensor:
    """Map slots (B, C, and per spatial axis some axes that make up its slots) to (B, C, *query.shape)."""
    per_axis = (slots.ndim - 2) // len(axes)
    for number, axis in enumerate(axes):
        slots = slots.flatten(2 + number, 1 + number + per_axis)
        if len(axis.chosen) < slots.shape[2 + number] or axis.chosen[0] > 0:
            slots = slots.index_select(2 + number, _tensor(axis.chosen, slots, torch.int64))
    return slots


def _shuffle(x: torch.Tensor, factors: Sequence[int]) -> torch.Tensor:
    """Map (B, C * prod(factors), *spatial) to (B, C, *spatial times the factors)."""
    dims, first = len(factors), factors[0]
    if dims == 2 and first == factors[1]:
        return F.pixel_shuffle(x, first)
    size = x.shape[2:]
    x = x.reshape(x.shape[0], -1, *factors, *size)
    x = x.permute(0, 1, *(n for i in range(dims) for n in (2 + dims + i, 2 + i)))
    return x.reshape(x.shape[0], x.shape[1], *(n * f for n, f in zip(size, factors, strict=True)))


def _in_full_precision(like: torch.Tensor) -> AbstractContextManager[None]:
    """Disable autocast, whose eight bits of precision are too few for the position of a voxel."""
    if like.device.type == "meta":  # the meta device has no autocast
        return nullcontext()
    return torch.autocast(like.device.type, enabled=False)


def _tensor(values: object, like: torch.Tensor, dtype: Optional[torch.dtype] = None) -> torch.Tensor:
    return torch.as_tensor(values, dtype=dtype or like.dtype).to(like.device)
