"""Networks of any scale: tiles, flips, slices and the grid, at scales that floats get wrong."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medsr.errors import GridError
from medsr.geometry import as_scale, output_shape
from medsr.inferers import InferenceFacts, SuperResolutionInferer
from medsr.inferers.planning import bytes_per_voxel, voxel_budget
from medsr.networks import Query
from medsr.networks.blocks.meta_upscale import META_UPSCALE_BYTES
from medsr.networks.registry import small

SCALES = ["1.1", "1.5", "2.3", "2.5", "2.7", "3.3", "4"]


def lively(name: str, **arguments) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small(name, **{"blocks": 1, **arguments}).eval()


MIASSR = lively("miassr", mean=0.4)


@pytest.mark.parametrize("scale", [*SCALES, ("1.1", "3.3"), ("2.5", 1), (4, "2.7"), ("1.5", "2.37")])
@pytest.mark.parametrize("tile_size", [1, 7, (16, 5)])
def test_tiled_is_whole(noise, scale, tile_size):
    lr = noise(1, 1, 23, 18) if tile_size != 1 else noise(1, 1, 7, 6)
    exact = as_scale(scale, 2)
    with torch.no_grad():
        expected = MIASSR(lr, exact)
    whole = SuperResolutionInferer(exact, tile_size=1000)
    torch.testing.assert_close(whole(lr, MIASSR), expected, atol=1e-6, rtol=0)
    inferer = SuperResolutionInferer(exact, tile_size=tile_size)
    came = inferer.enlarge(lr, MIASSR)
    assert came.tiles > 3
    assert came.image.shape[2:] == output_shape(lr.shape[2:], exact)
    torch.testing.assert_close(came.image, expected, atol=1e-5, rtol=0)


@settings(max_examples=10)
@given(data=st.data())
def test_any_scale_size_and_tile(data, noise):
    """Floats, as users give them."""
    shape = [data.draw(st.integers(2, 16)) for _ in range(2)]
    scale = [data.draw(st.floats(1, 4)) for _ in range(2)]
    tile = [data.draw(st.integers(1, 9)) for _ in range(2)]
    assume(any(s != 1 for s in as_scale(scale, 2, shape)))  # which would return the image as it is
    lr = noise(1, 1, *shape)
    with torch.no_grad():
        expected = MIASSR(lr, scale)
    came = SuperResolutionInferer(scale, tile_size=tile)(lr, MIASSR)
    torch.testing.assert_close(came, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["miassr", "metardn-zhu2022", "meta-srgan"])
def test_all_networks_of_the_family_in_3d(noise, name):
    network = lively(name, spatial_dims=3, features=4, **({"layers": 1, "growth": 2} if "rdn" in name else {}))
    lr, scale = noise(1, 1, 6, 7, 5), ("2.5", "1.3", 3)
    with torch.no_grad():
        expected = network(lr, as_scale(scale, 3))
    assert expected.shape[2:] == (15, 9, 15)
    came = SuperResolutionInferer(scale, tile_size=4).enlarge(lr, network)
    torch.testing.assert_close(came.image, expected, atol=1e-5, rtol=0)
    assert came.tiles == 8


@pytest.mark.parametrize("scale", ["1.5", "2.3", ("2.7", 3), ("1.25", "3.3")])
@pytest.mark.parametrize("positions", ["centre", "hu2019"])
def test_flips_are_averaged_where_the_voxels_lie(noise, scale, positions):
    """The flipped image's output grid begins at another place wherever n * s is no integer; 11 * 1.5 is a tie."""
    network = lively("miassr", positions=positions)
    lr, exact = noise(1, 1, 11, 10), as_scale(scale, 2)
    m = output_shape((11, 10), exact)
    outputs = []
    with torch.no_grad():
        for flips in product((False, True), repeat=2):
            low = tuple(-n if flip else 0 for n, flip in zip(m, flips, strict=True))
            high = tuple(a + n for a, n in zip(low, m, strict=True))
            origin = tuple(-n if flip else 0 for n, flip in zip((11, 10), flips, strict=True))
            axes = [2 + axis for axis in range(2) if flips[axis]]
            outputs.append(network(lr.flip(axes), query=Query(exact, low, high, origin, flips)).flip(axes))
    expected = torch.stack(outputs)
    for tile in (1000, 4):
        came = SuperResolutionInferer(exact, tile_size=tile, ensemble=True).enlarge(lr, network)
        torch.testing.assert_close(came.image, expected.mean(0), atol=1e-5, rtol=0)
        torch.testing.assert_close(came.deviation, expected.std(0, correction=0), atol=1e-5, rtol=0)


def test_flips_of_a_symmetric_picture_agree():
    """A network whose weights do not depend on the direction, on a picture that does not either."""
    network = lively("miassr", features=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.head[0].weight[:, :, 1, 1] = 1
        network.meta_upsampler.P2W[2].bias.reshape(2, 3, 3)[:] = torch.tensor([[1.0, 2, 1], [2, 5, 2], [1, 2, 1]])
    ramp = torch.minimum(torch.arange(9.0), torch.arange(8.0, -1, -1))
    lr = (ramp[:, None] + ramp)[None, None]
    inferer = SuperResolutionInferer("7/3", ensemble=True)
    came = inferer.enlarge(lr, network)
    assert came.deviation.max() < 1e-5
    torch.testing.assert_close(came.image, came.image.flip(2, 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_slices_of_volumes_at_real_scales_in_plane(noise, as_volume, oblique_affine, plane):
    lr = as_volume(noise(1, 1, 7, 6, 5), oblique_affine)
    across = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    scale = [Fraction("2.3"), Fraction("1.5"), Fraction("3.3")]
    scale[across] = Fraction(1)
    in_plane = tuple(s for axis, s in enumerate(scale) if axis != across)
    sr = SuperResolutionInferer(scale, slice_plane=plane, tile_size=4)(lr, MIASSR)
    with torch.no_grad():
        expected = torch.stack([MIASSR(s, in_plane) for s in lr.as_tensor().unbind(2 + across)], 2 + across)
    torch.testing.assert_close(sr.as_tensor(), expected, atol=1e-5, rtol=0)
    one = SuperResolutionInferer("2.3", slice_plane=plane)(lr, MIASSR)  # one number means in-plane
    assert one.shape[2 + across] == lr.shape[2 + across]
    with pytest.raises(GridError, match="in-plane only"):
        SuperResolutionInferer((2, 2, 2), slice_plane=plane)(lr, MIASSR)


@pytest.mark.parametrize("scale", [*SCALES, ("1.1", "3.3"), ("7/3", "2.7")])
def test_grid_rule(noise, as_volume, oblique_affine, scale):
    """First edges coincide to 1e-6 mm, spacing is divided by the scale, the size is round(n * s)."""
    lr = as_volume(noise(1, 1, 9, 8, 3), oblique_affine)
    exact = (*as_scale(scale, 2), Fraction(1))
    sr = SuperResolutionInferer(exact)(lr, MIASSR)
    factors = np.array([float(s) for s in exact])
    before, after = np.asarray(lr.affine), np.asarray(sr.affine)
    assert sr.shape[2:] == tuple(round(n * s) for n, s in zip((9, 8, 3), exact, strict=True))
    np.testing.assert_allclose(after[:3, :3] * factors, before[:3, :3], atol=1e-9)
    edge = [-0.5, -0.5, -0.5, 1]
    np.testing.assert_allclose(after @ edge, before @ edge, atol=1e-6)
    last = [*(np.array([9, 8, 3]) * factors - 0.5), 1]  # where the last edge falls on the SR grid
    np.testing.assert_allclose(after @ last, before @ [8.5, 7.5, 2.5, 1], atol=1e-6)


def test_what_a_network_makes_lies_on_that_grid():
    """Weights that return the feature where an output voxel's centre lies make the nearest-neighbour image."""
    network = lively("miassr", features=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.head[0].weight[:, :, 1, 1] = 1
        network.meta_upsampler.P2W[2].bias.reshape(3, 3)[1, 1] = 1
    lr = torch.arange(30.0).reshape(1, 1, 30, 1).expand(1, 1, 30, 2).contiguous()
    for scale in SCALES:
        exact = Fraction(scale)
        image = SuperResolutionInferer((exact, Fraction(1)), tile_size=4)(lr, network)[0, 0, :, 0]
        centres = [(i + Fraction(1, 2)) / exact for i in range(round(30 * exact))]
        expected = [int(c) - (c == int(c)) for c in centres]
        assert image.tolist() == pytest.approx(expected)


def test_spacing(noise, as_volume):
    lr = as_volume(noise(1, 1, 8, 6, 2), np.diag([0.9, 0.9, 3.0, 1]))
    inferer = SuperResolutionInferer(spacing=(0.4, 0.3, 3.0))
    sr = inferer(lr, MIASSR)
    assert InferenceFacts.of(sr).scale == (Fraction(9, 4), 3, 1)
    np.testing.assert_allclose(np.linalg.norm(np.asarray(sr.affine)[:3, :3], axis=0), [0.4, 0.3, 3.0])


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ("4.1", "up to 4 per axis, got 4.1x4.1; choose a smaller scale"),
        (None, "no scale: give a scale"),
        (0.9, "at least 1"),
    ],
)
def test_scales_that_are_refused(noise, scale, message):
    with pytest.raises(GridError, match=message) as error:
        SuperResolutionInferer(scale)(noise(1, 1, 6, 6), MIASSR)
    assert "\n" not in str(error.value)
    assert SuperResolutionInferer("4.1")(noise(1, 1, 6, 6), lively("miassr", largest_scale=6)).shape == (1, 1, 25, 25)


def test_memory_is_planned_for_the_largest_scale(noise):
    spec = MIASSR.spec
    assert bytes_per_voxel(spec) >= spec.bytes_per_voxel + 8 * 2 * 16
    assert voxel_budget(spec, 1024) * bytes_per_voxel(spec) <= 1024 * 2**20 - META_UPSCALE_BYTES
    assert voxel_budget(spec, 2) * bytes_per_voxel(spec) <= 2**20
    inferer = SuperResolutionInferer("2.3", memory_mb=1)
    lr = noise(1, 1, 60, 50)
    tiled = inferer.enlarge(lr, MIASSR)
    assert tiled.tiles > 1
    torch.testing.assert_close(tiled.image, SuperResolutionInferer("2.3")(lr, MIASSR), atol=1e-5, rtol=0)


def test_low_precision_places_voxels_rightly(noise):
    lr = noise(1, 1, 6, 5)
    exact = SuperResolutionInferer("2.5")(lr, MIASSR)
    rounded = SuperResolutionInferer("2.5", precision="bfloat16")(lr, MIASSR)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().mean() < 0.02 * exact.abs().mean()
