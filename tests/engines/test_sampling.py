"""Which items are drawn."""

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

from medsr.engines import WeightedEpochSampler
from medsr.errors import InputError

ITEMS = [{"weight": 0.6}, {"weight": 0.3}, {"weight": 0.1}, {"weight": 0.0}]


def drawn(sampler: WeightedEpochSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_frequencies_follow_the_weights() -> None:
    indices = drawn(WeightedEpochSampler(ITEMS, 4000), 1)
    assert len(indices) == 4000
    for index, item in enumerate(ITEMS):
        assert indices.count(index) / 4000 == pytest.approx(item["weight"], abs=0.03)  # four standard deviations
    assert 3 not in indices


def test_items_without_weight_are_equal() -> None:
    indices = drawn(WeightedEpochSampler([{}, {}, {"weight": 2}], 4000), 1)
    assert indices.count(2) / 4000 == pytest.approx(0.5, abs=0.04)


def test_draw_depends_on_seed_and_epoch_alone() -> None:
    sampler = WeightedEpochSampler(ITEMS, 50)
    first, second = drawn(sampler, 1), drawn(sampler, 2)
    assert first != second
    torch.manual_seed(99)
    assert drawn(WeightedEpochSampler(ITEMS, 50), 1) == first
    assert drawn(WeightedEpochSampler(ITEMS, 50, seed=1), 1) != first


@pytest.mark.parametrize("samples", [8, 9])
def test_ranks_share_one_draw(monkeypatch: pytest.MonkeyPatch, samples: int) -> None:
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr("ignite.distributed.get_rank", lambda rank=rank: rank)
        sampler = WeightedEpochSampler(ITEMS, samples)
        assert len(sampler) == -(-samples // 2)
        parts.append(drawn(sampler, 3))
    monkeypatch.undo()
    whole = drawn(WeightedEpochSampler(ITEMS, len(parts[0]) * 2), 3)
    assert [index for pair in zip(*parts, strict=True) for index in pair] == whole


def test_monai_tells_it_the_epoch() -> None:
    data = [{"image": torch.zeros(1, 2, 2), "label": torch.zeros(1, 2, 2)} for _ in range(3)]
    sampler = WeightedEpochSampler(data, 4)
    assert isinstance(sampler, DistributedSampler)
    network = nn.Conv2d(1, 1, 1)
    SupervisedTrainer(
        device="cpu",
        max_epochs=3,
        train_data_loader=DataLoader(data, batch_size=2, sampler=sampler),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=nn.MSELoss(),
    ).run()
    assert sampler.epoch == 3


@pytest.mark.parametrize(
    ("items", "samples", "message"),
    [
        ([], 4, "got 0 items and 4 samples"),
        (ITEMS, 0, "got 4 items and 0 samples"),
        ([{"weight": -1}, {"weight": 2}], 4, "must not be negative"),
        ([{"weight": 0}], 4, "nor all zero"),
        ([{"weight": float("nan")}], 4, "must not be negative"),
    ],
)
def test_nothing_to_draw(items: list[dict[str, float]], samples: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        WeightedEpochSampler(items, samples)
