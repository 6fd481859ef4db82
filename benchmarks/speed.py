"""A comparison of the inferer with the bare forward pass, MONAI's sliding window, and one convolution."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from benchmarks.measure import VoxelCount, in_turns, multiply_adds
from medsr.geometry import as_scale
from medsr.inferers import ForwardInferer, SuperResolutionInferer
from medsr.interpolation import resize
from medsr.networks import create

SCALE = 2


def tiling(features: int, size: int, repeats: int, device: torch.device, channels_last: bool) -> list[dict[str, Any]]:
    """Time the same `size`^3 voxels by the bare network, the inferer (whole and tiled) and MONAI's windows."""
    network = create("recnn-10l", features=features).eval().to(device)
    layout = {"memory_format": torch.channels_last_3d} if channels_last else {}
    network.to(**layout)
    lr = torch.rand(1, 1, *[size // SCALE] * 3)
    interpolated = resize(lr, as_scale(SCALE, 3)).to(device)
    enough, cube = (
        2 * network.spec.bytes_per_voxel * voxels // 2**20 + 1
        for voxels in (size**3, (size // 2 + network.spec.halo) ** 3 // 2)  # eight tiles at most
    )
    options: dict[str, Any] = {"channels_last": channels_last, "output_device": device}
    whole = SuperResolutionInferer(SCALE, memory_mb=enough, **options)
    tiled = SuperResolutionInferer(SCALE, memory_mb=cube, **options)
    roi = max(32, min(64, size // 2))
    windows = SlidingWindowInferer([roi] * 3, overlap=0.25, mode="gaussian")

    def bare() -> torch.Tensor:
        with torch.no_grad():
            return network(interpolated)

    def by_windows() -> torch.Tensor:
        with torch.no_grad():
            return windows(interpolated, network)

    runs = {
        "bare forward pass": bare,
        "inferer, image fits": lambda: whole(lr, network),
        "inferer, tiled": lambda: tiled(lr, network),
        f"MONAI SlidingWindowInferer, roi {roi}, overlap 0.25": by_windows,
    }
    seconds = in_turns(runs, repeats, device)
    expected, rows = bare(), []
    for name, run in runs.items():
        with VoxelCount(network) as count:
            error = (run().to(device) - expected).abs().max().item()
        time = seconds[name]["median"]
        rows.append(
            {
                "network": f"10L-ReCNN, {features} features",
                "how": name,
                "seconds": time,
                "output voxels/s": size**3 / time,
                "time / bare": time / seconds["bare forward pass"]["median"],
                "voxels / bare": count.voxels / size**3,
                "max error": error,
                "spread": seconds[name]["most"] / seconds[name]["least"],
            }
        )
    return rows


def arithmetic(features: int, size: int, repeats: int, device: torch.device, precision: str) -> list[dict[str, Any]]:
    """Return the GFLOP/s of the network and of a single 64-channel convolution, in both memory layouts."""
    dtype = getattr(torch, precision)
    forward = ForwardInferer(precision)
    runs, work = {}, {}
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        kind = "channels last" if layout is torch.channels_last_3d else "contiguous"
        single = nn.Conv3d(64, 64, 3, padding=1).to(device, dtype).to(memory_format=layout)
        network = create("recnn-10l", features=features).eval().to(device).to(memory_format=layout)
        many = torch.rand(1, 64, *[size] * 3, device=device, dtype=dtype).contiguous(memory_format=layout)
        one = torch.rand(1, 1, *[size] * 3, device=device)
        runs[f"one 64-channel convolution, {kind}"] = lambda single=single, many=many: single(many)
        runs[f"10L-ReCNN, {features} features, {kind}"] = lambda network=network, one=one: forward(one, network)
        work[f"one 64-channel convolution, {kind}"] = multiply_adds(single)
        work[f"10L-ReCNN, {features} features, {kind}"] = multiply_adds(network)
    with torch.no_grad():
        seconds = in_turns(runs, repeats, device)
    rates = {name: 2e-9 * work[name] * size**3 / seconds[name]["median"] for name in runs}
    ceiling = max(rate for name, rate in rates.items() if name.startswith("one"))
    return [
        {
            "precision": precision,
            "what": name,
            "seconds": seconds[name]["median"],
            "GFLOP/s": rates[name],
            "of one convolution": rates[name] / ceiling,
        }
        for name in runs
    ]
