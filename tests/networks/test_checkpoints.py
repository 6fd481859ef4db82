"""Weights of others load safely and strictly, and nothing half."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from medsr.errors import InputError
from medsr.networks import load_checkpoint


class Ours(nn.Module):
    PUBLISHED_KEYS = ((r"^head\.0\.", "first."), (r"\.mask$", None), (r"^layers\.(\d+)\.w$", r"last.\1.weight"))

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.last = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)])


def published(network: Ours) -> dict[str, torch.Tensor]:
    """The same weights as another program would name them, and a buffer that we do not have."""
    theirs = {}
    for key, value in network.state_dict().items():
        key = key.replace("first.", "head.0.").replace("last.", "layers.")
        theirs[key.replace(".weight", ".w") if key.startswith("layers") else key] = value
    return {**theirs, "norm.mask": torch.zeros(3)}


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


WRAPPERS = {
    "bare": lambda w: w,
    "ordered": lambda w: OrderedDict(w),
    "params": lambda w: {"params": w, "iteration": 3},
    "params_ema is better": lambda w: {"params": {k: v + 1 for k, v in w.items()}, "params_ema": w},
    "state_dict": lambda w: {"epoch": 7, "state_dict": w},
    "distributed": lambda w: {f"module.{k}": v for k, v in w.items()},
    "both": lambda w: {"model": {f"module.{k}": v for k, v in w.items()}},
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("naming", [Ours.state_dict, published], ids=["our names", "published names"])
@pytest.mark.parametrize("from_file", [False, True])
def test_what_training_programs_save(tmp_path, wrap, naming, from_file):
    given, network = Ours(), Ours()
    content = wrap(naming(given))
    if from_file:
        torch.save(content, tmp_path / "x.pt")
        content = tmp_path / "x.pt"
    load_checkpoint(network, content)
    assert same(network, given)


def test_counters_of_old_checkpoints_may_be_missing():
    given, network = Ours(), Ours()
    load_checkpoint(network, {k: v for k, v in given.state_dict().items() if not k.endswith("num_batches_tracked")})
    assert same(network, given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("head.0.bias"), r"missing first\.bias \(1 key"),
        (lambda w: w.update(more=torch.zeros(1), most=torch.zeros(1)), r"extra more \(2 key"),
        (
            lambda w: w.update({"head.0.weight": torch.zeros(5)}),
            r"misshapen first\.weight \(5,\), expected \(2, 1, 3, 3\)",
        ),
        (lambda w: w.update({"tail": w.pop("norm.bias")}), r"missing norm\.bias, extra tail \(2 key"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(change, words):
    network, weights = Ours(), published(Ours())
    before = {k: v.clone() for k, v in network.state_dict().items()}
    change(weights)
    with pytest.raises(InputError, match=words) as error:
        load_checkpoint(network, weights)
    assert "\n" not in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


class Evil:
    def __reduce__(self):
        return (print, ("code from a checkpoint ran",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a file of weights"),
        (b"PK\x03\x04 nothing", "is not a file of weights"),
        (pickle.dumps(Evil(), protocol=2), "is not a file of weights alone.*program code"),
        (pickle.dumps({"a": 1}, protocol=2), "is not a file of weights"),
    ],
)
def test_files_that_are_no_weights(tmp_path, capsys, content, words):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        load_checkpoint(Ours(), path)
    assert "\n" not in str(error.value)
    assert "ran" not in capsys.readouterr().out


def test_objects_in_a_checkpoint_are_not_executed(tmp_path, capsys):
    torch.save({"state_dict": Ours().state_dict(), "extra": Evil()}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="program code"):
        load_checkpoint(Ours(), tmp_path / "x.pt")
    assert "ran" not in capsys.readouterr().out


def test_missing_file(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.pt is missing"):
        load_checkpoint(Ours(), tmp_path / "none.pt")


@pytest.mark.parametrize("content", [{"epoch": 1}, {}, {"state_dict": {}}])
def test_without_weights(content):
    with pytest.raises(InputError, match=r"holds no state dict|missing"):
        load_checkpoint(Ours(), content)
