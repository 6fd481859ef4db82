"""Slices: the voxels, the place, and the plane they are called by."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate

from medsr.errors import GridError, InputError
from medsr.transforms import CropEmptySlicesd, CropInformatived, ExtractSliced, RandSliced
from medsr.transforms.slices import SLICE_AXIS, SLICE_INDEX, extract_slice

SHAPE = (5, 6, 7)
WORLD_AXIS = {"sagittal": 0, "coronal": 1, "axial": 2}


def world_field(affine: np.ndarray, shape: tuple[int, ...] = SHAPE) -> MetaTensor:
    """(3, X, Y, Z): every voxel holds its own world coordinates."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    world = np.einsum("ij,jxyz->ixyz", affine[:3, :3], index) + affine[:3, 3, None, None, None]
    return MetaTensor(torch.as_tensor(world), affine=torch.as_tensor(affine))


def check_place(image: MetaTensor) -> None:
    """The affine of a slice, applied to its voxel indices, gives what the voxels hold."""
    affine = image.affine.numpy()  # the slice's own axes first
    index = np.zeros((3, *image.shape[1:]))
    index[0], index[1] = np.meshgrid(*(np.arange(n) for n in image.shape[1:]), indexing="ij")
    world = np.einsum("ij,jhw->ihw", affine[:3, :3], index) + affine[:3, 3, None, None]
    np.testing.assert_allclose(image.numpy(), world, atol=1e-9)


@pytest.mark.parametrize("plane", WORLD_AXIS)
def test_plane_is_anatomical_whatever_the_axis_order(plane: str) -> None:
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[:, list(order)] * np.array(signs) * [1.0, 0.8, 2.5]
        affine[:3, 3] = [3, -4, 5]
        slice_ = ExtractSliced("image", plane)({"image": world_field(affine)})["image"]
        axis = order.index(WORLD_AXIS[plane])
        assert slice_.meta[SLICE_AXIS] == axis
        assert slice_.meta[SLICE_INDEX] == SHAPE[axis] // 2
        assert tuple(slice_.shape[1:]) == tuple(n for a, n in enumerate(SHAPE) if a != axis)
        constant = slice_[WORLD_AXIS[plane]]
        assert float(constant.max() - constant.min()) == 0
        check_place(slice_)


def test_oblique(left_handed_affine: np.ndarray) -> None:
    for plane in WORLD_AXIS:
        check_place(ExtractSliced("image", plane)({"image": world_field(left_handed_affine)})["image"])


def test_index_of_the_item(oblique_affine: np.ndarray) -> None:
    volume = world_field(oblique_affine)
    for index in (0, 6):
        result = ExtractSliced(["image", "label"], "axial")({"image": volume, "label": volume, SLICE_INDEX: index})
        np.testing.assert_array_equal(result["image"], volume.as_tensor()[..., index])
        np.testing.assert_array_equal(result["label"], result["image"])
        check_place(result["image"])
    for index in (-1, 7):
        with pytest.raises(InputError, match=f"slice {index} does not exist; the volume has 7 axial slices"):
            ExtractSliced("image", "axial")({"image": volume, SLICE_INDEX: index})


def test_unknown_plane(oblique_affine: np.ndarray) -> None:
    with pytest.raises(GridError, match="'diagonal'"):
        ExtractSliced("image", "diagonal")({"image": world_field(oblique_affine)})


def test_the_slice_is_a_copy(oblique_affine: np.ndarray) -> None:
    volume = world_field(oblique_affine)
    slice_ = extract_slice(volume, 2, 3)
    slice_ += 1
    assert slice_.is_contiguous()
    assert torch.equal(volume.as_tensor(), world_field(oblique_affine).as_tensor())
    assert SLICE_AXIS not in volume.meta


def test_slices_collate(oblique_affine: np.ndarray) -> None:
    volume = world_field(oblique_affine)
    batch = list_data_collate([{"image": extract_slice(volume, 2, k)} for k in (1, 2)])
    assert tuple(batch["image"].shape) == (2, 3, 5, 6)


def test_random_slices_of_a_pair_are_the_same_and_not_empty(oblique_affine: np.ndarray) -> None:
    values = torch.zeros(1, *SHAPE)
    values[..., 2] = torch.rand(5, 6)
    values[..., 5] = torch.rand(5, 6)
    image = MetaTensor(values, affine=torch.as_tensor(oblique_affine))
    label = MetaTensor(values * 2, affine=torch.as_tensor(oblique_affine))
    transform = RandSliced(["image", "label"])
    transform.set_random_state(0)
    drawn = set()
    for _ in range(30):
        result = transform({"image": image, "label": label})
        assert torch.equal(result["label"].as_tensor(), 2 * result["image"].as_tensor())
        assert result["image"].meta[SLICE_INDEX] == result["label"].meta[SLICE_INDEX]
        drawn.add(result["image"].meta[SLICE_INDEX])
    assert drawn == {2, 5}


def test_a_slice_is_empty_where_every_contrast_is(oblique_affine: np.ndarray) -> None:
    """Backgrounds of contrasts differ, which is no content; content of one contrast is."""
    values = torch.zeros(2, *SHAPE)
    values[1] = 1
    values[0, ..., 2] = torch.rand(5, 6)
    values[1, ..., 4] = torch.rand(5, 6)
    image = MetaTensor(values, affine=torch.as_tensor(oblique_affine))
    cropped = CropEmptySlicesd("image")({"image": image})["image"]
    assert torch.equal(cropped.as_tensor(), values[..., 2:5])
    transform = RandSliced("image", tries=100)
    transform.set_random_state(0)
    assert {transform({"image": image})["image"].meta[SLICE_INDEX] for _ in range(30)} == {2, 4}


def test_random_slices_repeat_with_the_seed(oblique_affine: np.ndarray) -> None:
    volume = world_field(oblique_affine)
    transform = RandSliced("image")

    def draw() -> list[int]:
        transform.set_random_state(7)
        return [transform({"image": volume})["image"].meta[SLICE_INDEX] for _ in range(8)]

    assert draw() == draw()
    assert len(set(draw())) > 1


def test_an_empty_volume_still_gives_a_slice(oblique_affine: np.ndarray) -> None:
    image = MetaTensor(torch.zeros(1, *SHAPE), affine=torch.as_tensor(oblique_affine))
    transform = RandSliced("image", tries=3)
    assert tuple(transform({"image": image})["image"].shape) == (1, 5, 6)


def test_informative_crop_is_the_box_of_what_is_bright() -> None:
    values = torch.full((2, 20, 30), 0.04)
    values[0, 4:9, 11] = 0.5
    values[1, 7, 3:20] = 0.3
    image = MetaTensor(values, affine=torch.diag(torch.tensor([2.0, 3, 1, 1], dtype=torch.float64)))
    other = MetaTensor(torch.arange(600.0).reshape(1, 20, 30), affine=image.affine.clone())
    item = CropInformatived(("label", "mask"))({"label": image, "mask": other})
    assert torch.equal(item["label"].as_tensor(), values[:, 4:9, 3:20])
    assert torch.equal(item["mask"].as_tensor(), other.as_tensor()[:, 4:9, 3:20])
    assert item["label"].affine[:2, 3].tolist() == [8, 9], "the place in the world is kept"
    assert CropInformatived("label", margin=2)({"label": image})["label"].shape == (2, 9, 21)
    assert CropInformatived("label", margin=50)({"label": image})["label"].shape == image.shape, "within the image"


def test_informative_crop_leaves_alone_what_it_cannot_crop() -> None:
    dark = MetaTensor(torch.zeros(1, 5, 6))
    assert CropInformatived("label")({"label": dark})["label"].shape == dark.shape
    bright = MetaTensor(torch.nn.functional.pad(torch.ones(1, 2, 2), (1, 1, 1, 1)))
    pair = CropInformatived("label", unless="image")({"label": bright, "image": torch.ones(1, 2, 2)})
    assert pair["label"].shape == bright.shape, "an LR image has another grid"
    with pytest.raises(InputError, match="expected 'image' on the grid of 'label'"):
        CropInformatived(("label", "image"))({"label": bright, "image": MetaTensor(torch.ones(1, 2, 2))})


@pytest.mark.parametrize(("threshold", "margin"), [(1.0, 0), (-0.1, 0), (float("nan"), 0), (0.05, -1)])
def test_informative_crop_that_crops_nothing(threshold: float, margin: int) -> None:
    with pytest.raises(InputError, match="expected a threshold"):
        CropInformatived("label", threshold, margin)
