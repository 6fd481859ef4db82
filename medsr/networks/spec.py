"""The facts that callers need about a network, so that they never depend on its class name."""

from dataclasses import dataclass
from enum import Enum
from typing import Optional


class Family(str, Enum):
    """The relation between a network's input and output. The first three are generators, which make the SR image."""

    FIXED = "fixed"  # an integer scale is built in
    ARBITRARY = "arbitrary"  # features on the LR grid, then upsampling to any query of output voxels
    RESTORE = "restore"  # works on the image interpolated to the HR grid; input and output sizes agree
    SEGMENTATION = "segmentation"  # class logits on the grid of the input
    DISCRIMINATOR = "discriminator"  # one score per image, (B, 1)
    DETECTOR = "detector"  # the coordinates of one point per image, (B, spatial_dims)

    @property
    def generates(self) -> bool:
        """Whether the output is an SR image."""
        return self in (Family.FIXED, Family.ARBITRARY, Family.RESTORE)


@dataclass(frozen=True)
class NetworkSpec:
    """Facts about a network that callers rely on.

    Attributes:
        family: The family, see `Family`.
        spatial_dims: The number of spatial axes, 2 or 3.
        in_channels: The number of input channels, including guidance images.
        out_channels: The number of output channels; those of a generator correspond to the first input channels. For a
            discriminator or a detector it is the number of values per image.
        paper: The source of the definition (authors, year, section).
        scales: The integer scale of each axis by which a fixed network enlarges; None if the network takes any scale.
        largest_scale: The largest scale that an arbitrary network takes along an axis; the smallest is 1.
        other_scales: Further scales that a fixed network was built for; `forward` chooses by its argument `scale`.
        size_multiple: The number at whose multiples the tiles of the input must start and end (attention windows).
        halo: The number of input voxels on either side that influence an output voxel; None if the whole image does.
            With a `size_multiple` it is the halo of a tile that starts and ends at its multiples.
        input_sizes: The smallest and the largest side of the input, if the network does not take every size.
        interpolation: The kernel of `medsr.interpolation` that makes the input of a restore network.
        bytes_per_voxel: The peak memory of a float32 forward pass per input voxel, without the output, to plan tiles.
        deviations: The deliberate differences from the paper; empty if there are none.
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
