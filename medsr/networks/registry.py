"""The registry of networks: classes by the names of their papers, published configurations by the names of presets."""

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
        name: The name of a preset ("recnn-10l") or of a class ("ReCNN").
        **arguments: Arguments that replace those of the preset or the defaults of the class.

    Raises:
        MedsrError: If the name is unknown.

    Examples:
        >>> import torch
        >>> from medsr.networks import create
        >>> network = create("edsr-baseline", scale=2, blocks=4)
        >>> network.spec.family.value, network.spec.scales, network.spec.halo
        ('fixed', (2, 2), 12)
        >>> network(torch.rand(1, 1, 20, 16)).shape
        torch.Size([1, 1, 40, 32])
    """
    if name in PRESETS:
        preset = PRESETS[name]
        return preset.network(**{**preset.arguments, **arguments})
    if name in NETWORKS:
        return NETWORKS[name](**arguments)
    raise MedsrError(f"no network is called {name!r}; known: {', '.join([*NETWORKS, *PRESETS])}")


def small(name: str, **arguments: Any) -> nn.Module:
    """Build a preset with few features and layers and all its other choices, for smoke runs, trials and tests.

    Args:
        name: The name of a preset or of a class.
        **arguments: Arguments that replace those of the small configuration.

    Raises:
        MedsrError: If the name is unknown.
    """
    network = PRESETS[name].network if name in PRESETS else NETWORKS.get(name)
    return create(name, **{**getattr(network, "SMALL", {}), **arguments})
