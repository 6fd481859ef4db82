"""Seeds, time budget, clipping, parameter groups."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine, Events
from monai.transforms import Compose, RandAdjustContrast
from torch import nn

from medsr.engines import GradientClipping, SeedPerEpoch, TimeBudget, parameter_groups, time_budget
from medsr.errors import InputError
from medsr.networks import create


def run(handlers: list[Any], max_epochs: int, process: Any = lambda engine, batch: None) -> Engine:
    engine = Engine(process)
    for handler in handlers:
        handler.attach(engine)
    engine.run([0, 0], max_epochs=max_epochs)
    return engine


# --- seeds


def draws(first_epoch: int, seed: int = 0) -> list[tuple[float, float, float]]:
    transform = Compose([RandAdjustContrast(prob=1.0)])
    found: list[tuple[float, float, float]] = []

    def process(engine: Engine, batch: Any) -> None:
        transform(torch.linspace(0, 1, 8)[None])
        found.append((float(torch.rand(1)), float(np.random.rand()), float(transform.transforms[0].gamma_value)))

    engine = Engine(process)
    SeedPerEpoch(transform, seed).attach(engine)
    engine.load_state_dict({"iteration": 2 * (first_epoch - 1), "max_epochs": 3, "epoch_length": 2})
    engine.run([0, 0], max_epochs=3)
    return found


def test_streams_depend_on_seed_and_epoch_alone() -> None:
    straight = draws(1)
    assert len({value for draw in straight for value in draw}) == 18
    torch.rand(7)
    assert draws(2) == straight[2:]
    assert not set(draws(1, seed=1)) & set(straight)


def test_ranks_draw_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    straight = draws(1)
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    assert not set(draws(1)) & set(straight)


# --- time budget


@pytest.mark.parametrize(
    ("minutes", "epochs"),
    [(3.5, 3), (3.0, 3), (0.1, 1), (None, 9), (0, 9), (100, 9)],  # of epochs that take a minute each
)
def test_last_epoch_that_fits(monkeypatch: pytest.MonkeyPatch, minutes: float | None, epochs: int) -> None:
    clock = [1e6]
    monkeypatch.setattr(time_budget, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def process(engine: Engine, batch: Any) -> None:
        clock[0] += 30.0

    assert run([TimeBudget(minutes)], 9, process).state.epoch == epochs


def test_handlers_of_the_last_epoch_still_run() -> None:
    budget = TimeBudget(1e-9)
    engine = Engine(lambda engine, batch: None)
    budget.attach(engine)
    saved = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: saved.append(e.state.epoch))
    engine.run([0], max_epochs=5)
    assert saved == [1]


@pytest.mark.parametrize("minutes", [-1, float("nan")])
def test_impossible_budget(minutes: float) -> None:
    with pytest.raises(InputError, match="a time budget must be at least 0 minutes, or null"):
        TimeBudget(minutes)


# --- clipping


def clipped(gradients: list[list[float]], threshold: float | None, mode: str) -> list[np.ndarray]:
    parameters = [nn.Parameter(torch.zeros(len(g))) for g in gradients]
    groups = [{"params": [p]} for p in parameters]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    GradientClipping(optimizer, threshold, mode).attach(Engine(lambda engine, batch: None))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    optimizer.step()
    return [-p.detach().numpy() for p in parameters]  # what SGD subtracted


GRADIENTS = st.lists(
    st.lists(st.floats(-8, 8, width=32).filter(lambda v: v == 0 or abs(v) > 1e-3), min_size=1, max_size=3),
    min_size=1,
    max_size=3,
)


@given(GRADIENTS, st.floats(0.05, 20))
def test_norm_of_all_groups_together(gradients: list[list[float]], threshold: float) -> None:
    whole = np.concatenate(gradients)
    result = np.concatenate(clipped(gradients, threshold, "norm"))
    norm = np.linalg.norm(whole)
    assert np.allclose(result, whole * min(1.0, threshold / max(norm, 1e-12)), rtol=1e-4, atol=1e-5)


@given(GRADIENTS, st.floats(0.05, 20))
def test_equation_9_as_printed(gradients: list[list[float]], threshold: float) -> None:
    whole = np.concatenate(gradients)
    norm = float(np.linalg.norm(whole))
    if abs(norm - threshold) < 1e-4 * threshold:
        return  # which side it is on is a matter of rounding
    expected = whole / threshold if norm > threshold else whole
    assert np.allclose(np.concatenate(clipped(gradients, threshold, "pham")), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threshold", [None, 0])
def test_no_clipping(threshold: float | None) -> None:
    assert np.allclose(clipped([[3.0, 4.0]], threshold, "norm")[0], [3, 4])


@pytest.mark.parametrize("mode", ["norm", "pham"])
def test_parameters_without_gradient_are_passed_over(mode: str) -> None:
    used, unused = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([used, unused], lr=1.0)
    GradientClipping(optimizer, 2.0, mode).attach(Engine(lambda engine, batch: None))
    used.grad = torch.tensor([6.0])
    optimizer.step()
    assert float(used.detach()) == pytest.approx(-2.0 if mode == "norm" else -3.0)


def test_wrong_arguments_of_clipping() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(InputError, match="'norm' or 'pham', got 'value'"):
        GradientClipping(optimizer, 1.0, "value")
    with pytest.raises(InputError, match="threshold of gradient clipping"):
        GradientClipping(optimizer, -1.0)


# --- parameter groups


def test_biases_learn_at_their_own_rate() -> None:
    network = create("recnn-10l", features=4, depth=3)
    weights, biases = parameter_groups(network, lr=0.01, bias_lr_factor=0.1)
    assert weights["lr"] == 0.01
    assert biases["lr"] == pytest.approx(0.001)
    assert {p.ndim for p in biases["params"]} == {1}
    assert {p.ndim for p in weights["params"]} == {5}
    assert len(weights["params"]) + len(biases["params"]) == len(list(network.parameters()))
    optimizer = torch.optim.Adam([weights, biases], lr=1.0)
    assert [g["lr"] for g in optimizer.param_groups] == [0.01, pytest.approx(0.001)]


def test_frozen_parameters_and_empty_groups_are_left_out() -> None:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2))
    network[1].requires_grad_(False)
    assert [len(g["params"]) for g in parameter_groups(network, 0.1)] == [1]


def test_names_of_a_parallel_network_count_too() -> None:
    network = nn.DataParallel(nn.Linear(2, 2))
    assert [len(g["params"]) for g in parameter_groups(network, 0.1, 0.1)] == [1, 1]
