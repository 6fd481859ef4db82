"""The preview: every orientation shows the patient the same way, in millimetres, without wasted space."""

from __future__ import annotations

import sys
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from medsr.errors import MedsrError, OutputError
from medsr.geometry import Grid
from medsr.outputs.preview import canonical_slices, draw_preview

WORLD = (5, 6, 7)  # voxels along right, anterior, superior
CENTRE = (2, 3, 3)
PLANES = ("axial", "coronal", "sagittal")


def stored(world: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[np.ndarray, Grid]:
    """A RAS volume of 1 mm voxels with its axes permuted (array axis k holds world axis order[k]) and flipped."""
    array = world.transpose(order)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for k, axis in enumerate(order):
        affine[axis, k] = -1 if flips[k] else 1
        affine[axis, 3] = world.shape[axis] - 1 if flips[k] else 0
    array = array[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]
    return array, Grid(array.shape, affine)


ORIENTATIONS = list(product(permutations(range(3)), product((False, True), repeat=3)))


@pytest.mark.parametrize("lazy", [False, True])
def test_all_48_orientations_look_alike(lazy: bool) -> None:
    world = np.random.default_rng(0).random(WORLD, dtype=np.float32)
    x, y, z = CENTRE
    expected = [world[::-1, ::-1, z].T, world[::-1, y, ::-1].T, world[x, :, ::-1].T]
    for order, flips in ORIENTATIONS:
        array, grid = stored(world, order, flips)

        def slices_of(axis: int, index: int, array: np.ndarray = array) -> np.ndarray:
            return array.take(index, axis=axis)

        pictures = canonical_slices(slices_of if lazy else array, grid, np.array(CENTRE, dtype=float))
        for picture, wanted in zip(pictures, expected, strict=True):
            np.testing.assert_array_equal(picture, wanted)


@pytest.mark.parametrize(
    ("side", "voxel", "places"),
    [
        # plane -> (row, column) of the marker: 0 is the first, -1 the last
        ("right", (4, 3, 3), {"axial": (2, 0), "coronal": (3, 0)}),
        ("left", (0, 3, 3), {"axial": (2, -1), "coronal": (3, -1)}),
        ("anterior", (2, 5, 3), {"axial": (0, 2), "sagittal": (3, -1)}),
        ("posterior", (2, 0, 3), {"axial": (-1, 2), "sagittal": (3, 0)}),
        ("superior", (2, 3, 6), {"coronal": (0, 2), "sagittal": (0, 3)}),
        ("inferior", (2, 3, 0), {"coronal": (-1, 2), "sagittal": (-1, 3)}),
    ],
)
def test_markers_are_where_a_radiologist_looks(
    side: str, voxel: tuple[int, int, int], places: dict[str, tuple[int, int]]
) -> None:
    world = np.zeros(WORLD, dtype=np.float32)
    world[voxel] = 1
    for order, flips in ORIENTATIONS[::7]:
        pictures = dict(
            zip(PLANES, canonical_slices(*stored(world, order, flips), np.array(CENTRE, dtype=float)), strict=True)
        )
        for plane, place in places.items():
            assert pictures[plane][place] == 1, f"{side} in the {plane} picture of {order} {flips}"
            assert pictures[plane].sum() == 1


def test_oblique_images_are_named_by_their_nearest_axes(oblique_affine: np.ndarray) -> None:
    grid = Grid((6, 5, 4), oblique_affine)
    pictures = canonical_slices(np.zeros((6, 5, 4), np.float32), grid, grid.edges().reshape(-1, 3).mean(axis=0))
    assert [p.shape for p in pictures] == [(5, 6), (4, 6), (4, 5)]


def test_a_point_outside_takes_the_nearest_slice() -> None:
    world = np.arange(np.prod(WORLD), dtype=np.float32).reshape(WORLD)
    array, grid = stored(world, (0, 1, 2), (False,) * 3)
    axial = canonical_slices(array, grid, np.array([2.0, 3.0, 99.0]))[0]
    np.testing.assert_array_equal(axial, world[::-1, ::-1, -1].T)


def bright_boxes(path: Path) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The picture as grey values, and the (height, width) of its bright boxes in the first column, top down."""
    from matplotlib.image import imread

    picture = imread(path)[..., :3].mean(axis=-1)
    rows = (picture > 0.35).sum(axis=1) > 60  # a picture, not a line of text
    changes = np.flatnonzero(np.diff(np.concatenate([[0], rows.astype(int), [0]])))
    boxes = []
    for start, stop in zip(changes[::2], changes[1::2], strict=True):
        if stop - start < 20:  # text
            continue
        inside = np.flatnonzero((picture[start:stop] > 0.35).mean(axis=0) > 0.5)
        first = inside[: np.flatnonzero(np.diff(inside) > 1)[0] + 1] if (np.diff(inside) > 1).any() else inside
        boxes.append((int(stop - start), len(first)))
    return picture, boxes


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((40, 40, 40), (1, 1, 1)), ((40, 50, 8), (1, 1, 5)), ((60, 50, 12), (0.8, 1, 2)), ((12, 30, 80), (1, 1, 1))],
)
def test_pictures_have_their_size_in_mm_and_little_between_them(
    tmp_path: Path, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    grid = Grid(shape, np.diag([*spacing, 1]))
    image = (np.random.default_rng(0).random(shape) > 0.02).astype(np.float32)  # bright, with a few dark voxels
    draw_preview(tmp_path / "p.png", {"LR": (image, grid), "SR": (image, grid)})
    picture, boxes = bright_boxes(tmp_path / "p.png")
    assert len(boxes) == 3, boxes
    x, y, z = (n * d for n, d in zip(shape, spacing, strict=True))
    for (high, wide), (width_mm, height_mm) in zip(boxes, ((x, y), (x, z), (y, z)), strict=True):
        assert high / wide == pytest.approx(height_mm / width_mm, rel=0.06)
    used = sum(high for high, _ in boxes)
    assert picture.shape[0] - used < 0.9 * 150, "titles, gaps and footer take 0.85 inch"


def test_error_panel_and_title(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lr, sr = Grid((8, 8, 4), np.diag([2, 2, 4, 1])), Grid((16, 16, 16), np.eye(4))
    a, b = rng.random(lr.shape, dtype=np.float32), rng.random(sr.shape, dtype=np.float32)
    draw_preview(tmp_path / "with.png", {"LR": (a, lr), "SR": (b, sr)}, error=(np.abs(b), sr), title="case 7")
    draw_preview(tmp_path / "without.png", {"LR": (a, lr), "SR": (b, sr)})
    from matplotlib.image import imread

    tall, wide = (imread(tmp_path / f"{name}.png").shape for name in ("without", "with"))
    assert wide[1] > tall[1], "one more column"
    assert wide[0] > tall[0], "a line for the title"


def test_a_constant_image_can_be_drawn(tmp_path: Path) -> None:
    grid = Grid((4, 4, 1), np.eye(4))
    image = np.full((4, 4, 1), 3.0, np.float32)
    draw_preview(tmp_path / "p.png", {"LR": (image, grid)}, error=(np.zeros_like(image), grid))
    assert (tmp_path / "p.png").stat().st_size > 0


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MedsrError, match=r"pip install 'medsr\[plot\]'"):
        draw_preview(tmp_path / "p.png", {"LR": (np.zeros((2, 2, 2), np.float32), Grid((2, 2, 2), np.eye(4)))})
    assert not list(tmp_path.iterdir())


def test_unwritable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        draw_preview(tmp_path / "file" / "p.png", {"LR": (np.zeros((2, 2, 2), np.float32), Grid((2, 2, 2), np.eye(4)))})
