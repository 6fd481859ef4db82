"""Published configurations of networks, with the counts that verify them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from torch import nn


@dataclass(frozen=True)
class Preset:
    """A published configuration of a network.

    The counts follow `medsr.networks.complexity`. Multiply-adds are in G for one LR image of 40x32 pixels.

    Attributes:
        network: The class of the network.
        arguments: The arguments of the constructor that differ from its defaults.
        parameters: The exact number of trainable parameters of the published program.
        left_out: The number of those parameters that this implementation deliberately does not have or does not train;
            `remark` says why.
        leaf_parameters: The count of the `thop` tool, if a publication used it.
        multiply_adds: The multiply-adds by convention: "conv", "thop", "all".
        multiply_adds_per_voxel: The multiply-adds of the convolutions per output voxel, for volumetric networks.
        published: The figures as printed, and their source.
        remark: The reason why a figure differs from the printed one; empty if none does.
        also: Further sets of arguments, with their numbers of parameters.
    """

    network: type[nn.Module]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    parameters: int = 0
    left_out: int = 0
    leaf_parameters: Optional[int] = None
    multiply_adds: Mapping[str, float] = field(default_factory=dict)
    multiply_adds_per_voxel: Optional[int] = None
    published: str = ""
    remark: str = ""
    also: tuple[tuple[Mapping[str, Any], int], ...] = ()
