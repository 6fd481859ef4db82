"""Fair timing: the runs that are compared take turns, and the median counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from torch import nn


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished; a CPU needs no waiting."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turns(runs: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Return the median and the spread (s) of each run; all run once unmeasured, then in turns, `repeats` times.

    Other load on the machine therefore slows down all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            synchronize(device)
            started = time.perf_counter()
            run()
            synchronize(device)
            if repeat > 0:
                seconds[name].append(time.perf_counter() - started)
    return {
        name: {"median": median(values), "least": min(values), "most": max(values)} for name, values in seconds.items()
    }


def multiply_adds(network: nn.Module) -> int:
    """Return the multiply-adds of the convolutions per voxel, without biases, for networks that keep the size."""
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    return sum(layer.weight.numel() for layer in layers)


class VoxelCount:
    """A context manager that counts the voxels that a network is run on."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.voxels = 0

    def __enter__(self) -> VoxelCount:
        self._hook = self.network.register_forward_pre_hook(self._count)
        return self

    def __exit__(self, *exception: object) -> None:
        self._hook.remove()

    def _count(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.voxels += inputs[0][:, 0].numel()
