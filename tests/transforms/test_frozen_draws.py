"""Crops of a given random state stay what they were, to the bit: trainings that are resumed go on as they began."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medsr.transforms import CenterPairedCropd, RandPairedCropd, RandPatchd, RandScalePatchd, RandSliced

AFFINE = np.array([[0.0, 0.5, 0.0, 3.0], [-2.0, 0.0, 0.0, 7.0], [0.0, 0.0, 1.5, -4.0], [0.0, 0.0, 0.0, 1.0]])


def image(shape: tuple[int, ...], affine: np.ndarray = AFFINE, seed: int = 0) -> MetaTensor:
    """Whole numbers, so that every machine has the same, with an empty half, so that places are drawn again."""
    values = np.random.RandomState(seed).randint(0, 256, (1, *shape)).astype(np.float32) / 256
    values[:, : shape[0] // 2] = 0
    return MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(affine))


def pair(shape: tuple[int, ...], scale: tuple[int, ...]) -> dict[str, Any]:
    """An HR image and one at every `scale`-th voxel's place, aligned edge to edge."""
    change = np.diag([*scale, *[1] * (4 - len(scale))]).astype(float)
    change[: len(scale), 3] = (np.array(scale) - 1) / 2
    small = tuple(n // s for n, s in zip(shape, scale, strict=True))
    return {"label": image(shape), "image": image(small, AFFINE @ change, seed=1)}


def recorded(item: dict[str, Any]) -> dict[str, Any]:
    """As a simulated pair, whose LR image says by how much it is coarser."""
    item["image"].meta["lr_scale"] = "2,1,3"
    return item


def fingerprint(transform: Any, item: dict[str, Any], simulated: bool = False) -> str:
    """Hash of six draws and of the random number after them; values of simulated images, which are sums, left out."""
    digest = hashlib.sha256()
    transform.set_random_state(7)
    for _ in range(6):
        result = transform(item)
        for key in sorted(set(result) & {"image", "label"}):
            if not (simulated and key == "image"):
                digest.update(result[key].as_tensor().numpy().tobytes())
            digest.update(repr(tuple(result[key].shape)).encode())
            digest.update(np.round(result[key].affine.numpy() + 0.0, 9).tobytes())
            digest.update(repr(result[key].meta.get("lr_scale")).encode())
        digest.update(repr(result.get("scale")).encode())
    digest.update(repr(float(transform.R.rand())).encode())
    return digest.hexdigest()[:16]


CASES = {
    "patch": (lambda: RandPatchd(size=8), lambda: {"label": image((24, 22, 20))}),
    "patch of a scale": (
        lambda: RandPatchd(size=[6, 7, 8], context=1),
        lambda: {"label": image((34, 33, 32)), "scale": [2, 1, "3/2"]},
    ),
    "patch as it lies": (lambda: RandPatchd(size=9, permute=False), lambda: {"label": image((24, 22))}),
    "patch of a pair": (lambda: RandPatchd(size=8, context=1), lambda: pair((36, 34, 38), (2, 1, 3))),
    "patch of a recorded pair": (
        lambda: RandPatchd(size=8, context=1),
        lambda: recorded(pair((36, 34, 38), (2, 1, 3))),
    ),
    "paired": (lambda: RandPairedCropd(size=[3, 4, 2], minimum_deviation=0.1), lambda: pair((24, 24, 24), (2, 1, 3))),
    "any scale": (lambda: RandScalePatchd(size=12), lambda: {"label": image((60, 50)), "scale": "23/10"}),
    "any scale of a volume": (
        lambda: RandScalePatchd(size=8, context=2, permute=False),
        lambda: {"label": image((30, 28, 26)), "scale": [2, "5/2", 1]},
    ),
    "any scale, mirrored": (lambda: RandScalePatchd(size=24), lambda: {"label": image((20, 40)), "scale": 3}),
    "any scale of a pair": (lambda: RandScalePatchd(size=8), lambda: pair((36, 34), (2, 3))),
    "slice": (lambda: RandSliced(("label", "image"), "sagittal", 0.1), lambda: pair((20, 18, 16), (2, 1, 2))),
}

# Made by the four croppers that there were before one took their place.
FROZEN = {
    "patch": "42efcee0568bacad",
    "patch of a scale": "bdc96092b23e1718",
    "patch as it lies": "5ed4af02b7b6a671",
    "patch of a pair": "5771b7ad4ba4d98f",
    "patch of a recorded pair": "e21239138af8f559",
    "paired": "9308353788ed34db",
    "any scale": "e345dddbc089492e",
    "any scale of a volume": "01b3f3d67709adb3",
    "any scale, mirrored": "480d381908bd0d2d",
    "any scale of a pair": "4ccc8af55c56a29b",
    "slice": "f3ca97cc3f83267b",
}


@pytest.mark.parametrize("name", CASES)
def test_draws_are_those_of_before(name: str) -> None:
    transform, item = CASES[name]
    simulated = name.startswith("any scale") and not name.endswith("pair")
    assert fingerprint(transform(), item(), simulated) == FROZEN[name]


def test_the_middle_is_that_of_before() -> None:
    item = pair((25, 30, 33), (2, 3, 1))
    result = CenterPairedCropd(size=[8, 12, 9])(item)
    assert torch.equal(result["label"].as_tensor(), item["label"].as_tensor()[:, 8:16, 9:21, 12:21])
    assert torch.equal(result["image"].as_tensor(), item["image"].as_tensor()[:, 4:8, 3:7, 12:21])
