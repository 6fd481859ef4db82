"""What networks of slices train, validate and are tested on, from files to tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from scipy import ndimage

from medsr.errors import InputError
from medsr.transforms import (
    CenterPairedCropd,
    CropEmptySlicesd,
    SegmentationTraining,
    SliceEvaluation,
    SliceTraining,
    SliceValidation,
)
from medsr.transforms.pairs import PadPairedd

# rows: array axes as (right, anterior, superior); the superior axis is the second, so axial slices lie across it
AFFINE = np.array([[0, 0, -0.8, 10], [1.1, 0, 0, -20], [0, 2.0, 0, 5], [0, 0, 0, 1.0]])
CUBIC = np.array([-0.09375, 0.59375, 0.59375, -0.09375])  # taps of cv2.INTER_CUBIC (a = -0.75) at scale 4


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    rng = np.random.default_rng(5)
    smooth = ndimage.gaussian_filter(rng.normal(size=(52, 9, 44)), (2, 0, 2))
    smooth[:, 0], smooth[:, -2:] = 0, 0  # empty slices at both ends
    return (1000 * (smooth - smooth.min())).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, volume: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("hr") / "hr.nii.gz"
    nib.save(nib.Nifti1Image(volume, AFFINE), path)
    return path


def decimated(plane: np.ndarray) -> np.ndarray:
    """cv2.resize by 1/4 with INTER_CUBIC, from its definition: four taps inside each block of four."""
    h, w = (n - n % 4 for n in plane.shape)
    top, left = (plane.shape[0] - h) // 2, (plane.shape[1] - w) // 2
    blocks = plane[top : top + h, left : left + w].reshape(h // 4, 4, w // 4, 4)
    return np.einsum("iajb,a,b->ij", blocks, CUBIC, CUBIC)


def unit(volume: np.ndarray) -> np.ndarray:
    return (volume - volume.min()) / (volume.max() - volume.min())


def test_patches_are_aligned_pairs(path: Path, volume: np.ndarray) -> None:
    """Every LR patch is the reduced HR patch: nothing of the margins is left, no half a pixel is lost."""
    transform = SliceTraining(4, 24, most_patches=4)
    transform.set_random_state(1)
    values = np.sort(np.unique(unit(volume)))
    items = [item for _ in range(6) for item in transform({"label": str(path), "weight": 1.0})]
    assert 18 <= len(items) <= 24, "52 x 44 pixels, and up to three less, are three or four patches"
    for item in items:
        assert set(item) == {"image", "label"}
        lr, hr = item["image"], item["label"]
        assert not isinstance(lr, MetaTensor)
        assert lr.shape == (1, 6, 6)
        assert hr.shape == (1, 24, 24)
        np.testing.assert_allclose(lr[0], decimated(hr[0].numpy()), atol=1e-5)
        nearest = values[np.clip(np.searchsorted(values, hr.numpy()), 0, len(values) - 1)]
        np.testing.assert_allclose(nearest, hr, atol=1e-4)


def test_patches_of_a_slice_have_one_formation(path: Path) -> None:
    """All LR patches of a slice are those of one of the two protocols, and both protocols are drawn."""
    drawn = {"name": "mixture", "choices": ["bicubic-no-antialias", "block-mean"], "weights": [1, 1]}
    transform = SliceTraining(4, 24, drawn, most_patches=4)
    transform.set_random_state(1)
    kinds = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(12):
            made = set()
            for item in transform({"label": str(path)}):
                hr = item["label"][0].numpy()
                means = hr.reshape(6, 4, 6, 4).mean((1, 3))
                errors = {
                    k: np.abs(item["image"][0].numpy() - lr).max() for k, lr in (("b", means), ("c", decimated(hr)))
                }
                kind = min(errors, key=lambda k: errors[k])
                assert errors[kind] < 1e-5 < max(errors.values())
                made.add(kind)
            assert len(made) == 1
            kinds += made
    assert set(kinds) == {"b", "c"}


def test_edges_of_lr_pixels_fall_on_any_hr_pixel(path: Path, volume: np.ndarray) -> None:
    transform = SliceTraining(4, 24, augment=False, most_patches=4)
    transform.set_random_state(4)
    windows = np.lib.stride_tricks.sliding_window_view(unit(volume), (24, 24), axis=(0, 2))
    phases = set()
    for _ in range(40):
        patch = transform({"label": str(path)})[0]["label"][0].numpy()
        first = np.unravel_index(np.abs(windows - patch).max(axis=(-1, -2)).argmin(), windows.shape[:3])
        phases.add((first[0] % 4, first[2] % 4))
    assert len({a for a, _ in phases}) == len({b for _, b in phases}) == 4


def test_small_images_are_mirrored_until_a_patch_fits(path: Path, volume: np.ndarray) -> None:
    (item,) = SliceTraining(4, 64, augment=False)({"label": str(path)})
    assert item["label"].shape == (1, 64, 64)
    assert item["image"].shape == (1, 16, 16)
    hr = item["label"][0].numpy()
    np.testing.assert_allclose(hr[52:], hr[51:39:-1], atol=1e-6)  # no second patch fits beside the padding
    np.testing.assert_allclose(hr[:, 44:], hr[:, 43:23:-1], atol=1e-6)


def test_slices_follow_the_patient_not_the_array(path: Path, volume: np.ndarray) -> None:
    """With augmentation off a patch is found in one of the slices across the superior axis."""
    transform = SliceTraining(4, 24, augment=False)
    transform.set_random_state(3)
    patch = transform({"label": str(path)})[0]["label"][0].numpy()
    scaled = unit(volume)
    windows = np.lib.stride_tricks.sliding_window_view(scaled, (24, 24), axis=(0, 2))
    assert np.abs(windows - patch).max(axis=(-1, -2)).min() < 1e-5


def test_real_pairs_are_cropped_together(path: Path, volume: np.ndarray, tmp_path: Path) -> None:
    lr = np.stack([decimated(volume[:, k]) for k in range(volume.shape[1])], axis=1).astype(np.float32)
    affine = AFFINE.copy()
    affine[:3, 0] *= 4
    affine[:3, 2] *= 4
    affine[:3, 3] += AFFINE[:3, 0] * 1.5 + AFFINE[:3, 2] * 1.5
    nib.save(nib.Nifti1Image(lr, affine), tmp_path / "lr.nii.gz")
    transform = SliceTraining(4, 24)
    transform.set_random_state(0)
    for _ in range(5):
        (item,) = transform({"label": str(path), "image": str(tmp_path / "lr.nii.gz")})
        np.testing.assert_allclose(item["image"][0], decimated(item["label"][0].numpy()), atol=1e-4)
    validation = SliceValidation(4)({"label": str(path), "image": str(tmp_path / "lr.nii.gz")})
    np.testing.assert_allclose(validation["image"][0], decimated(validation["label"][0].numpy()), atol=1e-4)
    with pytest.raises((InputError, RuntimeError)) as error:
        SliceTraining(2, 24)({"label": str(path), "image": str(tmp_path / "lr.nii.gz")})
    assert "enlarges by 2" in str(error.value) + str(error.value.__cause__)


def test_evaluation_keeps_slices_with_content_and_the_delineation(
    path: Path, volume: np.ndarray, tmp_path: Path
) -> None:
    labels = (volume > np.median(volume)).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "labels.nii.gz")
    item = SliceEvaluation()({"label": str(path), "segmentation": str(tmp_path / "labels.nii.gz"), "scale": 4})
    assert item["scale"] == [4, 1, 4]
    assert item["label"].shape == (1, 52, 6, 44), "three empty slices less"
    assert item["image"].shape == (1, 13, 6, 11)
    assert item["image_interpolated"].shape == item["label"].shape
    np.testing.assert_allclose(item["label"][0], unit(volume)[:, 1:-2], atol=1e-6)
    np.testing.assert_array_equal(item["segmentation"][0], labels[:, 1:-2])
    for k in range(6):
        np.testing.assert_allclose(item["image"][0, :, k], decimated(unit(volume)[:, k + 1]), atol=1e-5)
    start = AFFINE[:3, :3] @ [0, 1, 0] + AFFINE[:3, 3]
    np.testing.assert_allclose(item["label"].affine[:3, 3], start, atol=1e-5)
    np.testing.assert_allclose(item["segmentation"].affine, item["label"].affine, atol=1e-6)


def test_empty_volumes_keep_their_slices() -> None:
    image = MetaTensor(torch.zeros(1, 4, 4, 4))
    assert CropEmptySlicesd("label")({"label": image})["label"].shape == (1, 4, 4, 4)


def test_batches_and_seeds(path: Path) -> None:
    transform = SliceTraining(4, 24)
    data = CacheDataset([{"label": str(path)}] * 4, transform, copy_cache=False, progress=False)
    loader = DataLoader(data, batch_size=4)  # which seeds the transform anew, once
    batches = []
    for _ in range(2):
        transform.set_random_state(7)
        batches.append(next(iter(loader)))
    assert batches[0]["label"].shape == (4, 1, 24, 24)
    assert torch.equal(batches[0]["label"], batches[1]["label"]), "a resumed run sees what a straight one saw"
    assert not torch.equal(batches[0]["label"][0], batches[0]["label"][1])


def test_segmentation_patches_keep_image_and_labels_together(path: Path, volume: np.ndarray, tmp_path: Path) -> None:
    labels = (unit(volume) > 0.5).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "labels.nii.gz")
    item = {"image": str(path), "label": str(tmp_path / "labels.nii.gz")}
    transform = SegmentationTraining(64, augment=False)
    transform.set_random_state(2)
    for _ in range(5):
        made = transform(item)
        assert made["image"].shape == made["label"].shape == (1, 64, 64)
        np.testing.assert_array_equal(made["label"] > 0, made["image"] > 0.5)
    transform = SegmentationTraining(40)
    transform.set_random_state(2)
    agree = []
    for _ in range(10):
        made = transform(item)
        assert set(np.unique(made["label"])) <= {0, 1}
        agree.append(float(((made["image"] > 0.5) == (made["label"] > 0)).float().mean()))
    assert np.mean(agree) > 0.75, "moved alike; the grey scale is bent in a third of them"


@pytest.mark.parametrize("size", [8, 12, 16])
@pytest.mark.parametrize("n_lr", [5, 6, 7])
def test_centre_crop_is_on_whole_lr_voxels(size: int, n_lr: int, field: Any) -> None:
    hr = field.image((4 * n_lr, 4 * n_lr), np.eye(4))
    affine = np.diag([4.0, 4, 1, 1])
    affine[:2, 3] = 1.5
    lr = field.image((n_lr, n_lr), affine)
    made = CenterPairedCropd(size=size)({"image": lr, "label": hr})
    assert made["label"].shape[1:] == (size, size)
    assert made["image"].shape[1:] == (size // 4, size // 4)
    assert field.error(made["image"]) < 1e-5
    assert field.error(made["label"]) < 1e-5
    block = made["label"].as_tensor().reshape(1, size // 4, 4, size // 4, 4).mean((2, 4))
    np.testing.assert_allclose(made["image"].as_tensor(), block, atol=1e-5)


@pytest.mark.parametrize(("size", "words"), [(10, "whole number"), (64, "too small")])
def test_impossible_centre_crops_are_refused(size: int, words: str, field: Any) -> None:
    hr = field.image((24, 24), np.eye(4))
    affine = np.diag([4.0, 4, 1, 1])
    affine[:2, 3] = 1.5
    with pytest.raises(InputError, match=words):
        CenterPairedCropd(size=size)({"image": field.image((6, 6), affine), "label": hr})


def test_padding_leaves_large_images_alone(field: Callable[..., Any]) -> None:
    hr = field.image((24, 30), np.eye(4))
    assert PadPairedd(24, 4)({"label": hr})["label"] is hr
