"""All networks behind one door: a class by its paper's name, a published configuration by its preset's name."""

from importlib import import_module
from typing import Any

from torch import nn

from medsr.errors import MedsrError
from medsr.networks.methods import METHODS
from medsr.networks.preset import Preset

PRESETS: dict[str, Preset] = {
    name: preset for method in METHODS for name, preset in import_module(f"medsr.networks.{method}").PRESETS.items()
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


def small(name: str, **arguments: Any) -> nn.Module:
    """A preset with few features and layers, all its other choices kept: for smoke runs, trials and tests.

    Args:
        name: a preset or a class.
        arguments: override those.
    """
    network = PRESETS[name].network if name in PRESETS else NETWORKS.get(name)
    return create(name, **{**getattr(network, "SMALL", {}), **arguments})
