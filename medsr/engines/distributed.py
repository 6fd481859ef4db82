"""Training by several processes, started by torchrun, on several GPUs or on CPUs.

The processes communicate through `ignite.distributed`. Its `auto_model` is not used, because it would choose
DataParallel where one process sees several GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import ignite.distributed as idist
import torch
from torch import nn

from medsr.errors import InputError


def start_processes() -> None:
    """Join the other processes by NCCL where there is CUDA, else by gloo; call it first in `initialize`.

    Raises:
        InputError: If the program was not started by torchrun.
    """
    if idist.backend() is None:
        idist.initialize("nccl" if local_device().type == "cuda" else "gloo")


def stop_processes() -> None:
    """Leave the group of processes; call it in `finalize`, because a process that ends inside the group may abort."""
    idist.finalize()


def local_device() -> torch.device:
    """Return the GPU of this process, or the CPU.

    Raises:
        InputError: If the program was not started by torchrun, or there are fewer GPUs than processes.
    """
    local = os.environ.get("LOCAL_RANK")
    if local is None:
        raise InputError("training by several processes needs LOCAL_RANK, which is not set; start it by torchrun")
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if int(local) >= torch.cuda.device_count():
        raise InputError(
            f"process {local} has no GPU of its own: there are {torch.cuda.device_count()}; "
            "lower --nproc_per_node, or set CUDA_VISIBLE_DEVICES to nothing to train on the CPU"
        )
    return torch.device("cuda", int(local))


def parallel(network: nn.Module, device: torch.device) -> nn.Module:
    """Return the network on the device, wrapped so that its gradients are averaged over the processes."""
    ids = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network.to(device), device_ids=ids)


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network itself if `parallel` (or MONAI) has wrapped it."""
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    return network.module if isinstance(network, wrappers) else network


def share_state(network: nn.Module) -> None:
    """Give every process rank 0's parameters and buffers."""
    for value in unwrapped(network).state_dict().values():
        value.copy_(idist.broadcast(value, src=0))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over the processes; a gradient that a process lacks counts as zero.

    It replaces DistributedDataParallel for steps that the latter does not support: several forward passes before one
    backward pass, gradients of gradients, and skipped steps.
    """
    if idist.backend() is None:
        return
    trained = [p for p in parameters if p.requires_grad]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained])
    flat = torch.as_tensor(idist.all_reduce(flat)) / idist.get_world_size()
    for p, part in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
        p.grad = part.view_as(p).clone()


def any_process(flag: bool) -> bool:
    """Return whether the flag is true in any process."""
    return bool(idist.all_reduce(float(flag), op="MAX"))
