"""Degradations against other people's programs and closed forms."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from medsr import degradation
from medsr.degradation import SliceProfileDegradation
from medsr.errors import InputError


def noise(*shape):
    return np.random.default_rng(0).random(shape)


def degrade(step, hr, scale, **keywords):
    return step(torch.from_numpy(np.ascontiguousarray(hr))[None, None], scale, **keywords)[0, 0].numpy()


@pytest.mark.parametrize("scale", [(2, 2, 2), (3, 3, 3), (1, 1, 3), (1.5, 2, 1)])
def test_gaussian_is_scipy_blur_then_zoom(scale):
    hr = noise(18, 12, 24)
    blurred = ndimage.gaussian_filter(hr, [0 if s == 1 else 1 for s in scale], mode="reflect", truncate=4)
    expected = ndimage.zoom(blurred, [1 / s for s in scale], order=3, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(degrade(degradation.get("gaussian-blur"), hr, scale), expected, atol=1e-12)


def test_gaussian_blurs_unscaled_axes_when_asked():
    hr = noise(12, 12)
    step = degradation.get("gaussian-blur", blur_unscaled_axes=True, sigma=1.3)
    np.testing.assert_allclose(degrade(step, hr, 1), ndimage.gaussian_filter(hr, 1.3), atol=1e-12)


@pytest.mark.parametrize("scale", [(2, 2, 2), (3, 3, 3), (1, 2, 3)])
def test_pham_is_scipy_with_its_defaults(scale):
    hr = noise(18, 12, 24)
    expected = ndimage.zoom(ndimage.gaussian_filter(hr, 1), [1 / s for s in scale], order=3)
    np.testing.assert_allclose(degrade(degradation.get("pham-scipy-zoom"), hr, scale), expected, atol=1e-12)


def test_bicubic_is_pillow_inside_and_matlab_at_the_edge():
    hr = noise(48, 60).astype(np.float32)
    expected = np.asarray(Image.fromarray(hr).resize((20, 16), Image.Resampling.BICUBIC))
    lr = degrade(degradation.get("bicubic"), hr, 3)
    np.testing.assert_allclose(lr[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-5)
    mirrored = np.pad(hr, 12, mode="symmetric")  # as imresize continues the image
    padded = np.asarray(Image.fromarray(mirrored).resize((28, 24), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(lr, padded[4:-4, 4:-4], atol=1e-5)


@pytest.mark.parametrize("size", [(12, 9), (24, 27), (32, 24)])
def test_bicubic_without_antialiasing_is_torch(size):
    hr = noise(48, 54)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(hr)[None, None], size, mode="bicubic", align_corners=False
    )[0, 0]
    scale = tuple(Fraction(n, m) for n, m in zip(hr.shape, size, strict=True))
    np.testing.assert_allclose(degrade(degradation.get("bicubic-no-antialias"), hr, scale), expected, atol=1e-12)


def test_the_dissertations_bicubic_uses_four_voxels():
    matrix = degradation.get("bicubic-no-antialias").axis_matrix(64, 16, Fraction(4))
    np.testing.assert_allclose(matrix[5, 20:24], [-0.09375, 0.59375, 0.59375, -0.09375])
    assert np.count_nonzero(matrix[5]) == 4


def test_decimation_keeps_the_first_voxel():
    hr = noise(12, 15)
    np.testing.assert_array_equal(degrade(degradation.get("decimation"), hr, (2, 3)), hr[::2, ::3])


def test_block_mean_is_the_mean_of_the_block():
    hr = noise(12, 15)
    expected = hr.reshape(6, 2, 5, 3).mean((1, 3))
    np.testing.assert_allclose(degrade(degradation.get("block-mean"), hr, (2, 3)), expected, atol=1e-12)


@pytest.mark.parametrize("profile", ["box", "gaussian"])
@pytest.mark.parametrize("scale", ["3/2", "23/10", "2", "5"])
def test_profiles_integrate_the_image(profile, scale):
    """Against brute force: the image on a fine lattice (its mean and slope within each voxel), summed."""
    s, n, fine = Fraction(scale), 69 if scale == "23/10" else 60, 400
    step = degradation.get("slice-profile", profile=profile, thickness=0.8)
    hr = noise(n)
    padded = np.pad(hr, 40, mode="edge")
    slope = np.gradient(padded)
    offset = (np.arange(fine) + 0.5) / fine - 0.5
    values = (padded[:, None] + slope[:, None] * offset).ravel()
    x = (np.arange(len(padded))[:, None] - 40 + offset).ravel()
    m, fwhm = int(n / s), 0.8 * float(s)
    lr = degrade(step, np.stack([hr, hr], axis=1), (s, 1))[:, 0]
    for i, position in enumerate(step.positions(m, n, s)):
        if profile == "box":
            weights = (np.abs(x - position) < fwhm / 2).astype(float)
        else:
            weights = np.exp(-4 * np.log(2) * ((x - position) / fwhm) ** 2)
        assert lr[i] == pytest.approx((weights * values).sum() / weights.sum(), abs=2e-3 if profile == "box" else 1e-5)


@pytest.mark.parametrize("profile", ["box", "gaussian"])
@pytest.mark.parametrize("thickness", [1.0, 0.5])
def test_profiles_attenuate_as_their_transfer_function(profile, thickness):
    n, s, cycles = 240, 5, 6
    width = thickness * s  # full width at half maximum in HR voxels
    omega = 2 * np.pi * cycles / n
    step = degradation.get("slice-profile", profile=profile, thickness=thickness)
    lr = degrade(step, np.cos(omega * np.arange(n))[:, None] * np.ones(2), (s, 1))[:, 0]
    transfer = np.sinc(cycles * width / n) if profile == "box" else np.exp(-(omega**2) * width**2 / (16 * np.log(2)))
    expected = transfer * np.cos(omega * step.positions(48, n, Fraction(s)))
    np.testing.assert_allclose(lr[3:-3], expected[3:-3], atol=4e-3)


def test_profile_in_mm():
    step = SliceProfileDegradation.from_mm(spacing=5.0, thickness=4.0, fwhm=3.0)
    assert (step.thickness, step.fwhm) == (0.8, 0.75)
    assert SliceProfileDegradation.from_mm(5.0) == degradation.get("slice-profile")
    with pytest.raises(InputError, match="positive mm"):
        SliceProfileDegradation.from_mm(0.0)


@pytest.mark.parametrize(("n", "m"), [(24, 12), (30, 10), (27, 9), (24, 16), (20, 5)])
@pytest.mark.parametrize("alignment", ["first-voxel", "half-pixel"])
def test_kspace_truncation_is_the_cropped_dft(n, m, alignment):
    hr = noise(n, 2)
    spectrum = np.fft.fftshift(np.fft.fft(hr, axis=0), axes=0)
    k = np.fft.fftshift(np.fft.fftfreq(n, 1 / n))
    keep = (k >= -(m // 2)) & (k < (m + 1) // 2)
    shift = 0 if alignment == "first-voxel" else (n / m - 1) / 2  # HR voxels
    phase = np.exp(2j * np.pi * k[keep] * shift / n)[:, None]
    cropped = np.fft.ifftshift(spectrum[keep] * phase, axes=0)
    expected = (np.fft.ifft(cropped, axis=0) * m / n).real
    step = degradation.get("kspace-truncation", alignment=alignment)
    np.testing.assert_allclose(degrade(step, hr, (Fraction(n, m), 1)), expected, atol=1e-12)


@pytest.mark.parametrize("window", [None, "hamming", "tukey"])
@pytest.mark.parametrize("alignment", ["first-voxel", "half-pixel"])
def test_kspace_keeps_waves_in_place_at_the_windows_amplitude(window, alignment):
    n, s, cycles = 69, Fraction(23, 10), 9  # kept: below 15 cycles
    step = degradation.get("kspace-truncation", window=window, alignment=alignment, taper=0.5)
    radius = cycles / 15
    amplitude = {
        None: 1.0,
        "hamming": 0.54 + 0.46 * np.cos(np.pi * radius),
        "tukey": 0.5 + 0.5 * np.cos(np.pi * (radius - 0.5) / 0.5),
    }[window]

    def wave(x, k):
        return np.cos(2 * np.pi * k * x / n + 0.4)

    x = np.arange(n)
    lr = degrade(step, np.stack([wave(x, cycles), wave(x, 20)], axis=1), (s, 1))
    np.testing.assert_allclose(lr[:, 0], amplitude * wave(step.positions(30, n, s), cycles), atol=1e-12)
    np.testing.assert_allclose(lr[:, 1], 0, atol=1e-12)


class TestDissertation:
    """The authors' own LR images (OpenCV, scipy)."""

    @pytest.fixture
    def vectors(self, shared_parity):
        path = shared_parity / "degradation.pt"
        if not path.is_file():
            pytest.skip(f"no {path.name}")
        return torch.load(path, weights_only=True)["degradation"]

    def test_rdst(self, vectors):
        lr = degradation.get("bicubic-no-antialias")(vectors["hr"][None, None], 4)[0, 0]
        torch.testing.assert_close(lr, vectors["rdst_x4_lr24"], atol=1e-12, rtol=0)

    @pytest.mark.parametrize("scale", ["1.3", "1.5", "2.0", "2.5", "3.7", "4.0"])
    def test_miassr_training(self, vectors, scale):
        expected = vectors[f"miassr_x{scale}_lr"]
        step = degradation.get("bicubic-binomial")
        lr = step(vectors["hr"][None, None], scale, shape=expected.shape)[0, 0]
        torch.testing.assert_close(lr, expected, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("scale", ["1.5", "2.5", "3.5"])
    def test_miassr_test(self, vectors, scale):
        expected = vectors[f"miassr_test_x{scale}_lr"]
        step = degradation.get("bicubic-binomial")
        lr = step(vectors["rect_hr"][None, None], scale, shape=expected.shape)[0, 0]
        torch.testing.assert_close(lr, expected, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("scale", [2, 3])
    def test_pham(self, vectors, scale):
        expected = vectors[f"pham_{scale}_lr"]
        volume = vectors["pham_vol"][None, None]
        blurred = degradation.get("pham-scipy-zoom")(volume, 1)
        x, y, z = (n * scale for n in expected.shape)  # the program crops here
        lr = degradation.get("pham-scipy-zoom", sigma=0)(blurred[..., :x, :y, :z], scale)[0, 0]
        torch.testing.assert_close(lr, expected, atol=1e-6, rtol=0)
