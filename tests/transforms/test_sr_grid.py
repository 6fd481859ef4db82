"""The SR grid on everything that says where the result lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImage, SpatialResample

from medsr.errors import InputError
from medsr.geometry import Grid, as_scale
from medsr.transforms import SetSuperResolutionGridd

SHAPE = (6, 5, 4)
SCALE = as_scale([2, 1.5, 3], 3)


@pytest.fixture
def item(phantom: Callable[..., np.ndarray], left_handed_affine: np.ndarray) -> dict[str, MetaTensor | str]:
    """An LR image, a result that still carries the LR meta (as a network's output does) and the SR affine."""
    grid = Grid(SHAPE, left_handed_affine)
    sr = grid.enlarged(SCALE)
    affine = torch.as_tensor(grid.affine)
    meta = {"original_affine": affine.clone(), "spatial_shape": SHAPE}
    lr = MetaTensor(torch.as_tensor(phantom(SHAPE)[None].astype(np.float32)), affine=affine, meta=dict(meta))
    pred = MetaTensor(torch.zeros(1, *sr.shape), affine=torch.as_tensor(sr.affine), meta=dict(meta))
    pred.meta["original_affine"] = affine.clone()
    return {"image": lr, "pred": pred, "result_dtype": "uint8"}


def test_result_and_reference_state_the_sr_grid(item: dict, left_handed_affine: np.ndarray) -> None:
    sr = Grid(SHAPE, left_handed_affine).enlarged(SCALE)
    result = SetSuperResolutionGridd()(item)
    for key in ("pred", "image"):
        assert tuple(result[key].meta["spatial_shape"]) == sr.shape
        np.testing.assert_array_equal(result[key].meta["original_affine"], sr.affine)
    assert "result_dtype" not in result
    assert "result_dtype" in item, "the item given is not changed, its images' meta is"
    np.testing.assert_array_equal(result["image"].affine, left_handed_affine)  # the LR image itself stays where it is


def test_original_affine_is_a_copy(item: dict) -> None:
    result = SetSuperResolutionGridd()(item)
    result["pred"].affine[0, 3] += 100
    assert result["pred"].meta["original_affine"][0, 3] != result["pred"].affine[0, 3]
    assert result["image"].meta["original_affine"] is not result["pred"].meta["original_affine"]


def test_no_reference(item: dict) -> None:
    result = SetSuperResolutionGridd(reference=None)(item)
    assert tuple(result["image"].meta["spatial_shape"]) == SHAPE
    del item["image"]
    assert "image" not in SetSuperResolutionGridd()(item)


def test_several_and_missing_keys(item: dict) -> None:
    item["other"] = item["pred"].clone()
    result = SetSuperResolutionGridd(["pred", "other", "absent"], allow_missing_keys=True)(item)
    assert tuple(result["other"].meta["spatial_shape"]) == tuple(item["other"].shape[1:])
    with pytest.raises(KeyError):
        SetSuperResolutionGridd("absent")(item)


def test_a_result_without_an_affine_is_refused(item: dict) -> None:
    item["pred"] = item["pred"].as_tensor()
    with pytest.raises(InputError, match="has no affine"):
        SetSuperResolutionGridd()(item)


def test_monai_label_has_nothing_to_resample(item: dict) -> None:
    """Its `Restored` resizes to the shape, and writes the affine, that the input's meta states."""
    result = SetSuperResolutionGridd()(item)
    stated = result["image"].meta
    assert tuple(stated["spatial_shape"]) == tuple(result["pred"].shape[1:])
    same = SpatialResample()(
        result["pred"], dst_affine=stated["original_affine"], spatial_size=tuple(stated["spatial_shape"])
    )
    np.testing.assert_array_equal(same, result["pred"])


def test_monai_saves_it_where_it_is_even_when_it_resamples(item: dict, tmp_path: Path) -> None:
    import nibabel as nib

    result = SetSuperResolutionGridd()(item)
    result["pred"].meta["filename_or_obj"] = "case.nii.gz"
    save = SaveImage(tmp_path, output_ext=".nii.gz", resample=True, separate_folder=False, print_log=False)
    save(result["pred"])
    (path,) = tmp_path.iterdir()
    image = nib.load(path)
    assert image.shape == tuple(result["pred"].shape[1:])
    np.testing.assert_allclose(image.affine, result["pred"].affine, atol=1e-5)
