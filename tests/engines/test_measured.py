"""The choice of precision and layout: what is measured leaves the run alone, and what is wrong or slow is not taken.

Compared with the same steps written out in plain torch.
"""

from __future__ import annotations

import copy
import logging
import random
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medsr.engines import Choice, ChosenForward, GradientClipping, Trial, choose
from medsr.engines import measured as module
from medsr.engines.measured import Measured, fastest, lay_out
from medsr.errors import InputError


class Slow(nn.Conv2d):
    """A convolution that takes long in bfloat16, as on CPUs that lack it."""

    calls = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu"):
            Slow.calls += 1
            time.sleep(0.8)
        return super().forward(image)


class Coarse(nn.Conv2d):
    """A convolution whose result in bfloat16 is useless."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image) * (1.1 if torch.is_autocast_enabled("cpu") else 1)


class Failing(nn.Conv2d):
    """A convolution that bfloat16 does not have."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("not implemented for 'BFloat16'")
        return super().forward(image)


def trial_of(convolution: type[nn.Conv2d] = nn.Conv2d, dims: int = 2) -> Trial:
    torch.manual_seed(0)
    if dims == 3:
        network: nn.Module = nn.Conv3d(1, 1, 3, padding=1)
    else:
        network = nn.Sequential(convolution(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 1, 1))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    lr = torch.rand(2, 1, *(8,) * dims)
    network(lr).mean().backward()
    optimizer.step()  # the optimiser has a state of its own
    return Trial(network, optimizer, nn.L1Loss(), lr, lr * 2)


def test_measuring_leaves_the_run_as_it_was() -> None:
    trial = trial_of()
    before = copy.deepcopy((trial.network.state_dict(), trial.optimizer.state_dict()))
    gradients = [p.grad.clone() for p in trial.network.parameters() if p.grad is not None]
    threads = torch.get_num_threads()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    choice, rows = choose(trial, ["float32", "bfloat16"], threads=[1, 2])
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected
    assert torch.get_num_threads() == threads
    after = (trial.network.state_dict(), trial.optimizer.state_dict())
    for key, value in before[0].items():
        assert torch.equal(value, after[0][key]), key
    for number, state in before[1]["state"].items():
        assert all(torch.equal(value, after[1]["state"][number][key]) for key, value in state.items())
    for parameter, gradient in zip(trial.network.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)
        assert parameter.is_contiguous()
    assert len(rows) >= 4
    assert choice.threads is not None


def test_losses_are_those_of_the_plain_steps() -> None:
    trial = trial_of(dims=3)
    network = copy.deepcopy(trial.network)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    optimizer.load_state_dict(copy.deepcopy(trial.optimizer.state_dict()))
    expected = []
    for _ in range(module.STEPS + 1):
        optimizer.zero_grad()
        loss = (network(trial.lr) - trial.hr).abs().mean()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    _, rows = choose(trial, ["float32"])
    for row in rows:
        assert row.losses == pytest.approx(expected, rel=1e-5), row.choice
    assert [row.choice.layout for row in rows] == ["contiguous", "channels_last"]


def test_clipping_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trial_of(dims=3)
    sgd = torch.optim.SGD(trial.network.parameters(), 0.5)
    clip = GradientClipping(sgd, 1e-9).clip  # leaves the weights as they are
    _, rows = choose(Trial(trial.network, sgd, trial.loss_function, trial.lr, trial.hr, (), (clip,)), ["float32"])
    assert rows[0].losses == pytest.approx([rows[0].losses[0]] * len(rows[0].losses), rel=1e-6)


def test_a_far_slower_precision_is_given_up_within_a_step(caplog: pytest.LogCaptureFixture) -> None:
    Slow.calls = 0
    with caplog.at_level(logging.INFO, "medsr.engines.measured"):
        choice, rows = choose(trial_of(Slow), ["float32", "bfloat16"])
    assert choice.precision == "float32"
    assert rows[-1].verdict.startswith("far slower")
    assert Slow.calls == 1  # not one of every layout and step
    assert "far slower" in caplog.text
    assert f"training goes on in {choice}" in caplog.text


@pytest.mark.parametrize(("kind", "verdict"), [(Coarse, "loss differs by"), (Failing, "fails: not implemented")])
def test_a_precision_that_is_wrong_or_absent_is_not_taken(
    kind: type[nn.Conv2d], verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FAR", 1e6)  # whatever such a small network takes
    trial = trial_of(kind)
    trial.network[1] = nn.Identity()  # type: ignore[index]  # batch norm would undo the factor
    choice, rows = choose(trial, ["float32", "bfloat16"])
    assert choice.precision == "float32"
    assert all(row.verdict.startswith(verdict) for row in rows if row.choice.precision == "bfloat16")
    assert len(rows) == 4


def test_the_fastest_is_taken_if_it_wins_by_a_margin() -> None:
    rows = [Measured(Choice(), 1.0), Measured(Choice(layout="channels_last"), 0.96), Measured(Choice("bfloat16"), 0.97)]
    assert fastest(rows) is rows[0]
    rows.append(Measured(Choice("bfloat16", "channels_last"), 0.5))
    assert fastest(rows) is rows[3]
    rows.append(Measured(Choice("float16"), 0.1, verdict="loss differs by 20 %"))
    assert fastest(rows) is rows[3]


def test_a_failure_of_the_run_itself_is_told() -> None:
    trial = trial_of()
    with pytest.raises(RuntimeError, match="expected input"):
        choose(Trial(trial.network, trial.optimizer, nn.L1Loss(), trial.lr[:, :0], trial.hr), ["float32", "bfloat16"])


@pytest.mark.parametrize(("convolution", "size"), [(nn.Conv2d, (2, 3, 5, 7)), (nn.Conv3d, (2, 3, 5, 6, 7))])
def test_layout_changes_no_value(convolution: Any, size: tuple[int, ...]) -> None:
    network, image = convolution(3, 4, 3), torch.rand(size)
    expected, parameter = network(image), network.weight
    lay_out(network, "channels_last")
    assert network.weight is parameter
    assert network.weight.stride()[1] == 1
    forward = ChosenForward(network, layout="channels_last")
    forward.choice = Choice(layout="channels_last")
    assert torch.allclose(forward(image, network), expected, atol=1e-6)
    lay_out(network, "contiguous")
    assert network.weight.is_contiguous()


def test_what_cannot_be_trained_in_is_refused() -> None:
    network = nn.Conv2d(1, 1, 1)
    with pytest.raises(InputError, match="on cpu is one of auto, float32, bfloat16, got 'float16'"):
        ChosenForward(network, precision="float16")
    with pytest.raises(InputError, match="one of auto, contiguous, channels_last, got 'nhwc'"):
        ChosenForward(network, layout="nhwc")


@pytest.mark.gpu
def test_float16_trains_with_a_scaler() -> None:
    trial = trial_of()
    network = copy.deepcopy(trial.network).cuda()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    moved = Trial(network, optimizer, nn.L1Loss(), trial.lr.cuda(), trial.hr.cuda())
    _, rows = choose(moved, ["float32", "bfloat16", "float16"])
    assert not any(row.verdict for row in rows)
