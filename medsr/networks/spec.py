"""What an inferer must know about a network, so that it never asks for a class name."""

from dataclasses import dataclass
from enum import Enum
from typing import Optional


class Family(str, Enum):
    """How a network relates LR input and SR output (DESIGN of the package: three families)."""

    FIXED = "fixed"  # an integer scale is built in
    ARBITRARY = "arbitrary"  # features on the LR grid, then upsampling to any query of output voxels
    RESTORE = "restore"  # works on the image interpolated to the HR grid; input and output sizes agree


@dataclass(frozen=True)
class NetworkSpec:
    """Facts about a network that callers rely on.

    Attributes:
        family: see `Family`.
        spatial_dims: 2 or 3.
        in_channels: channels of the input, guidance images included.
        out_channels: channels of the output; they correspond to the first input channels.
        paper: source of the definition (authors, year, section).
        scales: integer scales that a fixed network was built for, per axis; None where any scale is taken.
        size_multiple: tiles of the input must start and end at multiples of this (attention windows).
        halo: input voxels of context on either side that influence an output voxel; None if it is the whole
            image.
        interpolation: kernel of `medsr.interpolation` with which a restore network's input is made.
        bytes_per_voxel: peak memory of a float32 forward pass per input voxel, without the output, to plan
            tiles.
        deviations: where the implementation knowingly differs from the paper; empty if nowhere.
    """

    family: Family
    spatial_dims: int
    in_channels: int
    out_channels: int
    paper: str
    scales: Optional[tuple[int, ...]] = None
    size_multiple: int = 1
    halo: Optional[int] = None
    interpolation: Optional[str] = None
    bytes_per_voxel: int = 0
    deviations: str = ""
