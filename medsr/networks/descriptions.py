"""The facts by which people choose a network: its family, scales, halo and cost, and its published figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from medsr.errors import InputError
from medsr.networks.complexity import count_parameters, multiply_adds
from medsr.networks.registry import PRESETS, create
from medsr.networks.spec import Family, NetworkSpec


def choose(names: Sequence[str]) -> list[str]:
    """Return the presets with the given names or classes; all presets if no name is given.

    Raises:
        InputError: If there is neither a preset nor a class of that name.
    """
    for name in names:
        if name not in PRESETS and all(preset.network.__name__ != name for preset in PRESETS.values()):
            raise InputError(f"no network is called {name!r}; `medsr networks` lists them all")
    return [n for n, preset in PRESETS.items() if not names or n in names or preset.network.__name__ in names]


def describe(name: str) -> dict[str, Any]:
    """Return the facts about a preset as a row of the table, with unrounded values."""
    preset = PRESETS[name]
    with torch.device("meta"):
        network = create(name)
    spec: NetworkSpec = network.spec  # type: ignore[assignment]
    size = reference_size(spec)
    scales = [spec.scales, *spec.other_scales] if spec.scales else []
    return {
        "name": name,
        "class": type(network).__name__,
        "paper": spec.paper,
        "family": spec.family.value,
        "scale": ", ".join(str(s[0]) for s in sorted(scales)) if scales else "any" if spec.family.generates else "-",
        "halo": "whole image" if spec.halo is None else spec.halo,
        "channels": spec.in_channels,
        "parameters": count_parameters(network),
        "input": "x".join(map(str, size)),
        "conv": multiply_adds(network, size, "conv") / 1e9,
        "all": multiply_adds(network, size, "all") / 1e9,
        "published": preset.published,
        "remark": preset.remark or spec.deviations,
    }


def reference_size(spec: NetworkSpec) -> tuple[int, ...]:
    """Return the input size for which multiply-adds are stated: LR 40x32 (Zhu 2022), 160x128 at HR size, 48^3 in 3D."""
    if spec.spatial_dims == 3:
        return (48, 48, 48)
    if spec.family is Family.DISCRIMINATOR:
        smallest, largest = spec.input_sizes or (96, 96)
        return (min(max(96, smallest), largest),) * 2
    return (40, 32) if spec.family in (Family.FIXED, Family.ARBITRARY) else (160, 128)
