"""Which formation an image gets."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import gaussian_filter

from medsr.data.acquisition import ACQUISITION, Acquisition
from medsr.degradation import KspaceTruncationDegradation, PerAxisDegradation, SliceProfileDegradation
from medsr.errors import InputError
from medsr.formation import Formation, choose_formation
from medsr.formation.choosing import LEAST_NOISE
from medsr.transforms.intensity import OFFSET
from medsr.transforms.pairs import LR_SCALE

KSPACE = KspaceTruncationDegradation()
TWO = (Fraction(2),) * 3
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])
FACTS = {
    "source": "header",
    "modality": "MR",
    "type": "2D",
    "through_plane": 2,
    "slice_thickness": 2.4,
    "affine": AFFINE,
    "spacing": (1.0, 1.0, 3.0),
    "shape": (32, 32, 20),
    "notes": ["a note"],
}


@pytest.fixture
def image(natural_image: Callable[..., np.ndarray]) -> MetaTensor:
    values = torch.from_numpy(natural_image((32, 32, 20))).float()
    values += 0.02 * torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    return MetaTensor(values, affine=torch.from_numpy(AFFINE), meta={ACQUISITION: Acquisition(FACTS)})


def test_the_header_goes_before_the_image(image: MetaTensor) -> None:
    found = choose_formation("auto", image, TWO)
    assert found.origin == "header"
    assert found.degradation == PerAxisDegradation(axes=(KSPACE, KSPACE, SliceProfileDegradation(thickness=0.8)))
    assert found.reasons[0] == "a note"
    assert [reason.split(":")[0] for reason in found.reasons[1:]] == ["axis 0", "axis 1", "axis 2"]
    assert pickle.loads(pickle.dumps(found)) == found
    assert json.loads(json.dumps(found.to_dict()))["origin"] == "header"


def test_the_image_goes_before_an_assumption(image: MetaTensor) -> None:
    del image.meta[ACQUISITION]
    found = choose_formation(None, image, TWO)
    assert found.origin == "estimated"
    assert found.degradation.axes == (KSPACE,) * 3
    short = choose_formation("auto", image[:, :10, :10, :10], TWO)
    assert short.origin == "assumed"
    assert short.degradation.axes == (KSPACE,) * 3


def test_an_axis_that_the_header_leaves_open_is_estimated(image: MetaTensor) -> None:
    image.meta[ACQUISITION] = Acquisition({**FACTS, "slice_thickness": None})
    found = choose_formation("auto", image, TWO)
    assert found.origin == "header"
    assert found.degradation.axes[2] == KSPACE
    assert "axis 2: the header gives no slice thickness" in found.reasons
    assert any(reason.startswith("axis 2: the spectrum") for reason in found.reasons)


def test_a_header_does_not_describe_a_simulated_image(image: MetaTensor) -> None:
    image.meta[LR_SCALE] = "2,2,2"
    assert choose_formation("auto", image, TWO).origin == "estimated"


def test_a_spectrum_that_ends_is_seen_under_a_header_that_does_not_say_it(image: MetaTensor) -> None:
    values = np.fft.irfft(np.fft.rfft(image.numpy(), axis=1)[:, :9], 32, axis=1)
    filled = MetaTensor(torch.from_numpy(values).float(), affine=image.affine, meta=image.meta)
    found = choose_formation("auto", filled, TWO)
    assert found.degradation.axes[0].extent == pytest.approx(0.5, abs=0.05)
    assert found.degradation.axes[1] == KSPACE
    assert len(found.warnings((1.0, 1.0, 3.0))) == 1
    assert found.warnings((1.0, 1.0, 3.0))[0].startswith("the image is zero-filled: its voxels are 1 mm")
    stated = choose_formation("kspace", filled, TWO)
    assert stated.degradation == KSPACE  # what the user says is taken, and what is seen is told
    assert len(stated.warnings((1.0, 1.0, 3.0))) == 1


@pytest.mark.parametrize("known", ["header", "units"])
def test_the_smoothness_of_a_ct_is_not_taken_for_blur(image: MetaTensor, known: str) -> None:
    image.set_array(torch.from_numpy(gaussian_filter(image.numpy(), (0, 0.6, 0.6, 0.6))))
    image.meta[ACQUISITION] = Acquisition({})
    assert choose_formation("auto", image, TWO).degradation.axes[0] != KSPACE
    image.meta.update({"modality": "CT"} if known == "header" else {OFFSET: -1024.0})
    found = choose_formation("auto", image, TWO)
    assert found.origin == "assumed"
    assert found.degradation.axes == (KSPACE,) * 3
    assert "does not tell its kernel" in found.reasons[0]


def test_axes_that_are_not_enlarged_stay(image: MetaTensor) -> None:
    found = choose_formation("auto", image, (Fraction(1), Fraction(1), Fraction(3)))
    assert found.degradation.axes[:2] == (None, None)
    assert not any(reason.startswith(("axis 0", "axis 1")) for reason in found.reasons)
    assert choose_formation("auto", image, (Fraction(1),) * 3) is None


@pytest.mark.parametrize("shape", [(1, 96, 96), (2, 96, 96, 1)])
def test_slices_and_plain_tensors(shape: tuple[int, ...]) -> None:
    """Of a disc that is constant over each voxel the spectrum is as sharp as can be."""
    scale = (Fraction(2), Fraction(2), Fraction(1))[: len(shape) - 1]
    places = np.meshgrid(*[np.linspace(-1, 1, 96)] * 2, indexing="ij")
    disc = (np.hypot(places[0] - 0.1, places[1]) < 0.6).astype(np.float32)
    image = torch.from_numpy(np.broadcast_to(disc.reshape(shape[1:]), shape).copy())
    found = choose_formation("auto", image, scale)
    assert found.origin in ("estimated", "assumed")
    assert found.degradation.axes == ((KSPACE, KSPACE, None) if len(scale) == 3 else (KSPACE, KSPACE))


def test_what_the_user_states(image: MetaTensor) -> None:
    found = choose_formation("kspace:extent=0.5/block/profile:fwhm=0.8", image, TWO)
    assert found.origin == "stated"
    assert found.acquired[0] == 0.5
    assert found.degradation.axes[2].fwhm == 0.8
    assert found.noise == pytest.approx(0.02, rel=0.4)
    assert choose_formation("none", image, TWO) is None


@pytest.mark.parametrize(
    ("text", "scale", "message"),
    [
        ("kspace/kspace", TWO, "each of 3 axes, got 2"),
        ("kspace/kspace/none", TWO, "axis 2 is enlarged, but its formation is none"),
    ],
)
def test_a_formation_suits_the_axes(image: MetaTensor, text: str, scale: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_formation(text, image, scale)
    assert choose_formation("kspace/kspace/none", image, (Fraction(2), Fraction(2), Fraction(1))) is not None


def test_a_summary_names_each_axis_where_they_differ() -> None:
    kspace, profile = KspaceTruncationDegradation(), SliceProfileDegradation()
    assert Formation(kspace, "assumed").summary == "kspace-truncation (assumed)"
    mixed = PerAxisDegradation(axes=(kspace, None, profile))
    assert Formation(mixed, "header").summary == "kspace-truncation / none / slice-profile (header)"


def test_auto_assumes_noise_that_smoothing_may_hide(image: MetaTensor) -> None:
    smooth = MetaTensor(torch.as_tensor(gaussian_filter(image.numpy(), (0, 1, 1, 1))), affine=image.affine)
    assert choose_formation("auto", smooth, (2, 2, 2)).noise >= LEAST_NOISE
    assert choose_formation("kspace", smooth, (2, 2, 2)).noise < LEAST_NOISE, "what is stated is not doubted"
