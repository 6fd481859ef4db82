"""Guards: noise in flat tissue and values outside the surroundings, as plain numpy and scipy find them.

Compared with scipy.ndimage: its spline zoom, its rank filters and its convolution.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from medsr.errors import InputError
from medsr.geometry import as_scale
from medsr.inferers import Guards, Limits, SuperResolutionInferer, guards, measure
from medsr.interpolation import resize
from medsr.networks import create
from medsr.weights.loading import load_weights

REPOSITORY = Path(__file__).resolve().parents[2]
Array = np.ndarray


def head(shape: tuple[int, ...], noise: float = 0.02, seed: int = 0) -> Array:
    """A ball with a shell and dark air around it, blurred, with noise everywhere."""
    rng = np.random.default_rng(seed)
    r = np.sqrt(sum(((np.arange(n) - (n - 1) / 2) / (n / 2)).reshape(-1, *[1] * k) ** 2 for k, n in _axes(shape)))
    values = ndimage.gaussian_filter(np.where(r < 0.6, 0.7, np.where(r < 0.85, 1.0, 0.0)), 1)
    return (values + noise * rng.standard_normal(shape)).astype(np.float32)


def _axes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(len(shape) - 1 - axis, n) for axis, n in enumerate(shape)]


def spline(lr: Array, scale: Any) -> Array:
    return resize(torch.as_tensor(lr)[None, None], as_scale(scale, lr.ndim))[0, 0].numpy()


def measured(sr: Array, lr: Array, scale: Any) -> Guards:
    return measure(torch.as_tensor(sr)[None], torch.as_tensor(lr)[None], scale)


def plainly(sr: Array, lr: Array, factors: tuple[int, ...]) -> tuple[float, float]:
    """Return gain and share by scipy, for whole factors."""
    low, high = np.quantile(lr, [0.001, 0.999], method="lower")
    near_low = ndimage.minimum_filter(lr, 3, mode="nearest")
    near_high = ndimage.maximum_filter(lr, 3, mode="nearest")
    foreground = lr > low + 0.1 * (high - low)
    contrast = (near_high - near_low)[foreground]
    flat = foreground & (near_high - near_low <= np.quantile(contrast, 0.2, method="lower"))
    block = np.ones(factors)
    inside, flat, near_low, near_high = (
        np.kron(v, block) for v in (foreground, flat, near_low.astype(float), near_high.astype(float))
    )
    outside = (sr < near_low - 0.02 * (high - low)) | (sr > near_high + 0.02 * (high - low))
    interpolated = ndimage.zoom(lr.astype(float), factors, order=3, mode="nearest", grid_mode=True)
    kernel = np.array([1.0])
    for _ in range(lr.ndim):
        kernel = np.multiply.outer(kernel, np.array([1, 4, 6, 4, 1]) / 16)
    spreads = []
    for image in (sr.astype(float), interpolated):
        rest = image - ndimage.convolve(image, kernel[0], mode="nearest")
        spreads.append(stats.median_abs_deviation(rest[flat > 0]))
    return spreads[0] / spreads[1], float(outside[inside > 0].mean())


@pytest.mark.parametrize(
    ("shape", "factors"), [((22, 18, 16), (2, 2, 2)), ((20, 22, 12), (1, 1, 3)), ((70, 66), (3, 2)), ((64, 60), (2, 1))]
)
def test_figures_are_those_of_a_plain_formulation(shape: tuple[int, ...], factors: tuple[int, ...]) -> None:
    lr = head(shape)
    rng = np.random.default_rng(1)
    sr = spline(lr, factors)
    sr = (sr + 0.08 * rng.standard_normal(sr.shape)).astype(np.float32)
    gain, share = plainly(sr, lr, factors)
    found = measured(1000 * sr - 400, 1000 * lr - 400, factors)
    assert found.noise_gain == pytest.approx(gain, rel=0.02)  # the medians of even numbers of values differ
    assert found.outside_envelope == pytest.approx(share, abs=2e-4)
    assert gain > 2
    assert share > 0.01


@pytest.mark.parametrize("scale", [2, (1, 1, 3), (1.5, 2, Fraction(7, 3))])
def test_a_spline_has_gain_one_and_stays_inside(scale: Any) -> None:
    lr = head((24, 20, 18))
    found = measured(spline(lr, scale), lr, scale)
    assert found.noise_gain == pytest.approx(1, abs=1e-3)
    assert found.outside_envelope < Guards.LIMITS.outside_envelope
    assert not found.exceeded


def test_added_noise_raises_the_gain_as_predicted() -> None:
    """Variances add: white noise of sigma raises the square of the gain by k (sigma / the spline's noise)^2.

    k is 1 - 2 b(0)^3 + (sum b^2)^3 for the filter b along three axes.
    """
    rng = np.random.default_rng(2)
    lr = np.ones((32, 32, 32)) + 0.02 * rng.standard_normal((32, 32, 32))
    lr[:6] -= 1  # air
    sr = spline(lr.astype(np.float32), 2)
    b = np.array([1, 4, 6, 4, 1]) / 16
    kept = 1 - 2 * b[2] ** 3 + np.sum(b**2) ** 3
    noise = rng.standard_normal(sr.shape)
    gains = [measured((sr + s * noise).astype(np.float32), lr.astype(np.float32), 2).noise_gain for s in (0.04, 0.08)]
    rest = sr - ndimage.convolve(sr, np.einsum("i,j,k", b, b, b), mode="nearest")
    own = rest[20:].std()  # of all tissue; where flat tissue is chosen, noise is a little lower
    assert gains[0] == pytest.approx(np.sqrt(1 + kept * (0.04 / own) ** 2), rel=0.3)
    assert (gains[1] ** 2 - 1) / (gains[0] ** 2 - 1) == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize("voxels", [1, 700, 5000])
def test_slabs_equal_the_whole(voxels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lr = head((16, 12, 14))
    for scale in (2, (1, 3, 1), (1, 1, 1.5)):
        sr = spline(lr, scale)
        sr = sr + 0.04 * np.random.default_rng(3).standard_normal(sr.shape).astype(np.float32)
        whole = measured(sr, lr, scale)
        with monkeypatch.context() as patch:
            patch.setattr(guards, "_SLAB_VOXELS", voxels)
            parts = measured(sr, lr, scale)
        assert parts.noise_gain == pytest.approx(whole.noise_gain, rel=1e-4)
        assert parts.outside_envelope == whole.outside_envelope


def test_a_sample_of_flat_tissue_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    lr = head((40, 40, 40))
    sr = spline(lr, 2)
    sr = sr + 0.04 * np.random.default_rng(3).standard_normal(sr.shape).astype(np.float32)
    whole = measured(sr, lr, 2)
    monkeypatch.setattr(guards, "_FLAT_VOXELS", 1500)
    assert measured(sr, lr, 2).noise_gain == pytest.approx(whole.noise_gain, rel=0.05)


def test_the_worst_channel_counts_and_more_contrasts_may_come_in_than_go_out() -> None:
    lr = np.stack([head((12, 12, 12), seed=k) for k in range(3)])
    sr = np.stack([spline(lr[k], 2) for k in range(2)])
    sr[1] += 0.1 * np.random.default_rng(4).standard_normal(sr[1].shape)
    both = measure(torch.as_tensor(sr), torch.as_tensor(lr), 2)
    assert both == measure(torch.as_tensor(sr[1:]), torch.as_tensor(lr[1:2]), 2)
    assert both.noise_gain > 2


@pytest.mark.parametrize("value", [0.0, -1000.0, float("nan"), float("inf")])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 4, 3), (1, 7)])
def test_constant_images_have_nothing_to_measure(value: float, shape: tuple[int, ...]) -> None:
    lr = np.full(shape, value, dtype=np.float32)
    assert measured(np.repeat(lr, 2, axis=0), lr, (2, *[1] * (len(shape) - 1))) == Guards()


@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 1, 3), (3, 2), (1, 4)])
@pytest.mark.parametrize("scale", [1, 2, 1.7])
def test_tiny_images_are_measured(shape: tuple[int, ...], scale: float) -> None:
    lr = np.random.default_rng(0).random(shape).astype(np.float32)
    found = measured(spline(lr, scale), lr, scale)
    assert found.noise_gain is None or found.noise_gain == pytest.approx(1, abs=0.01)
    assert found.outside_envelope is None or 0 <= found.outside_envelope <= 1


def test_a_phantom_without_noise_has_no_gain() -> None:
    lr = np.zeros((16, 16), dtype=np.float32)
    lr[4:12, 4:12] = 1
    found = measured(lr, lr, 1)
    assert found.noise_gain is None
    assert found.outside_envelope == 0


def test_values_that_are_not_finite_count_as_outside_and_do_not_spread() -> None:
    lr = head((24, 24, 24))
    sr = spline(lr, 2)
    before = measured(sr, lr, 2)
    sr[23, 24, 25] = np.nan
    sr[24, 24, 25] = np.inf
    after = measured(sr, lr, 2)
    low, high = np.quantile(lr, [0.001, 0.999])
    foreground = 8 * int((lr > low + 0.1 * (high - low)).sum())
    assert after.outside_envelope - before.outside_envelope == pytest.approx(2 / foreground, rel=0.02)
    assert after.noise_gain == pytest.approx(before.noise_gain, rel=0.05)
    lr[12, 12, 12] = np.nan
    assert measured(sr, lr, 2).noise_gain == pytest.approx(1, abs=0.2)


def test_warnings_say_what_was_found_and_what_to_do() -> None:
    assert Guards().warnings() == Guards(1.5, 0.02).warnings() == []
    noise, outside = Guards(2.84, 0.183).warnings()
    assert noise == (
        "the result has 2.8 times the noise of a spline in flat tissue (limit 1.5): choose other weights, state "
        "--formation, or use --safe"
    )
    assert outside.startswith("18.3% of the result's foreground leaves the values of the LR voxels around it (limit 2")
    assert "--safe" in outside
    assert Guards(2.84, 0.183).warnings(Limits(3, 0.2)) == []
    assert Guards(1.6).exceeded
    assert not Guards(1.4, 0.01).exceeded
    assert json.loads(json.dumps(Guards(1.23456).to_dict()))["noise_gain"] == 1.235


def test_images_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected SR and LR images \(C, \*spatial\).*one image of a batch at a time"):
        measure(torch.zeros(1, 4, 4, 4), torch.zeros(1, 1, 2, 2, 2), 2)
    with pytest.raises(InputError, match="same channels"):
        measure(torch.zeros(2, 4, 4), torch.zeros(1, 2, 2), 2)


@pytest.fixture
def real_head(shared_data: Path) -> Array:
    """A block of a real 1 mm T1w head, 32^3."""
    values = np.asarray(nib.load(shared_data / "brain_t1" / "coregqa_T1w_brain.nii.gz").dataobj, dtype=np.float32)
    return values[tuple(slice(n // 2 - 16, n // 2 + 16) for n in values.shape)] / np.quantile(values, 0.995)


def test_published_weights_weave_a_texture_into_a_real_head(real_head: Array) -> None:
    """Weights that learned to undo a blur which the scan does not have: the case these guards are for."""
    network = create("recnn-10l", features=32)
    published = REPOSITORY / "bundles" / "recnn3d" / "models" / "model_pham2017.pt"
    load_weights(network, published if published.exists() else published.with_name("model.pt"))
    lr = torch.as_tensor(real_head)[None]
    found = measure(SuperResolutionInferer(scale=2)(lr[None], network)[0], lr, 2)
    assert 2.5 < found.noise_gain < 4
    assert 0.1 < found.outside_envelope < 0.25
    assert len(found.warnings()) == 2


def test_no_interpolation_of_a_real_head_is_warned_of(real_head: Array) -> None:
    lr = torch.as_tensor(real_head)[None]
    for scale in (2, (1, 1, 3), (2, 2, 1)):
        for kernel in ("spline3", "cubic", "linear"):
            sr = resize(lr[None], as_scale(scale, 3), kernel=kernel)[0]
            assert not measure(sr, lr, scale).exceeded, (scale, kernel)
