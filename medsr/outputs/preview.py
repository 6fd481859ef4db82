"""A picture to check a result by: the same slices of every image, one grey scale."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medsr.data.atomic import atomic_path
from medsr.errors import MedsrError
from medsr.geometry import Grid

_PLANES = ("sagittal", "coronal", "axial")  # by the RAS axis they are perpendicular to
_DISCLAIMER = "Research use only. Super-resolved detail is inferred, not measured."


def canonical_slices(image: NDArray[np.float32], grid: Grid, centre: NDArray[np.float64]) -> list[NDArray[np.float32]]:
    """The three slices (axial, coronal, sagittal) nearest a world point (mm), as pictures: anterior or superior up,
    the patient's right on the viewer's left."""
    orientation = nib.orientations.io_orientation(grid.affine)
    array = nib.orientations.apply_orientation(image, orientation)
    affine = grid.affine @ nib.orientations.inv_ornt_aff(orientation, image.shape)
    index = np.linalg.solve(affine, np.append(centre, 1.0))[:3].round().astype(int)
    index = index.clip(0, np.array(array.shape) - 1)
    return [np.take(array, index[axis], axis=axis).T[::-1, ::-1 if axis != 0 else 1] for axis in (2, 1, 0)]


def draw_preview(
    path: str | Path,
    panels: Mapping[str, tuple[NDArray[np.float32], Grid]],
    error: tuple[NDArray[np.float32], Grid] | None = None,
    title: str = "",
) -> None:
    """Write a PNG: a column per image, rows axial, coronal, sagittal through the first image's centre.

    Args:
        path: where the picture goes; it appears complete or not at all.
        panels: title -> (image (X, Y, Z), its grid); all share one grey scale, that of the last panel.
        error: an image of absolute errors, drawn on its own scale with a colour bar.
        title: of the whole picture.

    Raises:
        MedsrError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MedsrError("previews need matplotlib: pip install 'medsr[plot]'") from None
    first = next(iter(panels.values()))[1]
    centre = first.edges().reshape(-1, 3).mean(axis=0)
    low, high = (float(v) for v in np.percentile(list(panels.values())[-1][0], [0.5, 99.8]))
    columns = len(panels) + (error is not None)
    figure = Figure(figsize=(2.9 * columns, 9.2), dpi=110, facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, columns, squeeze=False)
    drawn = list(panels.items()) + ([("|SR - HR|", error)] if error is not None else [])
    for column, (name, (image, grid)) in enumerate(drawn):
        is_error = error is not None and column == columns - 1
        limit = max(float(np.percentile(image, 99.8)), 1e-12) if is_error else 0.0
        spacing = np.array(grid.spacing)[_array_axes(grid)]
        for row, picture in enumerate(canonical_slices(image, grid, centre)):
            plane_axes = [(1, 0), (2, 0), (2, 1)][row]  # (vertical, horizontal) RAS axes
            axis = axes[row][column]
            shown = axis.imshow(
                picture,
                cmap="magma" if is_error else "gray",
                vmin=0.0 if is_error else low,
                vmax=limit if is_error else high,
                aspect=spacing[plane_axes[0]] / spacing[plane_axes[1]],
                interpolation="nearest",
            )
            axis.set_axis_off()
            if row == 0:
                size = "x".join(str(n) for n in grid.shape)
                step = "x".join(f"{v:.3g}" for v in grid.spacing)
                axis.set_title(f"{name}\n{size}  {step} mm", color="white", fontsize=9)
            if is_error and row == 2:
                bar = figure.colorbar(shown, ax=axes[:, column].tolist(), fraction=0.03, pad=0.01)
                bar.ax.tick_params(colors="white", labelsize=7)
    if title:
        figure.suptitle(title, color="white", fontsize=11)
    figure.text(0.5, 0.005, _DISCLAIMER, color="0.7", fontsize=7, ha="center")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", facecolor="black", bbox_inches="tight")


def _array_axes(grid: Grid) -> list[int]:
    """Array axis of each RAS axis."""
    world = nib.orientations.io_orientation(grid.affine)[:, 0].astype(int)
    return [int(np.flatnonzero(world == axis)[0]) for axis in range(3)]
