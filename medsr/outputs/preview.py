"""Draw a preview of a result: the same slices of every image, in one grey scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsr.errors import MedsrError
from medsr.files.atomic import atomic_path
from medsr.geometry import Grid, world_axes

Image = NDArray[np.float32]
Slicer = Callable[[int, int], Image]  # (array axis, index) -> the slice, its axes in the array's order

_DISCLAIMER = "Research use only. Super-resolved detail is inferred, not measured."
_LETTERS = ("RL", "RL", "PA")  # the directions at the left and the right edge of each row
_LARGEST = 2.7  # inches, the longer side of the largest picture
_NARROWEST = 1.9  # inches, the room for a column's title
_GAP, _HEAD, _SUPTITLE, _FOOT, _BAR = 0.07, 0.4, 0.3, 0.24, 0.6  # inches
_DPI = 150


@dataclass(frozen=True)
class _Column:
    """The pictures of one image, with their sizes (width, height) in mm."""

    title: str
    pictures: list[Image]
    sizes: list[tuple[float, float]]
    is_error: bool = False


def canonical_slices(image: Image | Slicer, grid: Grid, centre: NDArray[np.float64]) -> list[Image]:
    """Return the axial, coronal and sagittal slice nearest to a world point, as pictures with row 0 on top.

    Superior (in axial slices anterior) is up. The patient's right is on the viewer's left; in sagittal slices anterior
    is on the right. An oblique image is shown along its own axes, each under the name of the nearest patient axis.

    Args:
        image: The image (X, Y, Z), or a function that makes a slice of it.
        grid: The grid of the image.
        centre: The point in world coordinates (mm).
    """
    to_world, direction = world_axes(grid.affine)
    index = grid.nearest_index(centre)
    pictures = []
    for across, flip_columns in ((2, True), (1, True), (0, False)):
        axis = int(np.flatnonzero(to_world == across)[0])
        picture = image(axis, int(index[axis])) if callable(image) else np.take(image, index[axis], axis=axis)
        rest = [a for a in range(3) if a != axis]
        if to_world[rest[0]] < to_world[rest[1]]:  # rows go along the higher world axis
            picture, rest = picture.T, rest[::-1]
        rows, columns = (int(direction[a]) for a in rest)
        pictures.append(picture[::-rows, :: -columns if flip_columns else columns])
    return pictures


def draw_preview(
    path: str | Path,
    panels: Mapping[str, tuple[Image | Slicer, Grid]],
    error: tuple[Image | Slicer, Grid] | None = None,
    title: str = "",
) -> None:
    """Write a PNG file with the axial, coronal and sagittal slice through the centre of the first image.

    Every image has a column. All slices have the same scale in mm, whatever the size of the voxels.

    Args:
        path: The file, which appears complete or not at all.
        panels: A mapping from the title of a column to an image (X, Y, Z), or a function that makes its slices, and its
            grid. All columns have the same grey scale, that of the slices of the last one.
        error: An image of absolute errors and its grid, drawn with its own colour scale and a colour bar.
        title: The title of the whole picture.

    Raises:
        MedsrError: If matplotlib is not installed.
        OutputError: If the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MedsrError("previews need matplotlib, which is not installed; run: pip install 'medsr[plot]'") from None
    centre = next(iter(panels.values()))[1].edges().reshape(-1, 3).mean(axis=0)
    columns = [_column(name, image, grid, centre) for name, (image, grid) in panels.items()]
    low, high = np.percentile(np.concatenate([p.ravel() for p in columns[-1].pictures]), [0.5, 99.8])
    if error is not None:
        columns.append(_column("|SR - HR|", *error, centre, is_error=True))
    figure = Figure(dpi=_DPI, facecolor="black")
    FigureCanvasAgg(figure)
    _lay_out(figure, columns, title, (float(low), float(high)))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", facecolor="black")


def _column(
    name: str, image: Image | Slicer, grid: Grid, centre: NDArray[np.float64], is_error: bool = False
) -> _Column:
    to_world, _ = world_axes(grid.affine)
    extent = np.empty(3)
    extent[to_world] = np.array(grid.shape) * grid.spacing
    voxels = "x".join(str(n) for n in grid.shape)
    spacing = "x".join(f"{v:.3g}" for v in grid.spacing)
    sizes = [(extent[0], extent[1]), (extent[0], extent[2]), (extent[1], extent[2])]
    return _Column(f"{name}\n{voxels}, {spacing} mm", canonical_slices(image, grid, centre), sizes, is_error)


def _lay_out(figure: Any, columns: Sequence[_Column], title: str, window: tuple[float, float]) -> None:
    """Place every picture by its size in mm, from top to bottom, centred in its column."""
    sizes = np.array([column.sizes for column in columns])  # (columns, rows, 2)
    inch = _LARGEST / sizes.max()  # per mm
    width = max(_NARROWEST, sizes[..., 0].max() * inch)
    heights = sizes[..., 1].max(axis=0) * inch
    head = _HEAD + (_SUPTITLE if title else 0.0)
    has_bar = any(column.is_error for column in columns)
    total = len(columns) * (width + _GAP) + _GAP + (_BAR if has_bar else 0.0)
    tall = head + heights.sum() + _GAP * len(heights) + _FOOT
    figure.set_size_inches(total, tall)

    def place(left: float, top: float, wide: float, high: float) -> Any:
        return figure.add_axes((left / total, 1 - (top + high) / tall, wide / total, high / tall))

    for k, column in enumerate(columns):
        left = _GAP + k * (width + _GAP)
        limit = max(float(np.percentile(np.concatenate([p.ravel() for p in column.pictures]), 99.8)), 1e-12)
        low, high = (0.0, limit) if column.is_error else window
        top = head
        for row, (picture, (wide, tall_mm)) in enumerate(zip(column.pictures, column.sizes, strict=True)):
            size = wide * inch, tall_mm * inch
            axes = place(left + (width - size[0]) / 2, top + (heights[row] - size[1]) / 2, *size)
            shown = axes.imshow(
                picture,
                cmap="magma" if column.is_error else "gray",
                vmin=low,
                vmax=high,
                aspect="auto",
                # "nearest" keeps voxels visible as squares, but would skip some if the picture has fewer pixels
                interpolation="nearest" if picture.shape[1] <= size[0] * _DPI else "antialiased",
            )
            axes.set_axis_off()
            if k == 0:
                _mark(axes, _LETTERS[row])
            top += heights[row] + _GAP
        name, details = column.title.split("\n")
        middle = (left + width / 2) / total
        figure.text(middle, 1 - (head - 0.22) / tall, name, color="white", fontsize=9, ha="center", va="bottom")
        figure.text(middle, 1 - (head - 0.07) / tall, details, color="0.75", fontsize=6.5, ha="center", va="bottom")
        if column.is_error:
            bar = figure.colorbar(shown, cax=place(left + width + _GAP, head, 0.09, top - head - _GAP))
            bar.ax.tick_params(colors="white", labelsize=6.5, length=2)
            bar.outline.set_visible(False)
    if title:
        figure.text(0.5, 1 - 0.25 / tall, title, color="white", fontsize=11, ha="center", va="bottom")
    figure.text(0.5, 0.07 / tall, _DISCLAIMER, color="0.7", fontsize=6.5, ha="center", va="bottom")


def _mark(axes: Any, letters: str) -> None:
    """Write the patient's directions at the left and the right edge."""
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=1.5, foreground="black")]
    for x, letter, side in ((0.02, letters[0], "left"), (0.98, letters[1], "right")):
        axes.text(
            *(x, 0.5, letter),
            color="white",
            fontsize=6.5,
            ha=side,
            va="center",
            transform=axes.transAxes,
            path_effects=outline,
        )
