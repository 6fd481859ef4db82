"""The grid rule: the only place that computes the size, the spacing and the origin of an image.

The edges of two grids coincide, not the centres of their voxels, and the requested scale is honoured exactly. For an
axis of ``n`` input voxels and scale ``s``, the output has ``m = round(n * s)`` voxels of spacing ``d / s``, and in
index space

    u_in = (u_out + 1/2) / s - 1/2

so the first edge is kept exactly, and the last edge whenever ``n * s`` is an integer. Scales are exact fractions,
because float arithmetic puts voxels in the wrong place at scales such as 2.3 or 2.7.

Affines are 4x4 float64 voxel-to-world matrices (RAS, mm, as in nibabel and MONAI). Scales and spacings are
given per array axis.
"""

from medsr.geometry.affines import (
    PARALLEL_TOLERANCE,
    relative_sampling,
    reoriented_affine,
    sampled_affine,
    scaled_affine,
    shifted_affine,
)
from medsr.geometry.axes import (
    Affine,
    SlicePlaces,
    affine_of_axes,
    anatomical_axis,
    axis_codes,
    centred_affine,
    check_affine,
    check_spacing,
    directions_of,
    in_millimetres,
    largest_corner_distance,
    origin_of,
    orthogonal_affine,
    ras_lps,
    slice_normal,
    spacing_of,
    world_axes,
)
from medsr.geometry.grids import (
    Grid,
)
from medsr.geometry.sampling import (
    ALIGNMENTS,
    divisible_shape,
    input_range,
    output_range,
    output_shape,
    sampling_of,
    source_positions,
    source_voxels,
)
from medsr.geometry.scales import (
    FIELD_OF_VIEW_TOLERANCE,
    Scale,
    ScaleLike,
    as_scale,
    check_enlarging,
    exact_scale,
    format_scale,
    lattice_step,
    scale_for_spacing,
    scale_from_text,
    scale_text,
    simplest_fraction,
)

__all__ = [
    "ALIGNMENTS",
    "FIELD_OF_VIEW_TOLERANCE",
    "PARALLEL_TOLERANCE",
    "Affine",
    "Grid",
    "Scale",
    "ScaleLike",
    "SlicePlaces",
    "affine_of_axes",
    "anatomical_axis",
    "as_scale",
    "axis_codes",
    "centred_affine",
    "check_affine",
    "check_enlarging",
    "check_spacing",
    "directions_of",
    "divisible_shape",
    "exact_scale",
    "format_scale",
    "in_millimetres",
    "input_range",
    "largest_corner_distance",
    "lattice_step",
    "origin_of",
    "orthogonal_affine",
    "output_range",
    "output_shape",
    "ras_lps",
    "relative_sampling",
    "reoriented_affine",
    "sampled_affine",
    "sampling_of",
    "scale_for_spacing",
    "scale_from_text",
    "scale_text",
    "scaled_affine",
    "shifted_affine",
    "simplest_fraction",
    "slice_normal",
    "source_positions",
    "source_voxels",
    "spacing_of",
    "world_axes",
]
