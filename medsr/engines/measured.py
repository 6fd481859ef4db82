"""The precision and the memory layout of a training, chosen by measuring some steps of it.

Which choice is fastest depends on the network, the batch and the machine: bfloat16 halves the time of a step on one CPU
and takes thirty times as long on another, so that no rule replaces the measurement.
"""

from __future__ import annotations

import copy
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import nn
from torch.amp import GradScaler

from medsr.engines.distributed import unwrapped
from medsr.inferers import ForwardInferer

logger = logging.getLogger(__name__)

LAYOUTS = ("contiguous", "channels_last")
STEPS = 3  # the timed steps of a candidate, after one that warms up
TOLERANCE = 0.01  # the relative difference of a loss from float32's above which a candidate is not taken
MARGIN = 0.95  # the share of float32's time that a candidate has to reach, or noise would decide
FAR = 3.0  # a step that takes this many times the best one's time ends the measurement of its candidate
INITIAL_SCALE = 2.0**12  # of gradients in float16; torch's 2^16 makes the first steps of most networks overflow
_NOTICED = 0.5  # seconds that a step may take in any case: the first step in a layout has costs of its own
_LONGEST = 30.0  # seconds after which a candidate gets no further timed step


@dataclass(frozen=True)
class Choice:
    """How the steps of a training are computed.

    Attributes:
        precision: "float32", "bfloat16" or "float16" (autocast).
        layout: "contiguous", or "channels_last": the channels of a pixel or voxel lie side by side in memory.
        compiled: Whether the network runs through `torch.compile`.
        threads: The number of CPU threads; None leaves it as it is.
    """

    precision: str = "float32"
    layout: str = "contiguous"
    compiled: bool = False
    threads: int | None = None

    def __str__(self) -> str:
        """Return the choice in words."""
        more = ["compiled"] * self.compiled + [f"{self.threads} threads"] * (self.threads is not None)
        return ", ".join([self.precision, self.layout, *more])


@dataclass(frozen=True)
class Trial:
    """The steps to measure: what a training does with a batch. Nothing of it is changed by measuring.

    Attributes:
        network: The network, on its device.
        optimizer: The optimiser of its parameters.
        loss_function: The loss of (SR, HR).
        lr: The LR images, (B, C, *spatial).
        hr: The HR images.
        arguments: The further arguments of the network.
        before_step: What is called with (optimiser, (), {}) before its step, such as `GradientClipping.clip`.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    loss_function: Callable[[Any, Any], torch.Tensor]
    lr: torch.Tensor
    hr: torch.Tensor
    arguments: tuple[Any, ...] = ()
    before_step: tuple[Callable[..., None], ...] = ()


@dataclass(frozen=True)
class Measured:
    """What a candidate took.

    Attributes:
        choice: The candidate.
        seconds: The shortest time of a step; infinite for one that was given up.
        losses: The loss of each step.
        verdict: Why the candidate is out of the question; empty for one that is not.
    """

    choice: Choice
    seconds: float
    losses: tuple[float, ...] = ()
    verdict: str = ""


class _TooSlowError(Exception):
    """A step takes far longer than the best one."""


def precisions_of(device: torch.device) -> tuple[str, ...]:
    """Return the precisions that a device can train in: float16, which needs a gradient scaler, on CUDA only."""
    return ("float32", "bfloat16", "float16") if device.type == "cuda" else ("float32", "bfloat16")


def choose(
    trial: Trial,
    precisions: Sequence[str],
    layouts: Sequence[str] = LAYOUTS,
    threads: Sequence[int] = (),
    compiling: bool = False,
) -> tuple[Choice, list[Measured]]:
    """Measure some steps of a training in every precision and layout, log them as a table and return the fastest.

    Each candidate trains a copy of the network by a copy of its optimiser on the batch, from the same random numbers.
    It is not taken if one of its losses differs by more than `TOLERANCE` (relative) from that of the first candidate,
    or if it saves less than 5 % of the first one's time. The run itself, its random streams and its number of threads
    are afterwards what they were before.

    Args:
        trial: The network, the optimiser, the loss and a batch.
        precisions: The precisions to try; the first one is the reference.
        layouts: The layouts to try; the first one is the reference.
        threads: The numbers of threads to try with the fastest of these; none leaves the number as it is.
        compiling: Whether to try `torch.compile` with the fastest of these, which takes a minute.

    Returns:
        The choice, and what was measured, in the order of measuring.
    """
    rows: list[Measured] = []
    with _left_as_it_was():
        for precision in precisions:
            for layout in layouts:
                _add(rows, trial, Choice(precision, layout))
                if rows[-1].verdict == _FAR_SLOWER:
                    break
        if compiling:
            _add(rows, trial, replace(fastest(rows).choice, compiled=True))
        here, plain = torch.get_num_threads(), fastest(rows).choice
        for number in threads:
            if number != here:
                _add(rows, trial, replace(plain, threads=number))
    best = fastest(rows).choice
    if threads and best.threads is None:
        best = replace(best, threads=here)
    _log(trial, rows, best)
    return best, rows


def fastest(rows: Sequence[Measured]) -> Measured:
    """Return the fastest candidate that is not out of the question; the first one if none is faster by a margin."""
    best = min((row for row in rows if not row.verdict), key=lambda row: row.seconds)
    return best if best.seconds < MARGIN * rows[0].seconds else rows[0]


def lay_out(network: nn.Module, layout: str) -> None:
    """Arrange the kernels of a network in memory in place: values, and the identity of parameters, stay the same."""
    for parameter in network.parameters():
        if parameter.dim() in (4, 5):
            parameter.data = arranged(parameter.data, layout)


def arranged(image: torch.Tensor, layout: str) -> torch.Tensor:
    """Return an image (B, C, *spatial) of two or three spatial axes, or kernels, in a layout; others as they are."""
    if image.dim() not in (4, 5):
        return image
    last = torch.channels_last if image.dim() == 4 else torch.channels_last_3d
    return image.contiguous(memory_format=last if layout == "channels_last" else torch.contiguous_format)


_FAR_SLOWER = "far slower, given up"


def _add(rows: list[Measured], trial: Trial, choice: Choice) -> None:
    best = min((row.seconds for row in rows if not row.verdict), default=float("inf"))
    try:
        row = _measure(trial, choice, max(FAR * best, _NOTICED))
    except _TooSlowError:
        row = Measured(choice, float("inf"), verdict=_FAR_SLOWER)
    except Exception as error:  # an operation that lacks the precision, too little memory, whatever a compiler raises
        if not rows:
            raise  # the run itself would fail in the same way
        row = Measured(choice, float("inf"), verdict=f"fails: {' '.join(str(error).split())[:80]}")
    if rows and not row.verdict:
        pairs = zip(row.losses, rows[0].losses, strict=False)
        apart = [abs(loss - expected) / max(abs(expected), 1e-12) for loss, expected in pairs]
        if not max(apart) <= TOLERANCE:
            row = replace(row, verdict=f"loss differs by {100 * max(apart):.2g} %")
    rows.append(row)


def _measure(trial: Trial, choice: Choice, limit: float) -> Measured:
    """Return the times and losses of some steps.

    Raises:
        _TooSlowError: If a step took longer than the limit (s).
    """
    if choice.threads is not None:
        torch.set_num_threads(choice.threads)
    device = trial.lr.device
    network, optimizer = copy.deepcopy((unwrapped(trial.network), trial.optimizer))  # together: they share parameters
    loss_function = copy.deepcopy(trial.loss_function)
    lay_out(network, choice.layout)
    forward: Any = torch.compile(network) if choice.compiled else network
    scaler = GradScaler(device.type, INITIAL_SCALE, enabled=choice.precision == "float16")
    inferer = ForwardInferer(choice.precision)
    torch.manual_seed(0)
    losses: list[float] = []
    seconds: list[float] = []
    watched = _watch(network, limit) if device.type == "cpu" else []
    begun = time.perf_counter()
    while len(seconds) <= STEPS and (len(seconds) < 2 or time.perf_counter() - begun < _LONGEST):
        started = time.perf_counter()
        network.train()
        optimizer.zero_grad()
        lr = trial.lr.as_tensor() if isinstance(trial.lr, MetaTensor) else trial.lr
        loss = loss_function(inferer(arranged(lr, choice.layout), forward, *trial.arguments), trial.hr).mean()
        scaler.scale(loss).backward()
        if trial.before_step:
            scaler.unscale_(optimizer)
        for call in trial.before_step:
            call(optimizer, (), {})
        scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss.detach()))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
        for handle in watched:
            handle.remove()
        watched = []
        if seconds[-1] > limit and not choice.compiled:
            raise _TooSlowError
    return Measured(choice, min(seconds[1:]), tuple(losses))


def _watch(network: nn.Module, limit: float) -> list[Any]:
    """Let the modules of a network look at the clock, so that not even one step of a slow candidate has to end."""
    until = time.perf_counter() + limit

    def look(module: nn.Module, inputs: Any) -> None:
        if time.perf_counter() > until:
            raise _TooSlowError

    return [module.register_forward_pre_hook(look) for module in network.modules()]


@contextmanager
def _left_as_it_was() -> Iterator[None]:
    """Restore the random streams and the number of threads."""
    numpy_state, state, threads = np.random.get_state(), random.getstate(), torch.get_num_threads()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(state)
            torch.set_num_threads(threads)


def _log(trial: Trial, rows: Sequence[Measured], best: Choice) -> None:
    size = "x".join(str(n) for n in trial.lr.shape)
    place = f"{trial.lr.device}, {torch.get_num_threads()} threads"
    logger.info("measured steps on a batch of %s (%s):", size, place)
    logger.info("  %-10s %-13s %-8s %7s %10s %12s", *asdict(best), "ms", "loss")
    for row in rows:
        cells = ["-" if value is None else str(value) for value in asdict(row.choice).values()]
        time_, loss = f"{1e3 * row.seconds:.1f}", f"{row.losses[-1]:.6g}" if row.losses else "-"
        logger.info("  %-10s %-13s %-8s %7s %10s %12s %s", *cells, time_, loss, row.verdict)
    logger.info("training goes on in %s", best)
