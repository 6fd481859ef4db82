"""The tiled result is the whole result, which is what scipy's spline and the bare network give."""

from __future__ import annotations

from fractions import Fraction
from itertools import chain, combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SliceInferer, SlidingWindowInferer
from scipy import ndimage

from medsr.errors import InputError
from medsr.geometry import output_shape
from medsr.inferers import SuperResolutionInferer
from medsr.interpolation import resize

MAKERS = {  # name -> (dimensions, how to build it, scale)
    "recnn2d": (2, lambda made: made.recnn(2, depth=4), None),
    "recnn3d": (3, lambda made: made.recnn(3), None),
    "recnn3d-5x5x5": (3, lambda made: made.recnn(3, kernel_size=5, depth=2), None),
    "srcnn3d": (3, lambda made: made.srcnn3d(), None),
    "fixed-2d-x2": (2, lambda made: made.fixed((2, 2)), (2, 2)),
    "fixed-2d-x3": (2, lambda made: made.fixed((3, 3)), (3, 3)),
    "fixed-3d-anisotropic": (3, lambda made: made.fixed((1, 2, 3)), (1, 2, 3)),
    "windows-2d": (2, lambda made: made.fixed((2, 2), window=8), (2, 2)),
    "windows-3d": (3, lambda made: made.fixed((2, 1, 1), window=4), (2, 1, 1)),
}
networks = pytest.mark.parametrize("name", MAKERS)
scales = st.one_of(
    st.just(Fraction(1)), st.builds(Fraction, st.integers(5, 30), st.integers(5, 10)).filter(lambda s: 1 <= s <= 3)
)


@networks
@given(data=st.data())
@settings(max_examples=8)
def test_tiled_is_whole(made, noise, name, data):
    dims, build, scale = MAKERS[name]
    network = build(made)
    size = data.draw(st.tuples(*[st.integers(2, 17 if dims == 2 else 9)] * dims))
    scale = scale or data.draw(st.tuples(*[scales] * dims))
    lr = noise(data.draw(st.integers(1, 2)), 1, *size)
    whole = SuperResolutionInferer(scale, tile_size=10**6)(lr, network)
    tile = data.draw(st.one_of(st.integers(3, 12), st.tuples(*[st.integers(3, 12)] * dims)))
    options = {"tile_size": tile, "channels_last": data.draw(st.booleans())}
    tiled = SuperResolutionInferer(scale, **options)(lr, network)
    assert whole.shape == (*lr.shape[:2], *output_shape(size, scale))
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)


@networks
def test_planned_by_memory_is_whole(made, noise, name):
    dims, build, scale = MAKERS[name]
    network, lr = build(made), noise(1, 1, *((300, 280, 40) if dims == 2 else (28, 40, 24))[:dims])
    scale = scale or (2,) * dims
    inferer = SuperResolutionInferer(scale, memory_mb=3 if dims == 2 and network.spec.interpolation else 1)
    planned = inferer.enlarge(lr, network)
    assert planned.tiles > 1
    assert not any("did not fit" in warning for warning in planned.warnings)
    whole = SuperResolutionInferer(scale, memory_mb=4096).enlarge(lr, network)
    torch.testing.assert_close(planned.image, whole.image, atol=1e-5, rtol=0)
    assert whole.tiles == 1


@pytest.mark.parametrize(
    ("size", "scale"),
    [((8, 9, 7), (2, 2, 2)), ((10, 6, 8), (1, 1.5, 3)), ((8, 9, 1), (2, 1, 1)), ((10, 20), ("2.3", 4))],
)
def test_restore_is_scipys_spline_and_the_network(made, noise, size, scale):
    lr = noise(2, 1, *size)
    network = made.recnn(len(size))
    sr = SuperResolutionInferer(scale, tile_size=5)(lr, network)
    for image, result in zip(lr, sr, strict=True):
        zoomed = ndimage.zoom(
            image[0].double().numpy(), [float(s) for s in scale], order=3, mode="nearest", grid_mode=True
        )
        with torch.no_grad():
            expected = network(torch.as_tensor(zoomed, dtype=torch.float32)[None, None])[0]
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [name for name, (_, _, scale) in MAKERS.items() if scale])
def test_fixed_is_the_network(made, noise, name):
    dims, build, scale = MAKERS[name]
    network, lr = build(made), noise(2, 1, *(13, 11, 9)[:dims])
    sr = SuperResolutionInferer(scale, tile_size=4)(lr, network)
    with torch.no_grad():
        torch.testing.assert_close(sr, network(lr), atol=1e-5, rtol=0)
    # Without a request the network's own scale is taken.
    torch.testing.assert_close(SuperResolutionInferer()(lr, network), sr, atol=1e-5, rtol=0)


@networks
def test_ensemble_is_the_mean_and_deviation_over_all_flips(made, noise, name):
    dims, build, scale = MAKERS[name]
    network, lr = build(made), noise(1, 1, *((9, 7, 6) if dims == 3 else (45, 11)))
    scale = scale or (2,) * dims
    restores = network.spec.interpolation is not None
    image = resize(lr, tuple(Fraction(s) for s in scale)) if restores else lr
    results = []
    with torch.no_grad():
        axes = range(2, 2 + dims)
        for flips in chain.from_iterable(combinations(axes, k) for k in range(dims + 1)):
            results.append(network(image.flip(flips)).flip(flips).numpy())
    assert len(results) == 2**dims
    for tile_size in (None, 8):
        inferer = SuperResolutionInferer(scale, ensemble=True, tile_size=tile_size)
        sr = inferer.enlarge(lr, network)
        np.testing.assert_allclose(sr.image, np.mean(results, axis=0), atol=2e-5)
        np.testing.assert_allclose(sr.deviation, np.std(results, axis=0), atol=2e-5)
    assert sr.tiles > 1


def test_what_lies_beyond_the_halo_changes_nothing(made, noise):
    network, lr = made.fixed((2, 2)), noise(1, 1, 20, 20)
    changed = lr.clone()
    changed[..., 10, 10] += 1e6
    inferer = SuperResolutionInferer((2, 2), tile_size=4)
    difference = (inferer(changed, network) - inferer(lr, network)).abs()[0, 0]
    near = torch.zeros_like(difference, dtype=torch.bool)
    near[2 * 8 : 2 * 13, 2 * 8 : 2 * 13] = True  # a halo of two LR voxels around one
    assert difference[~near].max() == 0
    assert difference[near].max() > 1


def test_guidance_is_read_where_the_tile_is(made, noise):
    network = made.recnn(3, in_channels=3)
    lr, guide = noise(2, 1, 6, 7, 5), noise(2, 2, 12, 7, 10, seed=1)
    scale = (2, 1, 2)
    with torch.no_grad():
        image = resize(lr, tuple(Fraction(s) for s in scale))
        expected = network(torch.cat([image, guide], dim=1))
    sr = SuperResolutionInferer(scale, tile_size=4)(lr, network, reference=guide)
    assert sr.shape == (2, 1, 12, 7, 10)
    torch.testing.assert_close(sr, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("halo_spec", "memory_mb"), [(1, 1), (None, 2048)])
def test_scale_one_returns_the_image(made, noise, halo_spec, memory_mb):
    network, lr = made.recnn(3) if halo_spec else made.Global(), noise(1, 1, 5, 6, 7)
    inferer = SuperResolutionInferer(1.0, ensemble=True, memory_mb=memory_mb)
    sr = inferer.enlarge(lr, network)
    torch.testing.assert_close(sr.image, lr, atol=0, rtol=0)
    assert sr.image.data_ptr() != lr.data_ptr()
    assert sr.deviation.abs().max() == 0
    assert sr.warnings == ["the image has the requested spacing already; returned unchanged"]


def test_global_context_runs_whole_or_not_at_all(made, noise):
    network, lr = made.seeded(made.Global), noise(1, 1, 12, 12, 12)
    whole = SuperResolutionInferer(2, tile_size=4).enlarge(lr, network)
    with torch.no_grad():
        expected = network(resize(lr, (Fraction(2),) * 3, kernel="linear"))
    torch.testing.assert_close(whole.image, expected, atol=1e-5, rtol=0)
    assert whole.tiles == 1
    with pytest.raises(
        InputError, match=r"looks at the whole image, which takes 14 MiB .* limit is 13: raise memory_mb"
    ):
        SuperResolutionInferer(2, memory_mb=13)(lr, network)


def test_leaves_the_network_and_the_image_as_they_were(made, noise):
    network, lr = made.recnn(3).train(), noise(1, 1, 4, 4, 4)
    before = lr.clone()
    sr = SuperResolutionInferer(2)(lr, network)
    assert network.training
    assert not sr.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    torch.testing.assert_close(lr, before, atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int16, torch.uint8])
def test_result_is_float32_whatever_comes_in(made, noise, dtype):
    lr = (noise(1, 1, 4, 4, 4) * 100).to(dtype)
    sr = SuperResolutionInferer(2)(lr, made.recnn(3))
    assert sr.dtype == torch.float32
    torch.testing.assert_close(sr, SuperResolutionInferer(2)(lr.float(), made.recnn(3)), atol=0, rtol=0)


def test_monais_windows_have_seams_where_ours_have_none(made, noise):
    """Why MONAI's sliding window is not used: blending never makes up for the missing context."""
    network, image = made.recnn(3, depth=6), noise(1, 1, 24, 20, 20)
    with torch.no_grad():
        whole = network(image)
        blended = SlidingWindowInferer((12, 12, 12), overlap=0.5, mode="gaussian")(image, network)
    seams = (blended - whole).abs().max()
    lr = image[..., ::2]
    ours = SuperResolutionInferer((1, 1, 2), tile_size=12)(lr, network)
    ours_whole = SuperResolutionInferer((1, 1, 2))(lr, network)
    assert seams > 1e-2
    assert (ours - ours_whole).abs().max() < 1e-5


def test_monais_inferers_fail_at_real_scales(noise):
    """And why slices are not left to it: the size of a window is truncated in floating point."""

    def enlarge(image):
        return torch.nn.functional.interpolate(image, scale_factor=2.3, mode="nearest")

    lr = noise(1, 1, 100, 100)
    with pytest.raises(RuntimeError):
        SlidingWindowInferer((40, 40), overlap=0.25)(lr, enlarge)
    volume = noise(1, 1, 113, 101, 2)
    with pytest.raises(RuntimeError):
        SliceInferer(roi_size=(-1, -1), spatial_dim=2)(volume, lambda x: enlarge(x))
