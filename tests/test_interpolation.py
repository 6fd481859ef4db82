"""Separable resampling against scipy, torch, Pillow and numpy."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from medsr.errors import GridError
from medsr.geometry import as_scale, output_shape
from medsr.interpolation import (
    BOUNDARIES,
    KERNELS,
    apply_matrices,
    fold_indices,
    kernel_matrix,
    resampling_matrices,
    resize,
    transposed,
)

fractions = st.builds(Fraction, st.integers(3, 40), st.integers(1, 10)).filter(lambda s: Fraction(1, 5) <= s <= 5)


def noise(*shape, dtype=torch.float64):
    return torch.rand(2, 1, *shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def boundaries_of(kernel):
    return ("nearest", "mirror") if kernel == "spline3" else BOUNDARIES


@pytest.mark.parametrize(
    ("shape", "scale"),
    [
        ((9, 8, 7), (2, 2, 2)),
        ((9, 8, 10), (3, 1, 1.5)),
        ((10, 20, 7), ("2.3", "2.7", 4)),
        ((12, 9), ("1/2", "2/3")),
        ((20, 1), ("11/10", 3)),
    ],
    ids=str,
)
def test_spline_is_scipys_zoom(shape, scale):
    x, scales = noise(*shape), as_scale(scale, len(shape))
    y = resize(x, scales)
    expected = ndimage.zoom(x[0, 0].numpy(), [float(s) for s in scales], order=3, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(y[0, 0], expected, atol=1e-12)


@pytest.mark.parametrize(("boundary", "low", "high"), [("nearest", -9, 22), ("mirror", -30, 44)])
def test_spline_is_scipys_map_coordinates(boundary, low, high):
    x = noise(14)[0, 0].numpy()
    positions = np.linspace(low, high, 80)
    expected = ndimage.map_coordinates(x, [positions], order=3, mode=boundary)
    np.testing.assert_allclose(kernel_matrix(positions, 14, "spline3", boundary) @ x, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("kernel", "mode"), [("cubic-0.75", "bicubic"), ("linear", "bilinear"), ("nearest", "nearest-exact")]
)
@pytest.mark.parametrize(("shape", "size"), [((12, 9), (24, 27)), ((12, 9), (28, 23)), ((24, 30), (8, 10))])
def test_kernels_are_torchs(kernel, mode, shape, size):
    x = noise(*shape)
    keywords = {} if "nearest" in mode else {"align_corners": False}
    expected = torch.nn.functional.interpolate(x, size, mode=mode, **keywords)
    scales = tuple(Fraction(m, n) for n, m in zip(shape, size, strict=True))
    torch.testing.assert_close(resize(x, scales, kernel=kernel), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("kernel", "pillow"), [("cubic", Image.Resampling.BICUBIC), ("linear", Image.Resampling.BILINEAR)]
)
@pytest.mark.parametrize("size", [(16, 12), (24, 36), (96, 108)])
def test_antialiasing_is_pillows_inside(kernel, pillow, size):
    x = noise(48, 54, dtype=torch.float32)
    scales = tuple(Fraction(m, n) for n, m in zip((48, 54), size, strict=True))
    y = resize(x, scales, kernel=kernel, antialias=True)[0, 0]
    expected = np.asarray(Image.fromarray(x[0, 0].numpy()).resize(size[::-1], pillow))
    edge = 4  # there Pillow leaves out what lies outside
    np.testing.assert_allclose(y[edge:-edge, edge:-edge], expected[edge:-edge, edge:-edge], atol=1e-5)


@pytest.mark.parametrize(
    ("boundary", "numpy_mode"), [("nearest", "edge"), ("reflect", "symmetric"), ("mirror", "reflect")]
)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_boundaries_are_numpys(boundary, numpy_mode, n):
    columns, keep = fold_indices(np.arange(-13, n + 13), n, boundary)
    np.testing.assert_array_equal(columns, np.pad(np.arange(n), 13, mode=numpy_mode))
    assert keep.all()


def test_zero_boundary_drops_taps():
    columns, keep = fold_indices(np.arange(-2, 6), 4, "zero")
    np.testing.assert_array_equal(keep, [False] * 2 + [True] * 4 + [False] * 2)
    np.testing.assert_array_equal(columns[keep], np.arange(4))


@given(
    data=st.data(),
    n=st.integers(1, 20),
    scale=fractions,
    kernel=st.sampled_from(KERNELS),
    antialias=st.booleans(),
)
def test_constants_stay(data, n, scale, kernel, antialias):
    boundary = data.draw(st.sampled_from([b for b in boundaries_of(kernel) if b != "zero"]))
    y = resize(
        torch.full((1, 1, n), 3.0, dtype=torch.float64),
        (scale,),
        kernel=kernel,
        boundary=boundary,
        antialias=antialias,
    )
    assert y.shape[2:] == output_shape((n,), (scale,))
    torch.testing.assert_close(y, torch.full_like(y, 3.0), atol=1e-12, rtol=0)


@given(scale=fractions, kernel=st.sampled_from(["linear", "cubic", "spline3"]))
def test_linear_functions_stay_inside(scale, kernel):
    n = 60
    y = resize(torch.arange(n, dtype=torch.float64)[None, None], (scale,), kernel=kernel)[0, 0].numpy()
    expected = (np.arange(len(y)) + 0.5) / float(scale) - 0.5
    inside = (expected >= 18) & (expected <= n - 19)
    np.testing.assert_allclose(y[inside], expected[inside], atol=1e-8)


@given(
    data=st.data(),
    kernel=st.sampled_from(KERNELS),
    scales=st.tuples(fractions, st.just(Fraction(1)), fractions),
)
def test_region_is_a_part_of_the_whole(data, kernel, scales):
    x = noise(7, 6, 8)
    matrices = resampling_matrices(x.shape[2:], scales, kernel=kernel)
    whole = apply_matrices(x, matrices)
    region = []
    for m in whole.shape[2:]:
        low = data.draw(st.integers(0, m - 1))
        region.append(slice(low, data.draw(st.integers(low + 1, m))))
    part = apply_matrices(x, matrices, region)
    torch.testing.assert_close(part, whole[(..., *region)], atol=1e-12, rtol=0)
    assert part.is_contiguous()


@pytest.mark.parametrize("kernel", KERNELS)
def test_adjoint(kernel):
    x, scales = noise(7, 6, 8), as_scale((2.3, 1, "2/3"), 3)
    for boundary in boundaries_of(kernel):
        matrices = resampling_matrices(x.shape[2:], scales, kernel=kernel, boundary=boundary)
        y = apply_matrices(x, matrices)
        z = torch.rand_like(y)
        back = apply_matrices(z, transposed(matrices))
        torch.testing.assert_close((y * z).sum(), (x * back).sum(), rtol=1e-12, atol=0)


def test_gradient_is_the_adjoint():
    x, scales = noise(6, 5).requires_grad_(), as_scale((2, 1.5), 2)
    y = resize(x, scales)
    y.backward(torch.ones_like(y))
    matrices = transposed(resampling_matrices(x.shape[2:], scales))
    torch.testing.assert_close(x.grad, apply_matrices(torch.ones_like(y), matrices))


def test_given_size_continues_the_grid():
    x = noise(10)
    longer = resize(x, (Fraction(23, 10),), new_shape=(25,))
    torch.testing.assert_close(longer[..., :23], resize(x, (Fraction(23, 10),)), atol=1e-12, rtol=0)
    assert resize(x, (Fraction(1),), new_shape=(8,)).shape == (2, 1, 8)


def test_scale_one_changes_nothing():
    x = noise(5, 6)
    assert resampling_matrices((5, 6), as_scale(1, 2)) == [None, None]
    torch.testing.assert_close(resize(x, as_scale(1, 2)), x, atol=0, rtol=0)


def test_keeps_dtype_and_channels():
    x = torch.rand(2, 3, 4, 5)
    y = resize(x, as_scale((2, 3), 2))
    assert (y.dtype, y.shape) == (torch.float32, (2, 3, 8, 15))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"kernel": "cubical"}, "kernel is one of nearest, linear"),
        ({"kernel": "linear", "boundary": "wrap"}, "boundary is one of nearest, reflect"),
        ({"kernel": "spline3", "boundary": "zero"}, "takes the boundary nearest or mirror"),
    ],
)
def test_bad_names(keywords, message):
    with pytest.raises(GridError, match=message) as error:
        resize(noise(4), as_scale(2, 1), **keywords)
    assert "\n" not in str(error.value)
