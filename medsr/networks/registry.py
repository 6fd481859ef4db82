"""The registry of networks: classes by the names of their papers, published configurations by the names of presets."""

from importlib import import_module
from typing import Any

from torch import nn

from medsr.errors import MedsrError
from medsr.networks.interpolation_skip import InterpolationSkip
from medsr.networks.methods import METHODS
from medsr.networks.preset import Preset

PRESETS: dict[str, Preset] = {
    name: preset for method in METHODS for name, preset in import_module(f"medsr.networks.{method}").PRESETS.items()
}
NETWORKS: dict[str, type[nn.Module]] = {preset.network.__name__: preset.network for preset in PRESETS.values()}


def create(name: str, *, interpolation_skip: bool = False, **arguments: Any) -> nn.Module:
    """Build a network.

    Args:
        name: The name of a preset ("recnn-10l") or of a class ("ReCNN").
        interpolation_skip: Whether the interpolated image is added to the output of a network of one fixed scale, see
            `medsr.networks.InterpolationSkip`.
        **arguments: Arguments that replace those of the preset or the defaults of the class.

    Raises:
        MedsrError: If the name is unknown, or the network takes no interpolation skip.

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
        network = preset.network(**{**preset.arguments, **arguments})
    elif name in NETWORKS:
        network = NETWORKS[name](**arguments)
    else:
        raise MedsrError(f"no network is called {name!r}; known: {', '.join([*NETWORKS, *PRESETS])}")
    return InterpolationSkip(network) if interpolation_skip else network


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
