"""LR simulation and its way back: where voxels are, checked by an image that is linear in world coordinates."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy import ndimage

from medsr import degradation
from medsr.errors import GridError, InputError
from medsr.geometry import scale_from_text, scale_text
from medsr.transforms import InterpolateToReferenced, RandScaled, SimulateLowResolutiond

SCALES: list[Any] = [2, 3, 1.5, 2.5, [1, 1, 3], [1.5, 1, 2], ["7/3", 1, 1]]
REACH = 12  # HR voxels after which blur and spline have forgotten the border


def simulate(hr: MetaTensor, scale: Any, **options: Any) -> dict[Any, Any]:
    return SimulateLowResolutiond(scale=scale, **options)({"label": hr})


# --- the LR image


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_lr_holds_the_same_world_field(field: Any, oblique_affine: np.ndarray, scale: Any) -> None:
    item = simulate(field.image((45, 47, 52), oblique_affine), scale)
    lr, hr = item["image"], item["label"]
    scales = np.broadcast_to([float(Fraction(s)) for s in np.atleast_1d(scale)], 3)
    assert np.allclose(np.array(lr.shape[1:]) * scales, hr.shape[1:])
    assert field.error(hr) < 1e-5  # the crop to a divisible size moved the affine along
    assert field.error(lr, [int(REACH / s) + 1 for s in scales]) < 1e-4
    assert lr.meta["spatial_shape"] == tuple(lr.shape[1:])


@pytest.mark.parametrize("name", ["block-mean", "bicubic", "pham-scipy-zoom", "decimation", "kspace-truncation"])
def test_affine_tells_the_truth_for_every_alignment(field: Any, oblique_affine: np.ndarray, name: str) -> None:
    hr = field.image((48, 48, 48), oblique_affine)
    if name == "kspace-truncation":  # a ramp is not periodic: a wave of one period is, and its phase is its place
        phase = 2 * np.pi * np.arange(48) / 48
        hr = MetaTensor(torch.as_tensor(np.cos(phase)[None, :, None, None] + np.zeros((1, 48, 48, 48))).float())
        lr = simulate(hr, 2, degradation=name)["image"]
        at = lr.affine.numpy()[0, 0] * np.arange(24) + lr.affine.numpy()[0, 3]
        expected = np.cos(2 * np.pi * at / 48)
        assert np.abs(lr.as_tensor().numpy()[0, :, 5, 5] - expected).max() < 1e-4
        return
    lr = simulate(hr, 2, degradation=name)["image"]
    assert field.error(lr, 8) < 1e-4


def test_divisible_size_is_kept_whole(texture: Callable[..., MetaTensor]) -> None:
    hr = texture((12, 14, 16))
    item = simulate(hr, 2)
    assert torch.equal(item["label"], hr)
    assert item["image"].shape == (1, 6, 7, 8)


def test_crop_is_central(texture: Callable[..., MetaTensor]) -> None:
    hr = texture((13, 14, 17))
    item = simulate(hr, [3, 1, 5])
    assert item["label"].shape == (1, 12, 14, 15)
    assert torch.equal(item["label"].as_tensor(), hr.as_tensor()[:, 0:12, :, 1:16])
    assert item["label"].affine[:3, 3].tolist() == [0, 0, 1]


def test_real_pair_is_left_alone(texture: Callable[..., MetaTensor]) -> None:
    hr, lr = texture((13, 14, 17)), texture((7, 7, 9))
    item = SimulateLowResolutiond()({"label": hr, "image": lr, "scale": 2})
    assert item["image"] is lr
    assert item["label"] is hr


def test_same_as_scipy(texture: Callable[..., MetaTensor]) -> None:
    hr = texture((24, 24, 24))
    item = simulate(hr, 2, degradation={"name": "gaussian-blur", "sigma": 1.0})
    blurred = ndimage.gaussian_filter(hr.numpy()[0].astype(float), 1.0)
    expected = ndimage.zoom(blurred, 0.5, order=3, mode="nearest", grid_mode=True)
    assert np.abs(item["image"].numpy()[0] - expected).max() < 1e-6


def test_degradation_as_object_name_or_dictionary(texture: Callable[..., MetaTensor]) -> None:
    hr = texture((12, 12, 12))
    described = degradation.get("block-mean")
    results = [simulate(hr, 2, degradation=d)["image"] for d in ("block-mean", described, described.to_dict())]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    other = simulate(hr, 2, degradation={"name": "gaussian-blur", "sigma": 2.0})["image"]
    assert not torch.equal(results[0], other)


def test_scale_comes_from_the_transform_else_from_the_item(texture: Callable[..., MetaTensor]) -> None:
    hr = texture((12, 12, 12))
    assert SimulateLowResolutiond()({"label": hr, "scale": [2, 1, 3]})["image"].shape == (1, 6, 12, 4)
    assert SimulateLowResolutiond(scale=4)({"label": hr, "scale": 2})["image"].shape == (1, 3, 3, 3)
    with pytest.raises(GridError, match="no scale: set it on the transform or as 'scale' in the datalist"):
        SimulateLowResolutiond()({"label": hr})


def test_noise_is_repeatable_by_seed(texture: Callable[..., MetaTensor]) -> None:
    hr = texture((12, 12, 12))
    protocol = {"name": "noisy", "steps": [{"name": "block-mean"}, {"name": "gaussian-noise", "sigma": 0.1}]}
    first, again, other = (simulate(hr, 2, degradation=protocol, seed=s)["image"] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(0)
    fresh = simulate(hr, 2, degradation=protocol)["image"]
    torch.manual_seed(0)
    assert torch.equal(fresh, simulate(hr, 2, degradation=protocol)["image"])


def test_slices(field: Any, oblique_affine: np.ndarray) -> None:
    hr = field.image((41, 50), oblique_affine)
    item = simulate(hr, [2.5, 2])
    assert item["image"].shape == (1, 16, 25)
    assert item["label"].shape == (1, 40, 50)
    assert field.error(item["image"], 6) < 1e-4
    enlarged = InterpolateToReferenced("image")(item)["image"]
    assert enlarged.shape == item["label"].shape
    assert field.error(enlarged, 14) < 1e-4


def test_too_small_an_image_is_a_one_line_error(texture: Callable[..., MetaTensor]) -> None:
    with pytest.raises(GridError, match=r"\(3, 8, 8\) voxels is too small to be reduced by 4x4x4"):
        simulate(texture((3, 8, 8)), 4)


@given(st.lists(st.fractions(Fraction(1), Fraction(8), max_denominator=12), min_size=2, max_size=3))
def test_text_of_a_scale_is_exact(scale: list[Fraction]) -> None:
    assert scale_from_text(scale_text(tuple(scale))) == tuple(scale)


# --- the scale of an item


def test_scales_are_drawn_by_weight() -> None:
    scales: list[Any] = [2, [1, 1, 3], 1.5]
    draw = RandScaled(scales, weights=[6, 3, 1])
    draw.set_random_state(0)
    drawn = [draw({})["scale"] for _ in range(2000)]
    for scale, share in zip(scales, (0.6, 0.3, 0.1), strict=True):
        assert drawn.count(scale) / 2000 == pytest.approx(share, abs=0.04)  # four standard deviations
    draw.set_random_state(0)
    assert [draw({})["scale"] for _ in range(50)] == drawn[:50]


def test_item_keeps_its_scale() -> None:
    assert RandScaled([2, 3])({"scale": 7})["scale"] == 7


@pytest.mark.parametrize(
    ("scales", "weights", "message"),
    [
        ([], None, "one weight per scale, got 0 scales"),
        ([2, 3], [1], "one weight per scale, got 2 scales, 1 weights"),
        ([2, 3], [1, -1], "must not be negative"),
        ([2, 3], [0, 0], "nor all zero"),
    ],
)
def test_wrong_weights(scales: list[Any], weights: list[float] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RandScaled(scales, weights)
