"""What callers must know about a network, so that they never ask for a class name."""

from dataclasses import dataclass
from enum import Enum
from typing import Optional


class Family(str, Enum):
    """How a network's input and output relate. The first three are generators: they make the SR image."""

    FIXED = "fixed"  # an integer scale is built in
    ARBITRARY = "arbitrary"  # features on the LR grid, then upsampling to any query of output voxels
    RESTORE = "restore"  # works on the image interpolated to the HR grid; input and output sizes agree
    SEGMENTATION = "segmentation"  # class logits on the grid of the input
    DISCRIMINATOR = "discriminator"  # one score per image, (B, 1)
    DETECTOR = "detector"  # coordinates of a point per image, (B, spatial_dims)

    @property
    def generates(self) -> bool:
        """Whether the output is an SR image."""
        return self in (Family.FIXED, Family.ARBITRARY, Family.RESTORE)


@dataclass(frozen=True)
class NetworkSpec:
    """Facts about a network that callers rely on.

    Attributes:
        family: see `Family`.
        spatial_dims: The number of spatial axes, 2 or 3.
        in_channels: channels of the input, guidance images included.
        out_channels: channels of the output; a generator's correspond to the first input channels. Of a
            discriminator and a detector: numbers per image.
        paper: source of the definition (authors, year, section).
        scales: integer scales that a fixed network enlarges by, per axis; None where any scale is taken.
        largest_scale: that an arbitrary network takes along an axis; the smallest is 1.
        other_scales: further scales that a fixed network was built for; `forward` chooses by its `scale`.
        size_multiple: tiles of the input must start and end at multiples of this (attention windows).
        halo: input voxels of context on either side that influence an output voxel; None if it is the whole
            image. With a `size_multiple`, of a tile that starts and ends at its multiples.
        input_sizes: smallest and largest side of the input where not every size is taken.
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
    largest_scale: Optional[float] = None
    other_scales: tuple[tuple[int, ...], ...] = ()
    size_multiple: int = 1
    halo: Optional[int] = None
    input_sizes: Optional[tuple[int, int]] = None
    interpolation: Optional[str] = None
    bytes_per_voxel: int = 0
    deviations: str = ""
