"""The meta-upscale module against one prediction and one sum per output voxel, written down literally."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product
from math import ceil, floor, prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.geometry import exact_scale, output_range, output_shape, source_positions, source_voxels
from medsr.networks import MetaUpscale, Query
from medsr.networks.blocks import meta_upscale as module
from medsr.networks.blocks import output_query as queries
from tests.networks.oracles.meta_upscale import meta_upscale

TENTHS = [Fraction(n, 10) for n in range(11, 41)]


def seeded(*args, **keywords) -> MetaUpscale:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MetaUpscale(*args, **keywords)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def fractions(*values) -> tuple[Fraction, ...]:
    return tuple(Fraction(v) for v in values)


def literal(layer: MetaUpscale, features: torch.Tensor, query: Query) -> torch.Tensor:
    """Voxel by voxel: where it lies, the weights there, the sum over the 3x3 (x3) features around; zero outside."""
    dims, padded = layer.spatial_dims, F.pad(features, [3] * 2 * layer.spatial_dims)
    result = torch.zeros(features.shape[0], layer.out_channels, *query.shape)
    inverse = [float(1 / s) for s in query.scale]
    inverse = inverse if layer.anisotropic else [sum(inverse) / dims]
    for index in product(*(range(n) for n in query.shape)):
        corner, offsets = [], []
        for i, low, s, origin, mirrored in zip(
            index, query.low, query.scale, query.origin, query.mirrored, strict=True
        ):
            if layer.positions == "hu2019":
                at = (low + i) / s
                voxel = floor(at)
            else:
                at = (low + i + Fraction(1, 2)) / s
                voxel = floor(at) if mirrored else ceil(at) - 1
            corner.append(voxel - origin + 3 - 1)
            offsets.append(float(at - voxel))
        weights = layer.P2W(torch.tensor([*inverse, *offsets])).reshape(layer.features, *[3] * dims, -1)
        around = padded[(..., *(slice(c, c + 3) for c in corner))]
        result[(..., *index)] = torch.tensordot(around, weights, dims + 1)
    return result


@pytest.mark.parametrize("way", ["as it chooses", "by hidden values", "in many boxes"])
@pytest.mark.parametrize("positions", queries.POSITIONS)
@pytest.mark.parametrize(
    ("shape", "scale", "anisotropic"),
    [
        ((7, 12), fractions(2, 2), False),
        ((12, 11), fractions("2.3", "2.3"), False),
        ((5, 6), fractions("3/2", "3/2"), True),
        ((5, 6), fractions("2.37", "2.37"), False),
        ((6, 5), fractions(3, "5/2"), False),
        ((6, 5), fractions(1, "3.9"), True),
        ((1, 4), fractions("1.1", 4), False),
        ((3, 4, 2), fractions("5/2", "5/3", 1), True),
        ((2, 3, 4), fractions(2, 3, 1), False),
    ],
)
def test_agrees_with_the_literal_sum(monkeypatch, shape, scale, anisotropic, positions, way):
    if way != "as it chooses":
        monkeypatch.setattr(module, "_MOST", 0 if way == "by hidden values" else 6000)
    layer = seeded(len(shape), 4, 2, anisotropic, positions)
    features, query = noise(2, 4, *shape), Query.whole(shape, scale)
    with torch.no_grad():
        expected = literal(layer, features, query)
        assert expected.shape[2:] == output_shape(shape, scale)
        torch.testing.assert_close(layer(features, query), expected, atol=1e-5, rtol=1e-5)
        if way == "as it chooses":
            torch.testing.assert_close(meta_upscale(layer, features, scale), expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=15)
@given(data=st.data())
def test_any_query_is_a_part_of_the_whole(data):
    """Of the image as it is and flipped; features are a tile of those of the image."""
    scale = tuple(data.draw(st.sampled_from([*TENTHS, *fractions(1, "5/4", "7/2", "8/3")])) for _ in range(2))
    shape = tuple(data.draw(st.integers(2, 13)) for _ in range(2))
    layer = seeded(2, 3, 1, positions=data.draw(st.sampled_from(queries.POSITIONS)))
    whole = noise(1, 3, *shape)
    low, high, start, stop, mirrored = [], [], [], [], []
    for n, s in zip(shape, scale, strict=True):
        first = data.draw(st.integers(0, n - 1))
        last = data.draw(st.integers(first + 1, n))
        outputs = output_range(first, last, s, n)
        low.append(outputs[0])
        high.append(outputs[1])
        start.append(max(0, first - layer.halo))
        stop.append(min(n, last + layer.halo))
        mirrored.append(data.draw(st.booleans()))
    tile = whole[..., start[0] : stop[0], start[1] : stop[1]]
    box = [
        (-b, -a, -e, True) if flip else (a, b, o, False)
        for a, b, o, e, flip in zip(low, high, start, stop, mirrored, strict=True)
    ]
    query = Query(scale, *(tuple(column) for column in zip(*box, strict=True)))
    flipped = [2 + axis for axis in range(2) if mirrored[axis]]
    with torch.no_grad():
        came = layer(tile.flip(flipped), query)
        torch.testing.assert_close(came, literal(layer, tile.flip(flipped), query), atol=1e-5, rtol=1e-5)
        if not flipped:
            expected = layer(whole, Query.whole(shape, scale))[..., low[0] : high[0], low[1] : high[1]]
            torch.testing.assert_close(came, expected, atol=1e-5, rtol=1e-5)


@given(
    scale=st.fractions(1, 4, max_denominator=300),
    n=st.integers(1, 500),
    mirrored=st.booleans(),
)
def test_source_voxels_are_exact(scale, n, mirrored):
    m = output_shape((n,), (scale,))[0]
    outputs = np.arange(-m, 0) if mirrored else np.arange(m)
    voxels, parts, whole = source_voxels(outputs, scale, mirrored)
    for i, voxel, part in list(zip(outputs.tolist(), voxels.tolist(), parts.tolist(), strict=True))[:: max(1, m // 20)]:
        centre = (Fraction(i) + Fraction(1, 2)) / scale
        assert voxel + Fraction(part, whole) == centre
    assert (parts >= 0).all()
    assert (parts <= whole).all()
    inside = (-n, -1) if mirrored else (0, n - 1)
    assert inside[0] <= voxels.min() <= voxels.max() <= inside[1]
    if not mirrored:
        assert np.abs(voxels + parts / whole - 0.5 - source_positions(outputs, scale)).max() < 1e-9
        back = source_voxels(-1 - outputs, scale, mirrored=True)[0]
        np.testing.assert_array_equal(-1 - back, voxels)  # flipping leads to the same voxels of the image


@given(scale=st.fractions(1, 4, max_denominator=60), n=st.integers(1, 60), data=st.data())
def test_tiles_own_the_output_voxels_that_lie_in_them(scale, n, data):
    cuts = sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=4))})
    voxels = source_voxels(np.arange(output_shape((n,), (scale,))[0]), scale)[0]
    owned = 0
    for low, high in pairwise(cuts):
        start, stop = output_range(low, high, scale, n)
        assert start == owned
        assert ((low <= voxels[start:stop]) & (voxels[start:stop] < high)).all()
        owned = stop
    assert owned == len(voxels)


@pytest.mark.parametrize(("scale", "first_wrong"), [(2.3, 69), (2.7, 81), (3.7, 111)])
def test_floats_would_attach_voxels_to_the_wrong_neighbour(scale, first_wrong):
    """The published programs multiply by 1/s in float32, without the half voxel."""
    exact = exact_scale(scale, 200)
    axis = queries.axis_of(Query.whole((200,), (exact,)), 0, "hu2019")
    outputs = np.arange(output_shape((200,), (exact,))[0])
    ours = axis.chosen // axis.slots.shape[1] + axis.first
    np.testing.assert_array_equal(ours, [floor(Fraction(int(i)) / exact) for i in outputs])
    theirs = torch.floor(torch.arange(len(outputs)) * torch.tensor(1 / scale)).numpy()
    assert np.flatnonzero(theirs != ours)[0] == first_wrong


@pytest.mark.parametrize(
    ("scale", "distinct"), [(2, 2), (4, 4), ("1.5", 3), ("2.5", 5), ("2.3", 23), ("1.1", 11), ("3.9", 39)]
)
def test_one_prediction_per_distinct_offset(scale, distinct):
    layer, seen = seeded(2, 3, 1), []
    layer.P2W.register_forward_hook(lambda _, given, output: seen.append(given[0].reshape(-1, 3)))
    with torch.no_grad():
        layer(noise(1, 3, 50, 45), Query.whole((50, 45), fractions(scale, scale)))
    (given_positions,) = seen
    assert len(given_positions) == distinct**2 == len(given_positions.unique(dim=0))
    assert given_positions[:, 0].unique().item() == pytest.approx(1 / float(Fraction(scale)))
    assert 0 < given_positions[:, 1:].min() <= given_positions[:, 1:].max() <= 1


@pytest.mark.parametrize("scale", ["2.3", "2.37", "3.9", "1.1"])
def test_no_intermediate_tensor_grows_with_image_and_scale(scale):
    """Beside the features laid out anew and the output, 16 MiB; unfolded features alone would be nine times those."""
    layer, sizes = seeded(2, 64, 1), []
    features = noise(1, 64, 100, 120)

    class Watching(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, list | tuple) else [result]:
                if isinstance(tensor, torch.Tensor):
                    sizes.append(tensor.untyped_storage().nbytes() // 4)
            return result

    with torch.no_grad(), Watching():
        layer(features, Query.whole((100, 120), fractions(scale, scale)))
    assert max(sizes) <= max(1.1 * features.numel(), module._MOST * 1.1)
    assert 9 * features.numel() > 1.5 * module._MOST


@pytest.mark.parametrize("way", ["weights", "hidden", "shuffle"])
def test_gradients_are_those_of_the_literal_sum(monkeypatch, way):
    if way == "hidden":
        monkeypatch.setattr(module, "_MOST", 0)
    layer, scale = seeded(2, 3, 2), fractions("5/2", "3/2") if way != "shuffle" else fractions(2, 3)
    gradients = []
    for evaluate in (layer, lambda f, q: literal(layer, f, q)):
        features = noise(2, 3, 4, 5).requires_grad_()
        layer.zero_grad()
        output = evaluate(features, Query.whole((4, 5), scale))
        (output * torch.arange(output.numel()).reshape(output.shape).cos()).sum().backward()
        gradients.append([features.grad, *(p.grad.clone() for p in layer.parameters())])
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_published_convention_differs_by_half_an_output_voxel():
    ours, theirs = seeded(2, 3, 1), seeded(2, 3, 1, positions="hu2019")
    ours.load_state_dict(theirs.state_dict())
    features = noise(1, 3, 8, 8)
    query = Query.whole((8, 8), fractions(3, 3))
    with torch.no_grad():
        assert (ours(features, query) - theirs(features, query)).abs().max() > 1e-3
        for layer, first in ((ours, 1 / 6), (theirs, 0.0)):
            assert queries.one_voxel(Fraction(3), layer.positions).offsets == pytest.approx(
                [first + k / 3 for k in range(3)]
            )
    assert (ours.halo, theirs.halo) == (1, 2)


@pytest.mark.parametrize("scale", [2, "5/2"])
def test_features_that_do_not_reach_far_enough_are_refused(scale):
    layer = seeded(2, 3, 1)
    query = Query(fractions(scale, scale), (0, 0), (30, 10), (0, 0), (False, False))
    with pytest.raises(MedsrError, match=r"the (query|features) .* along axis 0.*ask for less") as error:
        layer(noise(1, 3, 6, 6), query)
    assert "\n" not in str(error.value)


def test_unknown_positions():
    with pytest.raises(MedsrError, match="one of centre, hu2019, got 'corner'"):
        MetaUpscale(2, 3, 1, positions="corner")


def test_parameters_by_hand():
    for dims, features, channels in ((2, 64, 1), (2, 64, 4), (3, 8, 2)):
        layer = MetaUpscale(dims, features, channels)
        outputs = features * 3**dims * channels
        assert sum(p.numel() for p in layer.parameters()) == 256 * (dims + 1) + 256 + 256 * outputs + outputs
    assert sum(p.numel() for p in MetaUpscale(2, 64, 1).parameters()) == 149_056  # Zhu 2022 and Tan et al. 2020
    assert prod(MetaUpscale(2, 64, 1, anisotropic=True).P2W[0].weight.shape) == 256 * 4
