"""One scale a batch: what is drawn, and that it depends on nothing but seed, epoch and batch."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from scipy import ndimage

from medsr.engines import ScaledDataset, ScaleSampler, SeedPerEpoch, each_scale, prepare_batch_of_scale, scale_range
from medsr.errors import GridError, InputError
from medsr.transforms import ArbitraryScaleTraining, ArbitraryScaleValidation

SCALES = scale_range(1.1, 4)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(0)
    for name in "ab":
        values = ndimage.gaussian_filter(rng.normal(size=(70, 64, 5)), (1, 1, 0))
        nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4)), folder / f"{name}.nii.gz")
    return [{"label": str(folder / f"{name}.nii.gz")} for name in "ab"]


def drawn(epoch: int, **options: Any) -> list[tuple[int, str]]:
    sampler = ScaleSampler([{}, {}, {}], **{"samples": 40, "batch_size": 4, "scales": SCALES, **options})
    sampler.set_epoch(epoch)
    return list(sampler)


def test_published_scales() -> None:
    assert len(SCALES) == 30
    assert [Fraction(s) for s in SCALES] == [Fraction(k, 10) for k in range(11, 41)]
    assert scale_range("3/2", 2, "1/4") == ["3/2", "7/4", "2"]
    for wrong in ((4, 1.1), (0.9, 2), (1, 2, 0)):
        with pytest.raises(InputError, match="1 <= low <= high and a step above 0"):
            scale_range(*wrong)


def test_a_batch_has_one_scale_and_batches_differ() -> None:
    pairs = drawn(1)
    batches = [pairs[i : i + 4] for i in range(0, 40, 4)]
    assert all(len({scale for _, scale in batch}) == 1 for batch in batches)
    assert len({batch[0][1] for batch in batches}) > 5
    assert len({index for index, _ in pairs}) == 3


def test_scales_depend_on_seed_and_epoch_alone() -> None:
    first = drawn(3)
    torch.manual_seed(99)
    np.random.seed(99)
    assert drawn(3) == first
    assert [s for _, s in drawn(4)] != [s for _, s in first]
    assert [s for _, s in drawn(3, seed=1)] != [s for _, s in first]


def test_all_scales_come_equally_often() -> None:
    sampler = ScaleSampler([{}], 1, 1, [1.5, 2, "7/3", 4])
    counts = dict.fromkeys(sampler.scales, 0)
    for batch in range(2000):
        counts[sampler.scale_of(batch)] += 1
    assert set(counts) == {"3/2", "2", "7/3", "4"}
    assert all(abs(count / 2000 - 0.25) < 0.04 for count in counts.values())  # four standard deviations


def test_processes_share_scales_not_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr("ignite.distributed.get_rank", lambda rank=rank: rank)
        parts.append(drawn(1))
    assert [s for _, s in parts[0]] == [s for _, s in parts[1]]
    assert [i for i, _ in parts[0]] != [i for i, _ in parts[1]]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"scales": []}, InputError),
        ({"scales": 2}, InputError),
        ({"scales": "23"}, InputError),
        ({"scales": None}, InputError),
        ({"scales": [0.5]}, GridError),
    ],
)
def test_no_scale_to_draw(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        drawn(1, **options)
    with pytest.raises(error):
        each_scale([{}], options["scales"])


def loaded(items: list[dict[str, Any]], epoch: int, num_workers: int = 0) -> list[dict[str, Any]]:
    transform = ArbitraryScaleTraining(32)
    dataset = ScaledDataset(items, transform, num_workers=0, progress=False)
    sampler = ScaleSampler(items, 12, 3, SCALES)
    sampler.set_epoch(epoch)
    SeedPerEpoch(transform)(type("E", (), {"state": type("S", (), {"epoch": epoch})})())  # what the trainer does
    return list(DataLoader(dataset, batch_size=3, sampler=sampler, num_workers=num_workers))


def test_batches_from_files(items: list[dict[str, Any]]) -> None:
    batches = loaded(items, 2)
    assert len(batches) == 4
    for batch in batches:
        lr, hr, (scale,), named = prepare_batch_of_scale(batch, "cpu")
        assert isinstance(scale, Fraction)
        assert not named
        assert lr.shape == (3, 1, *(int(32 / scale),) * 2)
        assert hr.shape == (3, 1, *(round(int(32 / scale) * scale),) * 2)
        assert hr.shape[-1] <= 32
    assert len({batch["scale"][0] for batch in batches}) > 1
    again = loaded(items, 2)
    for a, b in zip(batches, again, strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["label"], b["label"])
    assert not torch.equal(loaded(items, 3)[0]["label"][0, 0, :8, :8], batches[0]["label"][0, 0, :8, :8])


def test_mixed_scales_are_refused() -> None:
    batch = {"image": torch.zeros(2, 1, 4, 4), "label": torch.zeros(2, 1, 8, 8), "scale": ["2", "3"]}
    with pytest.raises(InputError, match="one scale, got 2, 3"):
        prepare_batch_of_scale(batch)
    batch["scale"] = ["2,3/2", "2,3/2"]
    assert prepare_batch_of_scale(batch)[2] == ((Fraction(2), Fraction(3, 2)),)
    del batch["scale"]
    assert prepare_batch_of_scale(batch)[2:] == ((), {})


def test_validation_at_each_scale(items: list[dict[str, Any]]) -> None:
    every = each_scale(items, [1.5, "7/3"])
    assert [(item["label"][-8:-7], item["scale"]) for item in every] == [
        ("a", "3/2"), ("a", "7/3"), ("b", "3/2"), ("b", "7/3"),
    ]  # fmt: skip
    item = ArbitraryScaleValidation()(every[1])
    assert item["scale"] == "7/3"
    assert item["label"].shape == (1, 70, 63)  # cropped until 7 divides
    assert item["image"].shape == (1, 30, 27)
