"""A published configuration of a network and the numbers that prove it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from torch import nn


@dataclass(frozen=True)
class Preset:
    """A published configuration of a network.

    Counts follow `medsr.networks.complexity`. Multiply-adds are in G for one LR image of 40x32 pixels.

    Attributes:
        network: class.
        arguments: constructor arguments that differ from its defaults.
        parameters: trainable parameters of the published program, to the last digit.
        left_out: how many of them this implementation knowingly does not have or does not train; `remark` says
            why.
        leaf_parameters: the count of the `thop` tool, where a publication used it.
        multiply_adds: by convention: "conv", "thop", "all".
        multiply_adds_per_voxel: of the convolutions per output voxel, for volumetric networks.
        published: the figures as printed, and where.
        remark: why a figure differs from the printed one; empty if none does.
        also: further argument sets, with their parameters.
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
