"""LR images back on the HR grid, by what the affines of a pair, or its record, say."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import LoadImaged
from scipy import ndimage

from medsr.errors import GridError, InputError
from medsr.transforms import InterpolateToReferenced, SimulateLowResolutiond
from medsr.transforms.pairs import LR_SCALE, pair_scale

SCALES: list[Any] = [2, 3, 1.5, 2.5, [1, 1, 3], [1.5, 1, 2], ["7/3", 1, 1]]
REACH = 12  # HR voxels after which blur and spline have forgotten the border


def simulate(hr: MetaTensor, scale: Any, **options: Any) -> dict[Any, Any]:
    return SimulateLowResolutiond(scale=scale, **options)({"label": hr})


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_interpolated_image_lies_on_the_hr_grid(field: Any, oblique_affine: np.ndarray, scale: Any) -> None:
    item = InterpolateToReferenced("image")(simulate(field.image((60, 61, 62), oblique_affine), scale))
    image, hr = item["image"], item["label"]
    assert image.shape == hr.shape
    assert np.abs(image.affine.numpy() - hr.affine.numpy()).max() < 1e-9
    assert image.meta["spatial_shape"] == tuple(hr.shape[1:])
    assert field.error(image, 24) < 1e-4


@pytest.mark.parametrize("name", ["block-mean", "pham-scipy-zoom", "decimation"])
def test_interpolation_follows_the_alignment(field: Any, oblique_affine: np.ndarray, name: str) -> None:
    item = simulate(field.image((48, 48, 48), oblique_affine), 3, degradation=name)
    enlarged = InterpolateToReferenced("image")(item)["image"]
    assert enlarged.shape == item["label"].shape
    assert np.array_equal(enlarged.affine.numpy(), item["label"].affine.numpy())
    assert field.error(enlarged, 18) < 1e-4


def test_same_as_scipy_zoom(texture: Callable[..., MetaTensor]) -> None:
    item = simulate(texture((24, 24, 24)), 2)
    expected = ndimage.zoom(item["image"].numpy()[0].astype(float), 2, order=3, mode="nearest", grid_mode=True)
    assert np.abs(InterpolateToReferenced("image")(item)["image"].numpy()[0] - expected).max() < 1e-6


def test_scale_survives_collation(texture: Callable[..., MetaTensor]) -> None:
    batch = list_data_collate([simulate(texture((20, 20, 20), seed=k), 2.5) for k in range(2)])
    for item in decollate_batch(batch):
        assert item["image"].meta[LR_SCALE] == "5/2,5/2,5/2"
        assert InterpolateToReferenced("image")(item)["image"].shape == (1, 20, 20, 20)


def test_second_interpolation_changes_nothing(texture: Callable[..., MetaTensor]) -> None:
    once = InterpolateToReferenced("image")(simulate(texture((24, 24, 24)), 2))
    twice = InterpolateToReferenced("image")(once)
    assert torch.equal(once["image"], twice["image"])


def test_suffix_keeps_the_lr_image(texture: Callable[..., MetaTensor]) -> None:
    item = InterpolateToReferenced("image", output_suffix="_interpolated")(simulate(texture((12, 12, 12)), 2))
    assert item["image"].shape == (1, 6, 6, 6)
    assert item["image_interpolated"].shape == (1, 12, 12, 12)


def test_absent_images_are_skipped_when_told(texture: Callable[..., MetaTensor]) -> None:
    item = {"label": texture((12, 12, 12))}
    assert InterpolateToReferenced("image", allow_missing_keys=True)(item) == item
    with pytest.raises(KeyError):
        InterpolateToReferenced("image")(item)


def lr_grid(affine: np.ndarray, scale: Any, start: Any = 0.0) -> np.ndarray:
    """Affine of an LR grid whose first edge lies `start` HR voxels inside that of the HR grid."""
    scales = np.broadcast_to(np.asarray(scale, dtype=float), 3)
    change = np.diag([*scales, 1.0])
    change[:3, 3] = np.broadcast_to(start, 3) + (scales - 1) / 2
    return affine @ change


def test_real_pair_from_files(tmp_path: Path, field: Any, oblique_affine: np.ndarray) -> None:
    hr = field.image((30, 33, 20), oblique_affine)
    lr = field.image((15, 22, 20), lr_grid(oblique_affine, [2, 1.5, 1]))
    paths = {"image": tmp_path / "lr.nii.gz", "label": tmp_path / "hr.nii.gz"}
    for key, image in (("image", lr), ("label", hr)):
        nib.save(nib.Nifti1Image(image.numpy()[0], image.affine.numpy()), paths[key])
    load = LoadImaged(["image", "label"], reader="medsr.data.readers.VolumeReader", ensure_channel_first=True)
    item = load({key: str(path) for key, path in paths.items()})
    assert pair_scale(item["image"], item["label"]) == (2, Fraction(3, 2), 1)
    enlarged = InterpolateToReferenced("image")(item)["image"]
    assert enlarged.shape == hr.shape
    assert field.error(enlarged, [10, 10, 0]) < 1e-4


def test_real_pair_need_not_match_in_size_or_place(field: Any, oblique_affine: np.ndarray) -> None:
    """An LR scan of its own: it begins elsewhere, and HR has voxels that no whole LR voxel covers."""
    hr = field.image((41, 40, 21), oblique_affine)
    lr = field.image((24, 24, 21), lr_grid(oblique_affine, [2, 2, 1], [-3.3, -2.8, 0.4]))
    enlarged = InterpolateToReferenced("image")({"image": lr, "label": hr})["image"]
    assert enlarged.shape == hr.shape
    assert field.error(enlarged, [10, 10, 4]) < 1e-4


def test_pictures_without_voxel_size_go_by_their_sizes(texture: Callable[..., MetaTensor]) -> None:
    lr, hr = texture((10, 12)), texture((15, 24))
    assert pair_scale(lr, hr) == (Fraction(3, 2), 2)
    assert InterpolateToReferenced("image")({"image": lr, "label": hr})["image"].shape == (1, 15, 24)


def test_pairs_that_cannot_be_are_one_line_errors(field: Any, oblique_affine: np.ndarray) -> None:
    interpolate = InterpolateToReferenced("image")
    hr = field.image((20, 20, 20), oblique_affine)
    coarse = field.image((10, 10, 10), lr_grid(oblique_affine, 2))
    with pytest.raises(InputError, match="must not be coarser than the LR image"):
        interpolate({"image": hr, "label": coarse})
    away = field.image((10, 10, 10), lr_grid(oblique_affine, 2, 6))
    with pytest.raises(InputError, match="crop the HR image to the field of view of the LR image"):
        interpolate({"image": away, "label": hr})
    turned = oblique_affine @ np.diag([1, -1, 1, 1.0])
    with pytest.raises(GridError, match="not parallel, or not in the same order and direction"):
        interpolate({"image": field.image((10, 10, 10), lr_grid(turned, 2)), "label": hr})
