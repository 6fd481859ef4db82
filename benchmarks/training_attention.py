"""Time of training steps by attention of our own and by torch's; `python -m benchmarks.training_attention --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from unittest import mock

import torch

from benchmarks import machine
from benchmarks.measure import in_turns
from medsr.networks import create
from medsr.networks.blocks import window_attention
from medsr.runtime import keep_freed_memory


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_attention", description=__doc__)
    parser.add_argument("names", nargs="*", default=["rdst-e", "swinir-lite-zhu2022"], metavar="NAME", help="presets")
    parser.add_argument("--batch", type=int, default=8, help="LR patches of a step (8)")
    parser.add_argument("--size", type=int, default=24, help="LR pixels along a side (24)")
    parser.add_argument("--repeats", type=int, default=7, help="measured steps of each (7)")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (1)")
    return parser.parse_args(arguments)


def step_of(name: str, batch: int, size: int, own: bool) -> tuple[Callable[[], None], torch.nn.Module]:
    """Return a training step of a network, and the network: with its own attention for training, or torch's."""
    torch.manual_seed(0)
    network = create(name, scale=4)
    optimizer = torch.optim.Adam(network.parameters(), 1e-5)
    lr, hr = torch.rand(batch, 1, size, size), torch.rand(batch, 1, 4 * size, 4 * size)
    wanted = window_attention.wants_own_gradients if own else lambda *inputs: False

    def step() -> None:
        with mock.patch.object(window_attention, "wants_own_gradients", wanted):
            optimizer.zero_grad()
            (network(lr) - hr).abs().mean().backward()
            optimizer.step()

    return step, network


def gradients(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for every network."""
    options = parse(arguments)
    keep_freed_memory()  # as in a training
    torch.set_num_threads(options.threads)
    print(f"{machine.processor(torch.device('cpu'))}, {options.threads} threads, torch {torch.__version__}")
    for name in options.names:
        steps = {key: step_of(name, options.batch, options.size, key == "own") for key in ("torch's", "own")}
        for step, _ in steps.values():
            torch.manual_seed(1)  # of stochastic depth
            step()
        theirs, ours = (gradients(network) for _, network in steps.values())
        apart = float((ours - theirs).abs().max() / theirs.abs().max())
        took = in_turns({key: step for key, (step, _) in steps.items()}, options.repeats, torch.device("cpu"))
        ratio = took["torch's"]["median"] / took["own"]["median"]
        least = took["torch's"]["least"] / took["own"]["least"]
        medians = ", ".join(f"{key} {values['median']:.3f} s" for key, values in took.items())
        print(f"{name}: {medians}; ratio of medians {ratio:.2f}, of shortest {least:.2f}; gradients differ {apart:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
