"""Patches at any scale: their sizes, their places, and that no LR pixel feels where the patch was cut."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medsr import degradation as degradations
from medsr.errors import GridError, InputError
from medsr.transforms import RandScalePatchd, patch_sizes
from medsr.transforms.pairs import pair_scale
from medsr.transforms.scale_patches import _windows
from medsr.transforms.simulation import SimulateLowResolutiond

Texture = Callable[..., MetaTensor]
SCALES = ["11/10", "3/2", "17/10", "2", "23/10", "27/10", "3", "33/10", "39/10", "4", "1"]


@pytest.mark.parametrize(("scale", "lr", "hr"), [("2", 48, 96), ("23/10", 41, 94), ("29/10", 33, 96), ("4", 24, 96)])
def test_sizes_of_equation_4_18(scale: str, lr: int, hr: int) -> None:
    """floor(96 / s), and that times s; 33 * 2.9 = 95.7, where the published program truncates to 95."""
    assert patch_sizes(96, Fraction(scale)) == (lr, hr)


def test_all_published_scales_fit_the_discriminator() -> None:
    """SRGAN's discriminator for 96 pixels takes 81 to 96."""
    assert all(81 <= patch_sizes(96, Fraction(k, 10))[1] <= 96 for k in range(10, 41))
    with pytest.raises(InputError, match="no LR voxel"):
        patch_sizes(3, Fraction(4))


def located(image: MetaTensor, patch: MetaTensor) -> list[int]:
    """Where a patch begins in its image, by its affine (unit spacing)."""
    return [round(float(patch.affine[i, 3] - image.affine[i, 3])) for i in range(2)]


@pytest.mark.parametrize("degradation", ["bicubic-binomial", "bicubic", "block-mean"])
@pytest.mark.parametrize("scale", SCALES)
def test_patches_equal_the_image_simulated_as_a_whole(texture: Texture, scale: str, degradation: str) -> None:
    image = texture((101, 97))
    s = Fraction(scale)
    p, q = s.numerator, s.denominator
    transform = RandScalePatchd(size=24, degradation=degradation, permute=False)
    transform.set_random_state(int(p))
    edges = 0
    for _ in range(12):
        item = transform({"label": image, "scale": scale})
        lr, hr = item["image"], item["label"]
        start = located(image, hr)
        assert lr.shape[1:] == (patch_sizes(24, s)[0],) * 2
        assert torch.equal(hr.as_tensor(), image.as_tensor()[(slice(None), *(slice(a, a + n) for a, n in
                           zip(start, hr.shape[1:], strict=True)))])  # fmt: skip
        assert float(lr.affine[0, 3]) == pytest.approx(start[0] + (float(s) - 1) / 2, abs=1e-6), "edges coincide"
        # the largest part of the image on whose lattice the patch lies
        first = [a % p for a in start]
        sizes = [(n - a) // p * p for n, a in zip(image.shape[1:], first, strict=True)]
        part = image.as_tensor()[:, first[0] : first[0] + sizes[0], first[1] : first[1] + sizes[1]]
        whole = degradations.get(degradation)(part[None], s)[0]
        place = [(a - f) // p * q for a, f in zip(start, first, strict=True)]
        expected = whole[:, place[0] : place[0] + lr.shape[1], place[1] : place[1] + lr.shape[2]]
        if all(f == 0 or k >= 4 for f, k in zip(first, place, strict=True)):  # this cut is no edge of the image either
            far = [f + m == n or k + 4 + lr.shape[1] <= m // p * q
                   for f, m, n, k in zip(first, sizes, image.shape[1:], place, strict=True)]  # fmt: skip
            assert all(far)
            torch.testing.assert_close(lr.as_tensor(), expected, rtol=0, atol=2e-6)
            edges += 1
    assert edges >= 6


def test_margins_matter(texture: Texture) -> None:
    """The negative control: without a margin the border of a patch differs from the image's."""
    image = texture((101, 97))
    values = []
    for context in (0, 4):
        transform = RandScalePatchd(size=24, degradation="bicubic", context=context, permute=False)
        transform.R = np.random.RandomState(3)
        starts = {}
        for _ in range(90):
            item = transform({"label": image, "scale": "2"})
            starts[tuple(located(image, item["label"]))] = item["image"].as_tensor()
        values.append(starts)
    common = [place for place in values[0] if place in values[1] and min(place) > 0]
    assert common
    differences = torch.stack([(values[0][place] - values[1][place]).abs()[0] for place in common]).amax(0)
    assert differences[0].max() > 1e-3
    assert differences[4:-4, 4:-4].max() < 1e-6


@pytest.mark.parametrize("n", [96, 128, 144, 180, 250])
@pytest.mark.parametrize("scale", SCALES)
def test_windows_keep_their_promises(n: int, scale: str) -> None:
    s = Fraction(scale)
    lr, hr = patch_sizes(96, s)
    for start, length, lead, hr_lead in _windows(n, s, 96, 4):
        assert hr_lead == lead * s
        assert length % s.numerator == 0
        assert 0 <= start <= start + length <= n
        assert start == 0 or s == 1 or lead >= 4
        assert start + length == n or s == 1 or length / s - lead - lr >= 4
        assert lead * s + hr <= length
    if n == 250 and scale != "1":
        places = {start + lead * s for start, _, lead, _ in _windows(n, s, 96, 4)}
        assert {0, 100} <= places, "from the very edge on, and in the middle"


def test_small_images_are_mirrored(texture: Texture) -> None:
    item = RandScalePatchd(size=96)({"label": texture((60, 130)), "scale": "27/10"})
    assert item["image"].shape[1:] == (35, 35)
    assert item["label"].shape[1:] == (94, 94)


def test_symmetries_are_drawn_and_places_follow(texture: Texture) -> None:
    image = texture((101, 97))
    transform = RandScalePatchd(size=24)
    transform.set_random_state(0)
    seen = set()
    for _ in range(40):
        hr = transform({"label": image, "scale": "3/2"})["label"]
        seen.add(tuple(hr.affine[:2, :2].round().flatten().tolist()))
        corner = (hr.affine @ torch.tensor([3.0, 5.0, 0, 1.0], dtype=torch.float64))[:2].round().int().tolist()
        assert hr[0, 3, 5] == image[0, corner[0], corner[1]]
    assert len(seen) == 8


def test_empty_places_are_avoided() -> None:
    values = torch.zeros(1, 200, 200)
    values[:, 150:, 150:] = torch.rand(50, 50)
    transform = RandScalePatchd(size=24, tries=200, permute=False)
    for _ in range(5):
        assert transform({"label": MetaTensor(values), "scale": "2"})["label"].std() > 0.02


def test_refusals(texture: Texture) -> None:
    image = texture((101, 97))
    with pytest.raises(GridError):
        RandScalePatchd()({"label": image})
    with pytest.raises(GridError):
        RandScalePatchd(size=24)({"label": image, "scale": 0.5})
    with pytest.raises(InputError, match="expected tries"):
        RandScalePatchd(tries=0)


@pytest.mark.parametrize(
    ("scale", "lr_side", "hr_side"), [((1.5, 1.5), (14, 14), (21, 21)), ((2, 1), (11, 22), (22, 22))]
)
def test_real_pairs_are_cropped_at_one_place_and_keep_their_scale(
    field: Any, scale: tuple[float, float], lr_side: tuple[int, int], hr_side: tuple[int, int]
) -> None:
    """Voxels hold a function of their place in the world, so that images cropped apart would differ from it."""
    affine = np.diag([-0.9, 1.2, 3, 1])
    affine[:3, 3] = [5, -7, 2]
    lr_affine = affine.copy()
    for axis, s in enumerate(scale):
        lr_affine[:3, axis] *= s
        lr_affine[:3, 3] += affine[:3, axis] * (s - 1) / 2
    shape = (36, 42)
    transform = RandScalePatchd(size=22).set_random_state(0)
    places = set()
    for _ in range(10):
        lr = field.image([int(n / s) for n, s in zip(shape, scale, strict=True)], lr_affine)
        item = transform({"label": field.image(shape, affine), "image": lr, "scale": "4"})
        lr, hr = item["image"], item["label"]
        assert sorted(lr.shape[1:]) == sorted(lr_side)
        assert tuple(hr.shape[1:]) == hr_side
        assert [Fraction(s) for s in item["scale"]] == [Fraction(m, n) for m, n in
                                                        zip(hr.shape[1:], lr.shape[1:], strict=True)]  # fmt: skip
        assert field.error(hr) < 1e-5
        assert field.error(lr) < 1e-5
        corner = np.array([-0.5, -0.5, 0, 1])
        np.testing.assert_allclose(lr.affine.numpy() @ corner, hr.affine.numpy() @ corner, atol=1e-9)
        places.add(tuple(hr.affine[:3, 3].tolist()))
    assert len(places) > 3, "at random places"


def test_what_a_turned_pair_says_of_its_scale_turns_too(texture: Texture) -> None:
    made = SimulateLowResolutiond(scale=(2, 3))({"label": texture((24, 36))})
    transform = RandScalePatchd(size=12, minimum_deviation=0).set_random_state(0)
    seen = set()
    for _ in range(20):
        item = transform(made)
        sizes = zip(item["label"].shape[1:], item["image"].shape[1:], strict=True)
        scale = tuple(Fraction(m, n) for m, n in sizes)
        assert pair_scale(item["image"], item["label"]) == scale
        assert [Fraction(s) for s in item["scale"]] == list(scale)
        seen.add(scale)
    assert seen == {(2, 3), (3, 2)}
