"""Whatever is cropped from a pair, by any of the croppers: edges of LR and HR coincide, and values stay in place."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from medsr.transforms import (
    CenterPairedCropd,
    RandPairedCropd,
    RandPairedPatchesd,
    RandPatchd,
    RandScalePatchd,
    SimulateLowResolutiond,
)

SCALES = [Fraction(s) for s in ("1", "11/10", "3/2", "2", "7/3", "5/2", "3", "4")]
TOLERANCE_MM = 1e-6


class Axis(NamedTuple):
    """Along one axis: q LR voxels are p HR voxels; a patch of some such units in an image of some more, and a rest."""

    scale: Fraction
    patch: int
    spare: int
    lr_rest: int
    hr_rest: int

    @property
    def lr(self) -> int:
        return (self.patch + self.spare) * self.scale.denominator + self.lr_rest % self.scale.denominator

    @property
    def hr(self) -> int:
        return (self.patch + self.spare) * self.scale.numerator + self.hr_rest % self.scale.numerator


AXES = st.lists(
    st.builds(
        Axis, st.sampled_from(SCALES), st.integers(1, 3), st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)
    ),
    min_size=2,
    max_size=3,
)
SEEDS = st.integers(0, 2**32 - 1)


def oblique(seed: int, ndim: int) -> np.ndarray:
    """A turned, sheared affine of any handedness, of voxels of some tenths to some millimetres."""
    random = np.random.default_rng(seed)
    affine = np.eye(4)
    shear = np.eye(3) + np.triu(random.uniform(-0.2, 0.2, (3, 3)), 1)
    affine[:3, :3] = np.linalg.qr(random.normal(size=(3, 3)))[0] @ shear * random.uniform(0.3, 4, 3)
    affine[:3, 3] = random.uniform(-100, 100, 3)
    return affine


def pair_of(field: Any, axes: Sequence[Axis], seed: int) -> dict[str, Any]:
    """LR and HR images of the world's field that begin at the same edges; either may end before the other."""
    affine = oblique(seed, len(axes))
    step = np.array([float(a.scale) for a in axes] + [1.0] * (3 - len(axes)))
    coarse = affine.copy()
    coarse[:3, :3] = affine[:3, :3] * step
    coarse[:3, 3] += affine[:3, :3] @ ((step - 1) / 2)
    return {
        "label": field.image([a.hr for a in axes], affine),
        "image": field.image([a.lr for a in axes], coarse),
    }


def corners(image: MetaTensor) -> tuple[np.ndarray, np.ndarray]:
    """World coordinates of the first and the last corner of the field of view (2D: in the plane of the pixels)."""
    sizes = np.array([*image.shape[1:], *[1] * (4 - image.ndim)])
    still = np.array([True] * (image.ndim - 1) + [False] * (4 - image.ndim))  # a slice has no edges across
    affine = image.affine.numpy()
    first, last = np.where(still, -0.5, 0), np.where(still, sizes - 0.5, 0)
    return affine[:3, :3] @ first + affine[:3, 3], affine[:3, :3] @ last + affine[:3, 3]


def apart(item: dict[Any, Any]) -> float:
    """The larger distance in mm between first corners, and between last corners, of LR and HR."""
    pairs = zip(corners(item["image"]), corners(item["label"]), strict=True)
    return max(float(np.linalg.norm(lr - hr)) for lr, hr in pairs)


def croppers(axes: Sequence[Axis]) -> dict[str, Any]:
    return {
        "RandPairedCropd": RandPairedCropd(size=[a.patch * a.scale.denominator for a in axes]),
        "RandPairedPatchesd": RandPairedPatchesd(size=[a.patch * a.scale.numerator for a in axes], most=3),
        "CenterPairedCropd": CenterPairedCropd(size=[a.patch * a.scale.numerator for a in axes]),
        "RandPatchd": RandPatchd(size=1, context=1),
        "RandPatchd, not turned": RandPatchd(size=1, context=0, permute=False),
        "RandScalePatchd": RandScalePatchd(size=8),
        "RandScalePatchd, not turned": RandScalePatchd(size=8, permute=False),
    }


@pytest.mark.parametrize("name", croppers([]))
@given(axes=AXES, seed=SEEDS)
def test_crops_of_a_pair_stay_aligned(field: Any, name: str, axes: list[Axis], seed: int) -> None:
    transform = croppers(axes)[name]
    if hasattr(transform, "set_random_state"):
        transform.set_random_state(seed)
    made = transform(pair_of(field, axes, seed))
    for item in made if isinstance(made, list) else [made]:
        assert apart(item) < TOLERANCE_MM
        assert field.error(item["label"]) < 1e-4, "float32 values of some tens"
        assert field.error(item["image"]) < 1e-4
        found = [Fraction(m, n) for m, n in zip(item["label"].shape[1:], item["image"].shape[1:], strict=True)]
        assert sorted(found) == sorted(a.scale for a in axes)


@given(axes=AXES, seed=SEEDS)
def test_simulated_pairs_begin_at_one_edge(field: Any, axes: list[Axis], seed: int) -> None:
    """Also where small images are mirrored: the patch may then lie beyond their edge, but the two stay together."""
    hr = pair_of(field, axes, seed)["label"]
    transform = RandScalePatchd(size=8, context=2, degradation="block-mean")
    transform.set_random_state(seed)
    item = transform({"label": hr, "scale": [str(a.scale) for a in axes]})
    lr_first, hr_first = corners(item["image"])[0], corners(item["label"])[0]
    assert np.linalg.norm(lr_first - hr_first) < TOLERANCE_MM
    for m, n, a in zip(item["label"].shape[1:], item["image"].shape[1:], axes, strict=True):
        assert abs(m - n * a.scale) <= Fraction(1, 2)


@given(axes=AXES, seed=SEEDS)
def test_patch_simulation_and_middle_stay_aligned(field: Any, axes: list[Axis], seed: int) -> None:
    """The chain of networks of one scale: a patch with a margin, its LR image, and the middle of both."""
    scale = [str(a.scale) for a in axes]
    cut = RandPatchd(size=1, context=1, permute=False)
    cut.set_random_state(seed)
    item = cut({"label": pair_of(field, axes, seed)["label"], "scale": scale})
    assert field.error(item["label"]) < 1e-4
    item = CenterPairedCropd(size=[a.scale.numerator for a in axes])(SimulateLowResolutiond()(item))
    assert apart(item) < TOLERANCE_MM
    assert item["image"].shape[1:] == tuple(a.scale.denominator for a in axes)


def test_the_measure_sees_half_a_voxel(field: Any) -> None:
    """The negative control: without the shift by (s - 1) / 2 the same check fails."""
    item = pair_of(field, [Axis(Fraction(2), 2, 0, 0, 0)] * 2, 0)
    item["image"].affine = item["image"].affine.clone()
    item["image"].affine[:3, 3] = item["label"].affine[:3, 3]
    assert apart(item) > 0.1
