"""Exact consistency against dense linear algebra, and the protocols of acquisitions that it is for."""

from __future__ import annotations

import json
import pickle
from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
import torch

from medsr import degradation
from medsr.degradation import ExactConsistency, MixtureDegradation, PerAxisDegradation, mu_of_noise
from medsr.errors import InputError
from medsr.geometry import as_scale
from medsr.interpolation import resize

FORMATIONS = [
    degradation.get("gaussian-blur"),
    degradation.get("block-mean"),
    degradation.get("slice-profile", fwhm=1.3),
    degradation.get("kspace-truncation"),
    degradation.get("kspace-truncation", window="fermi", extent=0.7),
    degradation.get("bicubic"),
]
CASES = [((8, 9), (4, 6), (2, 1.5)), ((6, 8, 10), (3, 8, 2), (2, 1, 5)), ((7, 6, 9), (5, 4, 4), ("7/5", 1.5, "9/4"))]


def dense(formation, hr_shape, lr_shape, scale):
    matrices = formation.matrices(hr_shape, lr_shape, scale)
    whole = [np.eye(n) if m is None else m for m, n in zip(matrices, hr_shape, strict=True)]
    return reduce(np.kron, whole)


def pair(hr_shape, lr_shape, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(2, 3, *hr_shape, generator=generator, **options),
        torch.rand(2, 3, *lr_shape, generator=generator, **options),
    )


@pytest.mark.parametrize("mu", [0.0, 0.04, 1.0])
@pytest.mark.parametrize(("hr_shape", "lr_shape", "scale"), CASES, ids=str)
@pytest.mark.parametrize("formation", FORMATIONS, ids=lambda f: f.name)
def test_it_is_the_regularised_solution(formation, hr_shape, lr_shape, scale, mu):
    """x + A^T (A A^T + mu I)^-1 (y - A x), by dense matrices; the pseudo-inverse where mu is 0."""
    scales = as_scale(scale, len(hr_shape))
    x, y = pair(hr_shape, lr_shape, dtype=torch.float64)
    a = dense(formation, hr_shape, lr_shape, scales)
    largest = np.linalg.norm(a, 2) ** 2
    residual = y.numpy().reshape(6, -1) - x.numpy().reshape(6, -1) @ a.T
    if mu:
        inverse = a.T @ np.linalg.inv(a @ a.T + mu * largest * np.eye(len(a)))
    else:
        inverse = np.linalg.pinv(a, rcond=1e-9)
    expected = x.numpy().reshape(6, -1) + residual @ inverse.T
    made = ExactConsistency(formation, hr_shape, lr_shape, scales, mu)(x, y)
    np.testing.assert_allclose(made.numpy().reshape(6, -1), expected, atol=1e-7)


@pytest.mark.parametrize("formation", FORMATIONS, ids=lambda f: f.name)
def test_without_mu_a_measured_image_is_obeyed_exactly(formation):
    hr, start = (pair((12, 10, 8), (6, 5, 4), seed, dtype=torch.float64)[0] for seed in (1, 2))
    lr = formation(hr, 2)
    consistent = ExactConsistency(formation, (12, 10, 8), (6, 5, 4), as_scale(2, 3), mu=0.0)
    result = consistent(start, lr)
    torch.testing.assert_close(formation(result, 2), lr, atol=1e-6, rtol=0)
    torch.testing.assert_close(consistent(result, lr), result, atol=1e-6, rtol=0)
    torch.testing.assert_close(consistent(hr, lr), hr, atol=1e-9, rtol=0)  # the truth is not moved
    assert (result - hr).norm() <= (start - hr).norm() * (1 + 1e-9)  # a projection never moves away from it


def test_the_start_is_the_interpolation_made_consistent():
    hr, _ = pair((12, 10, 9), (6, 10, 3))
    scale = as_scale((2, 1, 3), 3)
    formation = degradation.get("slice-profile")
    lr = formation(hr, scale)
    consistent = ExactConsistency(formation, hr.shape[2:], lr.shape[2:], scale)
    expected = consistent(resize(lr, scale, new_shape=hr.shape[2:]), lr)
    torch.testing.assert_close(consistent.start(lr), expected, atol=1e-5, rtol=0)


def test_gradients_pass_and_the_devices_of_images_are_kept():
    x, y = pair((8, 8), (4, 4))
    consistent = ExactConsistency(degradation.get("block-mean"), (8, 8), (4, 4), as_scale(2, 2), mu=0.0)
    x.requires_grad_()
    consistent(x, y).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0
    assert x.grad.reshape(2, 3, 4, 2, 4, 2).mean((3, 5)).abs().max() < 1e-6  # block means do not depend on x


def test_noise_raises_mu():
    assert 0 < mu_of_noise(0.0) < mu_of_noise(0.02) < mu_of_noise(0.04)


@pytest.mark.parametrize("wrong", [degradation.get("acquisition-3d")], ids=lambda d: d.name)
def test_what_is_not_separable_is_refused(wrong):
    with pytest.raises(InputError, match="separable"):
        ExactConsistency(wrong, (8, 8), (4, 4), as_scale(2, 2))
    with pytest.raises(InputError, match="at least 0"):
        ExactConsistency(degradation.get("bicubic"), (8, 8), (4, 4), as_scale(2, 2), mu=-1.0)


class TestPerAxis:
    def test_each_axis_has_its_own(self):
        across, within = degradation.get("slice-profile", thickness=0.8), degradation.get("kspace-truncation")
        both = PerAxisDegradation(axes=(within, within, across))
        hr, _ = pair((12, 12, 15), (6, 6, 3), dtype=torch.float64)
        expected = across(within(hr, (2, 2, 1)), (1, 1, 5))
        torch.testing.assert_close(both(hr, (2, 2, 5)), expected)

    def test_an_axis_without_one_stays(self):
        only = PerAxisDegradation(axes=(None, degradation.get("block-mean")))
        hr, _ = pair((5, 6), (5, 3), dtype=torch.float64)
        torch.testing.assert_close(only(hr, (1, 2)), degradation.get("block-mean")(hr, (1, 2)))
        with pytest.raises(InputError, match="axis 0 is enlarged by 5"):
            only(hr, (5, 2))

    def test_wrong_ones_are_refused(self):
        block = degradation.get("block-mean")
        with pytest.raises(InputError, match="describes 2 axes, but the image has 3"):
            PerAxisDegradation(axes=(block, block))(torch.rand(1, 1, 4, 4, 4), 2)
        with pytest.raises(InputError, match="separable degradation"):
            PerAxisDegradation(axes=(degradation.get("acquisition-3d"),))
        with pytest.raises(InputError, match="share an alignment"):
            PerAxisDegradation(axes=(block, degradation.get("decimation")))


class TestAcquisitions:
    ALL = ("acquisition-3d", "acquisition-2d-multislice", "acquisition-ct")

    @pytest.mark.parametrize("name", ALL)
    def test_draws_are_concrete_and_repeat_by_their_generator(self, name):
        protocol = degradation.get(name)
        scale = as_scale((2, 2, 5), 3)
        drawn = [protocol.draw(scale, torch.Generator().manual_seed(seed)) for seed in range(40)]
        assert drawn[3] == protocol.draw(scale, torch.Generator().manual_seed(3))
        assert len(set(drawn)) > 30
        assert {len(d.steps) for d in drawn} == {1, 2}  # with noise and without
        for each in drawn:
            assert degradation.from_dict(json.loads(json.dumps(each.to_dict()))) == each
            assert pickle.loads(pickle.dumps(each)) == each
            ExactConsistency(each, (8, 8, 20), (4, 4, 4), scale)

    def test_slices_have_a_profile_across_and_kspace_within(self):
        protocol = degradation.get("acquisition-2d-multislice")
        for seed in range(5):
            formation = protocol.draw(as_scale((2, 5, 2), 3), torch.Generator().manual_seed(seed)).downsampling
            assert [d.name for d in formation.axes] == ["kspace-truncation", "slice-profile", "kspace-truncation"]

    def test_noise_is_of_the_stated_size(self):
        protocol = degradation.get("acquisition-3d", noise=(0.03, 0.03), noiseless=0.0)
        drawn = protocol.draw(as_scale(2, 2), torch.Generator().manual_seed(0))
        hr = torch.linspace(1, 2, 200 * 200).reshape(1, 1, 200, 200)
        generator = torch.Generator().manual_seed(1)
        lr = drawn.downsampling(hr, 2)
        noise = drawn(hr, 2, generator=generator) - lr
        assert float(noise.std() / (lr.max() - lr.min())) == pytest.approx(0.03, rel=0.05)

    def test_a_mixture_draws_by_weight(self):
        mixture = MixtureDegradation(
            choices=(degradation.get("block-mean"), degradation.get("acquisition-3d")), weights=(1, 3)
        )
        generator = torch.Generator().manual_seed(0)
        drawn = [mixture.draw(as_scale(2, 3), generator).name for _ in range(400)]
        assert drawn.count("block-mean") == pytest.approx(100, abs=35)
        assert degradation.from_dict(json.loads(json.dumps(mixture.to_dict()))) == mixture
        with pytest.raises(InputError, match="for each of 2"):
            MixtureDegradation(choices=mixture.choices, weights=(1,))

    def test_wrong_parameters_are_refused(self):
        for wrong in ({"acquisition": "4d"}, {"noise": (0.1, 0.0)}, {"noiseless": 2}):
            with pytest.raises(InputError):
                degradation.get("acquisition-3d", **wrong)


def test_a_zero_filled_image_has_nothing_beyond_its_extent():
    hr = torch.rand(1, 1, 64, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lr = degradation.get("kspace-truncation", extent=0.5)(hr, (2, 1))
    spectrum = torch.fft.fft(lr[0, 0, :, 0]).abs()
    assert spectrum[9:24].max() < 1e-9 < 1e-3 < spectrum[1:8].min()


@pytest.mark.parametrize("scale", [Fraction(2), Fraction(5, 2)])
def test_a_trapezoid_is_the_convolution_of_its_boxes(scale):
    """The mean over a box of ramps of a third of the FWHM, by fine numerical integration of a parabola."""
    n = 40
    positions = np.array([17.3, 20.0])
    from medsr.degradation.profiles import profile_matrix

    fwhm = float(scale)
    matrix = profile_matrix(positions, n, "trapezoid", fwhm)
    x = np.linspace(-fwhm, fwhm, 20001)
    density = np.clip((fwhm * 2 / 3 - np.abs(x)) / (fwhm / 3), 0, 1)
    linear = np.arange(n, dtype=float)
    np.testing.assert_allclose(matrix @ linear, positions, atol=1e-9)
    assert matrix.sum(axis=1) == pytest.approx(1)
    spread = (matrix * (np.arange(n) - positions[:, None]) ** 2).sum(axis=1)
    exact = (density * x**2).sum() / density.sum()
    np.testing.assert_allclose(spread, exact, atol=0.1)  # a voxel has an extent of its own, 1/12


# Gain in dB over the spline at 2x2x2 where the formation is known and nothing is learned, mean of six test crops.
PUBLISHED = {
    "sigma 1": (degradation.get("gaussian-blur"), 2.17),
    "sigma 0.6": (degradation.get("gaussian-blur", sigma=0.6), 0.54),
    "block": (degradation.get("block-mean"), 0.35),
    "k-space": (degradation.get("kspace-truncation"), 0.37),
    "bicubic": (degradation.get("bicubic"), 0.72),
    "profile": (degradation.get("slice-profile"), 1.43),
}


@pytest.fixture(scope="module")
def crops(shared_data):
    import csv

    import nibabel as nib

    rows = csv.DictReader((shared_data / "splits.csv").open())
    files = [r["file"] for r in rows if r["split"] == "test" and r["file"].startswith("hippocampus_msd/images")]
    images = []
    for file in files[:6]:
        values = np.asarray(nib.load(shared_data / file).dataobj, dtype=np.float32)
        values = (values - values.min()) / (np.percentile(values, 99.9) - values.min())
        even = values[tuple(slice(0, n - n % 2) for n in values.shape)]
        images.append(torch.from_numpy(even.copy())[None, None])
    return images


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_images_gain_what_was_measured_elsewhere(crops, name):
    formation, expected = PUBLISHED[name]
    scale, gains = as_scale(2, 3), []
    for hr in crops:
        lr = formation(hr, 2)
        spline = resize(lr, scale)
        made = ExactConsistency(formation, hr.shape[2:], lr.shape[2:], scale).start(lr)
        gains.append(10 * float(((spline - hr).square().mean() / (made - hr).square().mean()).log10()))
    assert np.mean(gains) == pytest.approx(expected, abs=0.04)
    assert min(gains) > 0
