"""Batches of patches: of several volumes, the same from seed and epoch, and none made in vain."""

from __future__ import annotations

import pytest
import torch
from monai.data import Dataset

from medsr.bundle import PatchLoader
from medsr.errors import InputError


class Counted(Dataset):
    """Volumes of 7 patches each, which say what they are."""

    def __init__(self, weights=(1, 1, 1, 1)) -> None:
        super().__init__([{"weight": weight} for weight in weights])
        self.made = 0

    def __getitem__(self, index):
        self.made += 7
        return [{"label": torch.tensor([float(index), float(k)])} for k in range(7)]


def epoch(loader: PatchLoader, number: int) -> list[torch.Tensor]:
    loader.sampler.set_epoch(number)
    return [batch["label"] for batch in loader]


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_epoch_depends_on_seed_and_epoch_alone(ahead: int) -> None:
    loader = PatchLoader(Counted(), batch_size=4, steps=6, seed=1, buffer=10, ahead=ahead)
    first, second = epoch(loader, 1), epoch(loader, 2)
    assert len(loader) == len(first) == 6
    assert all(batch.shape == (4, 2) for batch in first)
    again = epoch(PatchLoader(Counted(), batch_size=4, steps=6, seed=1, buffer=10), 1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_patch_is_made_in_vain_and_batches_are_mixed() -> None:
    data = Counted()
    drawn = torch.cat(epoch(PatchLoader(data, batch_size=4, steps=14, buffer=28), 1))
    assert data.made == 56 == len(drawn)
    batches = drawn.reshape(14, 4, 2)[:, :, 0]
    assert sum(len(set(batch.tolist())) > 1 for batch in batches) >= 10


def test_workers_prepare_the_same_volumes() -> None:
    """What they draw in a volume is of their own; which volumes is not."""
    options = {"batch_size": 4, "steps": 6, "seed": 1, "buffer": 10}
    alone, helped = (epoch(PatchLoader(Counted(), **options, num_workers=n), 1) for n in (0, 2))
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_weights_are_obeyed() -> None:
    drawn = torch.cat(epoch(PatchLoader(Counted((1, 0, 0, 3)), batch_size=8, steps=50, buffer=32), 1))[:, 0]
    assert set(drawn.tolist()) == {0.0, 3.0}
    assert float((drawn == 3).float().mean()) == pytest.approx(0.75, abs=0.15)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"steps": 0}, {"buffer": 0}, {"ahead": -1}, {"num_workers": -1}])
def test_impossible_numbers_are_refused(wrong) -> None:
    with pytest.raises(InputError, match="expected at least one patch"):
        PatchLoader(Counted(), **{"batch_size": 1, "steps": 1, **wrong})
