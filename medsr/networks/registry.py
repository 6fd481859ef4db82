"""All networks behind one door: a class by its paper's name, a published configuration by its preset's name."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from medsr.errors import MedsrError
from medsr.networks.recnn import ReCNN
from medsr.networks.srcnn3d import SRCNN3D


@dataclass(frozen=True)
class Preset:
    """A published configuration of a network.

    Attributes:
        network: class.
        arguments: constructor arguments that differ from its defaults.
        parameters: trainable parameters of the published network, to the last digit.
        multiply_adds: of the convolutions per output voxel, biases excluded; None where not stated.
    """

    network: type[nn.Module]
    arguments: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    multiply_adds: int | None = None


PRESETS: dict[str, Preset] = {
    "recnn-3l": Preset(ReCNN, {"depth": 3}, 114_177, 114_048),
    "recnn-7l": Preset(ReCNN, {"depth": 7}, 556_801, 556_416),
    "recnn-10l": Preset(ReCNN, {"depth": 10}, 888_769, 888_192),
    "recnn-10l-guided": Preset(ReCNN, {"depth": 10, "in_channels": 2}, 890_497),
    "recnn-10l-guided2": Preset(ReCNN, {"depth": 10, "in_channels": 3}, 892_225),
    "recnn-10l-5x5x5": Preset(ReCNN, {"depth": 10, "kernel_size": 5}, 4_112_577),
    "recnn-12l": Preset(ReCNN, {"depth": 12}, 1_110_081, 1_109_376),
    "recnn-20l": Preset(ReCNN, {"depth": 20}, 1_995_329, 1_994_112),
    "recnn-20l-guided": Preset(ReCNN, {"depth": 20, "in_channels": 2}, 1_997_057),
    "srcnn3d": Preset(SRCNN3D, {}, 52_801, 52_704),
}

NETWORKS: dict[str, type[nn.Module]] = {preset.network.__name__: preset.network for preset in PRESETS.values()}


def create(name: str, **arguments: Any) -> nn.Module:
    """Build a network.

    Args:
        name: a preset ("recnn-10l") or a class ("ReCNN").
        arguments: override the preset's or the constructor's.

    Raises:
        MedsrError: unknown name.
    """
    if name in PRESETS:
        preset = PRESETS[name]
        return preset.network(**{**preset.arguments, **arguments})
    if name in NETWORKS:
        return NETWORKS[name](**arguments)
    raise MedsrError(f"no network is called {name!r}; known: {', '.join([*NETWORKS, *PRESETS])}")
