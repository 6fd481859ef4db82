"""Training patches: aligned, informative, and equal to what the whole image would have given."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor, list_data_collate
from monai.transforms import CenterSpatialCropd, Compose, SelectItemsd

from medsr.errors import InputError
from medsr.geometry import as_scale
from medsr.transforms import InterpolateToReferenced, RandPairedCropd, RandPatchd, SimulateLowResolutiond
from medsr.transforms.grid_operations import crop
from medsr.transforms.pairs import pair_scale

Texture = Callable[..., MetaTensor]


def seeded(transform: Any, seed: int = 0) -> Any:
    return transform.set_random_state(seed)


def start_of(image: MetaTensor) -> list[int]:
    """Index of the first voxel in an image whose affine was the identity."""
    return [round(float(v)) for v in image.affine[: image.ndim - 1, 3]]


# --- HR patches with a margin

# scale, largest difference allowed in the interpolated LR image for contexts of 2, 4 and 6 LR voxels (range [0, 1])
CONTEXT_ERRORS = [
    ([1.5, 1.5, 1.5], (5e-3, 3e-4, 3e-5)),
    ([2, 2, 2], (1e-2, 6e-4, 5e-5)),
    ([3, 3, 3], (2e-2, 1.5e-3, 1.5e-4)),
    ([1, 1, 3], (2e-2, 2e-3, 2e-4)),
    ([1, 1, 5], (4e-2, 3e-3, 3e-4)),
]


def differences(texture: Texture, scale: list[float], context: int, seed: int) -> tuple[float, float]:
    """How far LR and interpolated LR of a crop are, inside the patch, from those of the whole image."""
    exact = as_scale(scale, 3)
    shape = [60 if s != 1 else 20 for s in scale]  # 60 is divisible by all these scales, from any start below
    image = texture(shape, smooth=0.5, seed=seed)
    chain = Compose([SimulateLowResolutiond(), InterpolateToReferenced("image", output_suffix="_sr")])
    draw = RandPatchd(size=12, context=context, permute=False)
    for attempt in range(1000):  # a start on the LR grid of the whole image, so that the two have the same LR voxels
        patch = seeded(draw, 1000 * seed + attempt)({"label": image, "scale": scale})
        start = start_of(patch["label"])
        if not any(a % s.numerator for a, s in zip(start, exact, strict=True)):
            break
    patch, whole = chain(patch), chain({"label": image, "scale": scale})
    size = patch["label"].shape[1:]
    lr_start = [int(a / s) for a, s in zip(start, exact, strict=True)]
    whole = {
        "image": crop(whole["image"], lr_start, patch["image"].shape[1:]),
        "image_sr": crop(whole["image_sr"], start, size),
    }
    lr_size = [int(12 / s) for s in exact]
    inside = {"image": CenterSpatialCropd("image", lr_size), "image_sr": CenterSpatialCropd("image_sr", 12)}
    lr, enlarged = (
        float((inside[key](patch)[key] - inside[key](whole)[key]).abs().max()) for key in ("image", "image_sr")
    )
    return lr, enlarged


@pytest.mark.parametrize(("scale", "allowed"), CONTEXT_ERRORS, ids=lambda v: str(v) if isinstance(v, list) else "")
def test_lr_of_the_crop_is_lr_of_the_image(texture: Texture, scale: list[float], allowed: tuple[float, ...]) -> None:
    """Noise, the hardest image: the error falls by 0.27, the pole of the spline, with every LR voxel of context."""
    for context, bound in zip((2, 4, 6), allowed, strict=True):
        results = [differences(texture, scale, context, seed) for seed in range(3)]
        assert max(enlarged for _, enlarged in results) < bound
        if context >= 4:  # the blur reaches 4 HR voxels, the prefilter of its spline forgets within some more
            assert max(lr for lr, _ in results) < 1e-4


def test_no_context_would_show(texture: Texture) -> None:
    assert max(differences(texture, [2, 2, 2], 0, seed)[1] for seed in range(3)) > 1e-2


@pytest.mark.parametrize("scale", [2, 1.5, [1, 1, 3], [2, 2, 2.5]], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_permuted_patch_keeps_the_affine_truthful(
    field: Any, oblique_affine: np.ndarray, scale: Any, seed: int
) -> None:
    image = field.image((44, 48, 52), oblique_affine)
    item = seeded(RandPatchd(size=16), seed)({"label": image, "scale": scale})
    assert field.error(item["label"]) < 1e-5
    item = InterpolateToReferenced("image")(SimulateLowResolutiond()(item))
    item = CenterSpatialCropd(["image", "label"], 16)(item)
    assert item["image"].shape == item["label"].shape == (1, 16, 16, 16)
    assert np.abs(item["image"].affine.numpy() - item["label"].affine.numpy()).max() < 1e-9
    assert field.error(item["image"]) < 2e-3


def test_patches_come_in_all_orientations(texture: Texture) -> None:
    image = texture((20, 20, 20))
    draw = seeded(RandPatchd(size=16))
    seen = {tuple(draw({"label": image})["label"].affine[:3, :3].flatten().tolist()) for _ in range(400)}
    assert len(seen) == 48
    assert {abs(round(float(np.linalg.det(np.reshape(a, (3, 3)))))) for a in seen} == {1}


def test_slices_are_reoriented_too(field: Any, oblique_affine: np.ndarray) -> None:
    image = field.image((40, 44), oblique_affine)
    draw = seeded(RandPatchd(size=16))
    for _ in range(16):
        patch = draw({"label": image, "scale": 2})["label"]
        assert patch.shape == (1, 32, 32)
        assert field.error(patch) < 1e-5


def test_patches_are_not_empty(texture: Texture) -> None:
    values = torch.zeros(1, 64, 64, 64)
    values[:, 40:, 40:, 40:] = texture((24, 24, 24)).as_tensor()
    image = MetaTensor(values)
    draw = seeded(RandPatchd(size=12, tries=200))
    assert all(draw({"label": image})["label"].std() > 0.02 for _ in range(10))
    careless = seeded(RandPatchd(size=12, tries=1))
    assert any(careless({"label": image})["label"].std() <= 0.02 for _ in range(10))


def test_empty_image_ends_too() -> None:
    patch = seeded(RandPatchd(size=8))({"label": MetaTensor(torch.zeros(1, 12, 12, 12))})["label"]
    assert patch.shape == (1, 8, 8, 8)


@given(
    st.lists(st.integers(16, 40), min_size=3, max_size=3),
    st.lists(st.sampled_from([1, 1.5, 2, 2.5, 3, 4, "7/3"]), min_size=3, max_size=3),
    st.integers(1, 12),
    st.integers(0, 5),
)
def test_crop_size(shape: list[int], scale: list[Any], patch: int, context: int) -> None:
    exact = as_scale(scale, 3)
    for m, n, s in zip(RandPatchd(size=patch, context=context).crop_size(shape, exact), shape, exact, strict=True):
        assert m % s.numerator == 0
        assert m <= n
        margin = 2 * context * s if s != 1 else 0
        assert m >= min(patch + margin, n - s.numerator + 1)
        assert m < patch + margin + s.numerator + 1


def test_whole_image_can_be_drawn(texture: Texture) -> None:
    image = texture((16, 16, 16))
    draw = seeded(RandPatchd(size=12, permute=False))
    starts = np.array([start_of(draw({"label": image})["label"]) for _ in range(200)])
    assert starts.min(axis=0).tolist() == [0, 0, 0]
    assert starts.max(axis=0).tolist() == [4, 4, 4]


def test_float_scale_means_the_same_for_image_and_crop(texture: Texture) -> None:
    """The fraction that a float stands for depends on the size; the one used for cropping is passed on."""
    item = seeded(RandPatchd(size=8, permute=False))({"label": texture((60, 20, 20)), "scale": [2.3, 1, 1]})
    assert item["scale"] == ["23/10", "1", "1"]
    size = item["label"].shape
    assert SimulateLowResolutiond()(item)["label"].shape == size


@pytest.mark.parametrize(("shape", "scale"), [((12, 20, 20), 1), ((17, 20, 20), [7, 1, 1])])
def test_too_small_an_image_for_patches(texture: Texture, shape: tuple[int, ...], scale: Any) -> None:
    with pytest.raises(InputError, match=r"too small for patches of 16 at scale .*pad it.*or take smaller") as error:
        seeded(RandPatchd(size=16, permute=False))({"label": texture(shape), "scale": scale})
    assert "\n" not in str(error.value)


# --- pairs with a real LR image


def lr_of(field: Any, shape: list[int], affine: np.ndarray, scale: list[Any]) -> MetaTensor:
    """The field on the LR grid of an HR image."""
    exact = [float(Fraction(s)) for s in scale]
    change = np.diag([*exact, *[1.0] * (4 - len(exact))])
    change[: len(exact), 3] = (np.array(exact) - 1) / 2
    return field.image([int(n / s) for n, s in zip(shape, exact, strict=True)], affine @ change)


@pytest.mark.parametrize("scale", [[2, 2, 2], ["3/2", "3/2", "3/2"], ["5/2", 1, 2], [1, 1, 3]], ids=str)
@pytest.mark.parametrize("permute", [False, True])
def test_real_lr_image_is_cropped_along(
    field: Any, oblique_affine: np.ndarray, scale: list[Any], permute: bool
) -> None:
    shape = [47, 45, 46]
    hr, lr = field.image(shape, oblique_affine), lr_of(field, shape, oblique_affine, scale)
    for seed in range(4):
        draw = seeded(RandPatchd(size=16, permute=permute, context=2), seed)
        item = draw({"label": hr, "image": lr, "scale": [4, 4, 4]})  # the scale that RandScaled drew is no concern
        assert field.error(item["label"]) < 1e-5
        assert field.error(item["image"]) < 1e-5
        found = pair_scale(item["image"], item["label"])
        assert sorted(found) == sorted(Fraction(s) for s in scale)
        assert [str(s) for s in found] == item["scale"]
        assert item["label"].shape[1:] == tuple(n * s for n, s in zip(item["image"].shape[1:], found, strict=True))
        enlarged = InterpolateToReferenced("image")(SimulateLowResolutiond()(item))["image"]
        assert enlarged.shape == item["label"].shape
        assert np.abs(enlarged.affine.numpy() - item["label"].affine.numpy()).max() < 1e-9


def test_simulated_pair_keeps_its_record(texture: Texture) -> None:
    pair = SimulateLowResolutiond(scale=[1, 2, 3])({"label": texture((40, 40, 42))})
    for seed in range(6):
        item = seeded(RandPatchd(size=12), seed)(pair)
        sizes = zip(item["label"].shape[1:], item["image"].shape[1:], strict=True)
        assert [str(Fraction(m, n)) for m, n in sizes] == item["scale"]
        assert InterpolateToReferenced("image")(item)["image"].shape == item["label"].shape


def test_items_with_and_without_lr_image_in_one_batch(field: Any, oblique_affine: np.ndarray) -> None:
    """The training chain of a restore network: real pairs are interpolated first, the rest is simulated."""
    shape = [40, 42, 44]
    real = {"label": field.image(shape, oblique_affine), "image": lr_of(field, shape, oblique_affine, [1, 1, 2])}
    alone = {"label": field.image(shape, oblique_affine)}
    chain = seeded(
        Compose(
            [
                InterpolateToReferenced("image", allow_missing_keys=True),
                RandPatchd(size=16),
                SimulateLowResolutiond(),
                InterpolateToReferenced("image"),
                CenterSpatialCropd(["image", "label"], 16),
                SelectItemsd(["image", "label"]),
            ]
        )
    )
    items = [chain({**item, "scale": [2, 2, 2]}) for item in (real, alone, real)]
    assert list_data_collate(items)["image"].shape == (3, 1, 16, 16, 16)
    for item in items:
        assert field.error(item["label"]) < 1e-5
        difference = (item["image"].as_tensor() - item["label"].as_tensor()).abs()
        assert np.array_equal(item["image"].affine.numpy(), item["label"].affine.numpy())
        assert float(difference.median()) < 2e-3


def test_lr_image_does_not_change_what_others_draw(texture: Texture) -> None:
    image = texture((40, 40, 40))
    first = seeded(RandPatchd(size=12), 3)({"label": image, "scale": 2})["label"]
    same = seeded(RandPatchd(size=12, lr="absent"), 3)({"label": image, "scale": 2})["label"]
    assert torch.equal(first, same)
    assert torch.equal(first.affine, same.affine)


@pytest.mark.parametrize("transform", [RandPatchd(size=8), RandPairedCropd(size=4)], ids=["patch", "paired"])
def test_pairs_that_are_not_aligned_are_refused(field: Any, oblique_affine: np.ndarray, transform: Any) -> None:
    hr = field.image((24, 24, 24), oblique_affine)
    lr = lr_of(field, [24, 24, 24], oblique_affine, [2, 2, 2])
    lr.affine = lr.affine + torch.tensor([[0, 0, 0, 0.2]] + [[0.0] * 4] * 3)
    with pytest.raises(
        InputError, match=r"not aligned edge to edge at scale 2x2x2.*put InterpolateToReferenced before"
    ):
        transform({"label": hr, "image": lr})


# --- paired crops


@pytest.mark.parametrize(
    ("scale", "size"),
    [
        ([2, 2, 2], 8),
        (["3/2", "3/2", "3/2"], 6),
        (["5/2", "5/2", "5/2"], 4),
        ([1, "5/2", 3], [7, 6, 5]),
        ([1, 1, 4], 5),
    ],
    ids=str,
)
def test_paired_crop_is_aligned(field: Any, oblique_affine: np.ndarray, scale: list[Any], size: Any) -> None:
    shape = [45, 45, 48]
    pair = {"label": field.image(shape, oblique_affine), "image": lr_of(field, shape, oblique_affine, scale)}
    sizes = np.broadcast_to(size, 3)
    for seed in range(5):
        item = seeded(RandPairedCropd(size=size), seed)(pair)
        assert item["image"].shape[1:] == tuple(sizes)
        assert item["label"].shape[1:] == tuple(int(n * Fraction(s)) for n, s in zip(sizes, scale, strict=True))
        assert field.error(item["image"]) < 1e-5
        assert field.error(item["label"]) < 1e-5
        enlarged = InterpolateToReferenced("image")(item)["image"]
        assert np.abs(enlarged.affine.numpy() - item["label"].affine.numpy()).max() < 1e-9


def test_paired_crop_reaches_both_ends(texture: Texture) -> None:
    pair = SimulateLowResolutiond(scale=1.5)({"label": texture((24, 24))})
    draw = seeded(RandPairedCropd(size=4))
    starts = np.array([start_of(draw(pair)["label"]) for _ in range(300)])
    assert sorted(set(starts.ravel().tolist())) == [0, 3, 6, 9, 12, 15, 18]


def test_paired_crop_stays_inside_the_smaller_field_of_view(field: Any, oblique_affine: np.ndarray) -> None:
    """HR may end within the last LR voxel, or LR before the last HR voxel."""
    lr = lr_of(field, [40, 40, 40], oblique_affine, [2, 2, 2])
    for size in (39, 43):
        hr = field.image((size,) * 3, oblique_affine)
        for seed in range(8):
            item = seeded(RandPairedCropd(size=8), seed)({"label": hr, "image": lr})
            assert item["label"].shape == (1, 16, 16, 16)
            assert field.error(item["label"]) < 1e-5


def test_paired_crop_avoids_constant_patches(texture: Texture) -> None:
    values = torch.zeros(1, 64, 64)
    values[:, 40:, 40:] = texture((24, 24)).as_tensor()
    pair = SimulateLowResolutiond(scale=2)({"label": MetaTensor(values)})
    draw = seeded(RandPairedCropd(size=6, minimum_deviation=0.02, tries=200))
    assert all(draw(pair)["label"].std() > 0.02 for _ in range(10))


@pytest.mark.parametrize(
    ("scale", "size", "message"),
    [
        (1.5, 5, r"\(5, 5\) is not a whole number of HR voxels; use multiples of \[2, 2\]"),
        (2, 13, r"LR image of \(12, 12\) voxels is too small for patches of \(13, 13\)"),
    ],
)
def test_paired_crop_that_does_not_fit(texture: Texture, scale: Any, size: int, message: str) -> None:
    pair = SimulateLowResolutiond(scale=scale)({"label": texture((24, 24))})
    with pytest.raises(InputError, match=message):
        RandPairedCropd(size=size)(pair)


@pytest.mark.parametrize("transform", [RandPatchd, RandPairedCropd])
def test_at_least_one_draw(transform: Any) -> None:
    with pytest.raises(InputError, match="drawn at least once"):
        transform(tries=0)
