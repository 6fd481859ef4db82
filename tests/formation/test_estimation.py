"""What the spectrum of an image tells about its formation, on images of known formation."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medsr import degradation
from medsr.degradation import Degradation, KspaceTruncationDegradation
from medsr.formation import estimate, parse_formation
from medsr.formation.noise import noise_sigma
from medsr.formation.spectra import acquired_fraction

TWO = (Fraction(2),) * 3
MM = (1.0, 1.0, 1.0)
Natural = Callable[..., np.ndarray]
TRUTHS = (
    "kspace",
    "block",
    "gaussian-blur:sigma=0.6",
    "bicubic",
    "profile",
    "gaussian-blur:sigma=1",
    "kspace:window=fermi",
    "kspace:window=hamming",
)


def known(text: str) -> Degradation:
    found = parse_formation(text)
    assert isinstance(found, Degradation)
    return found


def response(formation: Degradation, frequency: float = 0.75) -> float:
    """The amplitude of a wave of this fraction of the LR Nyquist frequency after the formation, one before."""
    n = 256
    matrix = formation.matrices((n,), (n // 2,), TWO[:1])[0]
    cycles = frequency / 4  # per HR voxel
    wave = matrix @ np.exp(2j * np.pi * cycles * np.arange(n))
    inner = slice(n // 8, -n // 8)  # away from the borders
    expected = np.exp(2j * np.pi * cycles * (2 * np.arange(n // 2) + 0.5))
    return float(abs((wave * expected.conj())[inner].mean()))


def reduced(hr: np.ndarray, formation: Degradation) -> np.ndarray:
    return formation(torch.from_numpy(hr)[None], 2)[0].numpy()


@pytest.mark.parametrize(("text", "expected"), [("kspace", 1.0), ("block", 0.831), ("profile", 0.606)])
def test_the_response_of_known_formations(text: str, expected: float) -> None:
    """The mean of two waves, cos(3 pi / 16), and exp(-2 pi^2 s^2 f^2) of FWHM 1 at 3/8 cycles per voxel."""
    assert response(known(text)) == pytest.approx(expected, abs=0.02)


def test_a_zero_filled_image_is_found_and_measured(natural_image: Natural) -> None:
    formation = degradation.PerAxisDegradation(
        axes=(KspaceTruncationDegradation(extent=0.5), KspaceTruncationDegradation(), known("profile"))
    )
    found = estimate(reduced(natural_image((96, 96, 96)), formation), MM)
    assert found.acquired == pytest.approx((0.5, 1, 1), abs=0.05)
    assert found.degradation.axes[0].extent == pytest.approx(found.acquired[0], abs=1e-4)
    assert "the spectrum ends at 0.5" in found.reasons[0]


@pytest.mark.parametrize("part", [0.5, 0.75])
def test_the_magnitude_of_a_noisy_zero_filled_scan_is_found(natural_image: Natural, part: float) -> None:
    """Signal and complex noise of the acquired samples, zeros around them, and the magnitude of their transform."""
    n, rng = 128, np.random.default_rng(1)
    image = natural_image((n, n, 16))[0] + 0.1
    spectrum = np.fft.fftshift(np.fft.fft(image, axis=0), axes=0)
    noise = rng.normal(size=image.shape) + 1j * rng.normal(size=image.shape)
    kept = np.abs(np.arange(n) - n // 2) <= part * n / 2
    spectrum = (spectrum + noise * 0.01 * np.sqrt(n)) * kept[:, None, None]
    seen = np.abs(np.fft.ifft(np.fft.ifftshift(spectrum, axes=0), axis=0))[None]
    assert acquired_fraction(seen, 0) == pytest.approx(part, abs=0.06)
    assert acquired_fraction(seen, 1) == 1.0


@pytest.mark.parametrize("text", TRUTHS)
@pytest.mark.parametrize("sigma", [0.0, 0.02])
def test_blur_is_not_taken_for_zero_filling(natural_image: Natural, text: str, sigma: float) -> None:
    lr = reduced(natural_image((96, 96, 96)), known(text))
    lr = lr + np.random.default_rng(0).normal(0, sigma, lr.shape)
    assert [acquired_fraction(lr, axis) for axis in range(3)] == [1.0] * 3


def test_short_axes_and_empty_images_are_not_judged(natural_image: Natural) -> None:
    for image in (natural_image((12, 12, 12)), np.zeros((1, 32, 32, 32)), np.ones((1, 32, 32, 1))):
        found = estimate(image, MM)
        assert found.degradation.axes == (KspaceTruncationDegradation(),) * 3
        assert all("assumed" in reason for reason in found.reasons)


@pytest.mark.parametrize("shape", [(64, 64, 64), (160, 160)])
@pytest.mark.parametrize("sigma", [0.01, 0.03])
def test_white_noise_on_a_smooth_image(shape: tuple[int, ...], sigma: float) -> None:
    rng = np.random.default_rng(0)
    places = np.meshgrid(*[np.linspace(0, 3, n) for n in shape], indexing="ij")
    image = 0.6 + 0.2 * np.sin(sum(places)) + rng.normal(0, sigma, shape)
    found = noise_sigma(image[None], range(len(shape)), (1.0,) * len(shape))
    assert found == pytest.approx(sigma, rel=0.12)


def test_noise_that_was_zero_filled_is_measured_as_it_is_per_voxel() -> None:
    """White noise on 48 acquired samples, zero-filled to 64 voxels, is the smaller: sqrt(48 / 64) per voxel."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(0.5 + rng.normal(0, 0.02, (64, 64, 48)), axis=2)
    image = np.fft.irfft(spectrum, 64, axis=2) * (64 / 48)
    found = noise_sigma(image[None], range(3), (1, 1, acquired_fraction(image[None], 2)))
    assert found == pytest.approx(0.02, rel=0.1)


@pytest.fixture(scope="module")
def test_images(shared_data: Path) -> list[np.ndarray]:
    """A head of 128^3 and six hippocampi of the test split, (1, X, Y, Z), about [0, 1], of even sizes."""

    def images() -> Iterator[np.ndarray]:
        with (shared_data / "splits.csv").open(encoding="utf-8") as file:
            names = [row["file"] for row in csv.DictReader(file) if row["split"] == "test"]
        heads = [name for name in names if "fsf_subject1" in name]
        for name in heads + [name for name in names if name.startswith("hippocampus_msd/images")][:6]:
            values = np.asarray(nib.load(shared_data / name).dataobj, dtype=np.float32)
            values = values[tuple(slice(max(0, (n - 128) // 2), (n + 128) // 2) for n in values.shape)]
            values = (values - values.min()) / (np.percentile(values, 99.9) - values.min())
            yield values[tuple(slice(0, n - n % 2) for n in values.shape)][None].copy()

    return list(images())


@pytest.mark.parametrize("sigma", [0.0, 0.02])
def test_an_estimate_errs_on_the_sharp_side(test_images: list[np.ndarray], sigma: float) -> None:
    """Of real images, at most 5 % of the axes are taken for more blurred than they are (at 3/4 of Nyquist, by 0.1)."""
    blurrier, judged = 0, 0
    for text in TRUTHS:
        truth = known(text)
        for hr in test_images:
            lr = reduced(hr, truth)
            lr = lr + np.random.default_rng(0).normal(0, sigma, lr.shape)
            for axis in estimate(lr, MM).degradation.axes:
                judged += 1
                blurrier += response(axis) < response(truth) - 0.1
    assert judged == 3 * 7 * len(TRUTHS)
    assert blurrier <= 0.05 * judged


@pytest.mark.parametrize(
    ("text", "least"), [("profile", 0.5), ("gaussian-blur:sigma=1", 0.7), ("kspace:window=hamming", 0.7)]
)
def test_blur_that_matters_is_seen(test_images: list[np.ndarray], text: str, least: float) -> None:
    """Most axes are taken for blurred, so that truncated k-space is not the answer to everything."""
    found = [axis for hr in test_images for axis in estimate(reduced(hr, known(text)), MM).degradation.axes]
    assert np.mean([response(axis) < 0.75 for axis in found]) >= least


def test_the_noise_of_real_images(test_images: list[np.ndarray]) -> None:
    for sigma in (0.02, 0.04):
        for hr in test_images:
            lr = reduced(hr, known("profile"))
            lr = lr + np.random.default_rng(0).normal(0, sigma, lr.shape)
            assert noise_sigma(lr, range(3), (1, 1, 1)) == pytest.approx(sigma, rel=0.3)


def test_a_real_zero_filled_scan(shared_data: Path) -> None:
    """A clinical T1w of 256 pixels whose spectrum ends at about 0.8 of Nyquist along the first axis, by eye."""
    scan = nib.load(shared_data / "ms_multimodal/native2d/lg20_T1W.nii.gz")
    values = np.asarray(scan.dataobj, dtype=np.float32)[None]
    assert acquired_fraction(values, 0) == pytest.approx(0.8, abs=0.06)
    assert acquired_fraction(values, 1) == 1.0
