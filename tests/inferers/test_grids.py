"""The result lies where the image lies: affines, batches, spacings, slices along anatomical planes."""

from __future__ import annotations

from fractions import Fraction

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.inferers import SlidingWindowInferer

from medsr.errors import GridError
from medsr.geometry import as_scale
from medsr.inferers import InferenceFacts, SuperResolutionInferer
from medsr.interpolation import resize
from medsr.transforms import SimulateLowResolutiond

CODES = ["RAS", "LPS", "SPL", "AIR", "PSL", "IRP"]


def corners(affine, shape):
    """World coordinates of the first and last corner of the field of view."""
    ends = np.array([[-0.5, -0.5, -0.5, 1], [*(n - 0.5 for n in shape), 1]])
    return (ends @ np.asarray(affine).T)[:, :3]


def permuted(affine, codes):
    """The affine of the image whose array axes point as `codes` says, and the array axis of each RAS axis."""
    wanted = nib.orientations.axcodes2ornt(codes)
    change = nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), wanted)
    return affine @ nib.orientations.inv_ornt_aff(change, (9, 9, 9)), [int(axis) for axis in wanted[:, 0]].index


def test_batches_keep_every_image_where_it_is(made, noise, as_volume, oblique_affine, sheared_left_handed):
    affines = [oblique_affine, sheared_left_handed, permuted(oblique_affine, "SPL")[0]]
    items = [
        {"image": MetaTensor(noise(1, 6, 5, 4, seed=i), affine=torch.as_tensor(a), meta={"name": f"case{i}"})}
        for i, a in enumerate(affines)
    ]
    batch = list_data_collate(items)
    assert batch["image"].affine.shape == (3, 4, 4)
    inferer = SuperResolutionInferer((2, 1, 1.5), ensemble=True)
    full = inferer.enlarge(batch["image"], made.recnn(3))
    sr = full.image
    assert isinstance(sr, MetaTensor)
    assert sr.affine.dtype == torch.float64
    for results in (sr, full.deviation):
        single = decollate_batch({"pred": results})
        for i, (item, affine) in enumerate(zip(single, affines, strict=True)):
            result = item["pred"]
            assert (result.shape, result.affine.shape) == ((1, 12, 5, 6), (4, 4))
            assert result.meta["name"] == f"case{i}"
            np.testing.assert_allclose(corners(result.affine, (12, 5, 6)), corners(affine, (6, 5, 4)), atol=1e-10)
            steps = np.asarray(result.affine)[:3, :3] * [2, 1, 1.5]  # same directions
            np.testing.assert_allclose(steps, affine[:3, :3], atol=1e-12)
    one = as_volume(items[1]["image"].as_tensor()[None], affines[1])
    alone = SuperResolutionInferer((2, 1, 1.5), ensemble=True)(one, made.recnn(3))
    torch.testing.assert_close(alone[0].as_tensor(), sr[1].as_tensor(), atol=1e-5, rtol=0)
    np.testing.assert_allclose(alone.affine, sr.affine[1])


def test_leaves_the_lr_image_where_it_is(made, noise, as_volume, oblique_affine):
    lr = as_volume(noise(1, 1, 4, 4, 4), oblique_affine)
    lr.meta["spatial_shape"] = (4, 4, 4)
    sr = SuperResolutionInferer(2)(lr, made.recnn(3))
    np.testing.assert_array_equal(lr.affine, oblique_affine)
    assert lr.meta["spatial_shape"] == (4, 4, 4)
    assert "spatial_shape" not in sr.meta  # what described the LR grid is gone
    assert SuperResolutionInferer(2)(lr.as_tensor(), made.recnn(3)).__class__ is torch.Tensor


def test_scale_one_keeps_the_affine(made, noise, as_volume, sheared_left_handed):
    sr = SuperResolutionInferer(1)(as_volume(noise(1, 1, 4, 4, 4), sheared_left_handed), made.recnn(3))
    np.testing.assert_array_equal(sr.affine, sheared_left_handed)


def test_spacing(made, noise, as_volume, oblique_affine):
    lr = as_volume(noise(1, 1, 8, 6, 4), oblique_affine)  # 0.9 x 1.1 x 2.5 mm
    inferer = SuperResolutionInferer(spacing=0.5)
    sr = inferer(lr, made.recnn(3))
    assert InferenceFacts.of(sr).scale == (Fraction(9, 5), Fraction(11, 5), 5)
    assert sr.shape == (1, 1, 14, 13, 20)
    np.testing.assert_allclose(np.linalg.norm(sr.affine[:3, :3], axis=0), 0.5, rtol=1e-12)
    per_axis = SuperResolutionInferer(spacing=(0.9, np.float32(1.1), 1.25))
    assert per_axis(lr, made.recnn(3)).shape == (1, 1, 8, 6, 8)
    overridden = SuperResolutionInferer(spacing=0.5)
    assert overridden(lr, made.recnn(3), scale=2).shape == (1, 1, 16, 12, 8)


def test_spacings_of_a_batch_must_agree(made, noise):
    images = MetaTensor(noise(2, 1, 4, 4, 4))
    images.is_batch = True
    images.affine = torch.stack([torch.eye(4, dtype=torch.float64), torch.diag(torch.tensor([2.0, 2, 2, 1])).double()])
    with pytest.raises(GridError, match="images of this batch need different scales"):
        SuperResolutionInferer(spacing=0.5)(images, made.recnn(3))
    assert SuperResolutionInferer(2)(images, made.recnn(3)).shape == (2, 1, 8, 8, 8)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("codes", CODES)
def test_2d_networks_see_the_slices_of_the_plane(made, noise, as_volume, oblique_affine, plane, codes):
    affine, array_axis = permuted(oblique_affine, codes)
    across = array_axis({"sagittal": 0, "coronal": 1, "axial": 2}[plane])
    lr = as_volume(noise(2, 1, 7, 6, 5), affine)
    for network, restores in ((made.fixed((2, 2)), False), (made.recnn(2), True)):
        expected = []
        with torch.no_grad():
            for image in lr.as_tensor().unbind(2 + across):
                expected.append(network(resize(image, as_scale(2, 2)) if restores else image))
        sr = SuperResolutionInferer(2, slice_plane=plane, tile_size=8)(lr, network)
        torch.testing.assert_close(sr.as_tensor(), torch.stack(expected, dim=2 + across), atol=1e-5, rtol=0)
        shape = tuple(sr.shape[2:])
        np.testing.assert_allclose(corners(sr.affine, shape), corners(affine, lr.shape[2:]), atol=1e-10)
    with pytest.raises(GridError, match=f"{plane} slices in-plane only, and axis {across} is through-plane"):
        SuperResolutionInferer((2, 2, 2), slice_plane=plane)(lr, made.recnn(2))


def test_2d_network_with_guidance_and_real_scales_per_axis(made, noise, as_volume):
    lr, guide = as_volume(noise(2, 1, 5, 6, 4), np.eye(4)), MetaTensor(noise(2, 1, 10, 6, 6, seed=1))
    network = made.recnn(2, in_channels=2)
    scale = (2, 1, Fraction(3, 2))
    sr = SuperResolutionInferer(scale, slice_plane="coronal")(lr, network, reference=guide)
    with torch.no_grad():
        image = resize(lr.as_tensor(), scale)
        for i in range(6):
            expected = network(torch.cat([image[..., i, :], guide.as_tensor()[..., i, :]], dim=1))
            torch.testing.assert_close(sr.as_tensor()[..., i, :], expected, atol=1e-5, rtol=0)


def test_2d_network_on_slices_alone_and_on_plain_volumes(made, noise):
    network = made.fixed((2, 2))
    image = noise(1, 1, 6, 5)
    alone = SuperResolutionInferer(2)(image, network)
    assert alone.shape == (1, 1, 12, 10)
    volume = SuperResolutionInferer(Fraction(2))(image[..., None].repeat(1, 1, 1, 1, 3), network)
    assert volume.shape == (1, 1, 12, 10, 3)  # without an affine the last axis is across the slices
    torch.testing.assert_close(volume[..., 1], alone, atol=1e-6, rtol=0)
    flat = MetaTensor(image, affine=torch.diag(torch.tensor([0.5, 0.7, 1, 1], dtype=torch.float64)))
    np.testing.assert_allclose(np.diag(SuperResolutionInferer(2)(flat, network).affine), [0.25, 0.35, 1, 1])


def test_many_slices_go_in_groups(made, noise):
    """Slices are batched without changing the result, however many fit."""
    network, lr = made.recnn(2), noise(2, 1, 20, 18, 21)
    reference = SuperResolutionInferer(2, memory_mb=4096)
    expected = reference.enlarge(lr, network)
    assert 1 < expected.tiles < 21
    little = SuperResolutionInferer(2, memory_mb=1, tile_size=30)
    torch.testing.assert_close(little(lr, network), expected.image, atol=1e-5, rtol=0)


def test_batches_of_different_orientation_are_refused_for_slices(made, noise, oblique_affine):
    images = MetaTensor(noise(2, 1, 4, 4, 4))
    images.is_batch = True
    images.affine = torch.stack([torch.as_tensor(permuted(oblique_affine, codes)[0]) for codes in ("RAS", "SPL")])
    with pytest.raises(GridError, match="axial slices of this batch lie along different axes"):
        SuperResolutionInferer(2)(images, made.recnn(2))


def test_scale_recorded_by_the_simulation(made, noise, oblique_affine):
    def pair(scale, seed=0):
        hr = MetaTensor(noise(1, 12, 12, 12, seed=seed), affine=torch.as_tensor(oblique_affine))
        return SimulateLowResolutiond(scale=scale)({"label": hr})

    batch = list_data_collate([pair((2, 1, 1.5)), pair((2, 1, 1.5), seed=1)])
    sr = SuperResolutionInferer()(batch["image"], made.recnn(3))
    assert sr.shape == batch["label"].shape
    np.testing.assert_allclose(sr.affine, batch["label"].affine, atol=1e-9)
    assert "lr_scale" not in sr.meta
    mixed = list_data_collate([pair((2, 2, 1))["image"], pair((2, 2, 1))["image"]])
    mixed.meta["lr_scale"] = ["2,2,1", "2,1,2"]
    with pytest.raises(GridError, match="simulated at several scales"):
        SuperResolutionInferer()(mixed, made.recnn(3))
    mixed.meta["lr_scale"] = ["2,2", "2,2"]
    with pytest.raises(GridError, match=r"one per axis \(3\), got 2"):
        SuperResolutionInferer()(mixed, made.recnn(3))


def test_monais_inferers_leave_the_lr_affine_on_the_result(made, noise, as_volume, oblique_affine):
    """Why MONAI's sliding window is not used: the enlarged image would be written with the LR voxel size."""
    lr = as_volume(noise(1, 1, 8, 8, 8), oblique_affine)
    network = made.fixed((2, 2, 2))
    with torch.no_grad():
        theirs = SlidingWindowInferer((8, 8, 8))(lr, network)
    ours = SuperResolutionInferer()(lr, network)
    assert theirs.shape == ours.shape
    np.testing.assert_array_equal(theirs.affine, oblique_affine)
    far = corners(theirs.affine, (16, 16, 16)) - corners(oblique_affine, (8, 8, 8))
    assert np.linalg.norm(far[1]) > 20  # mm
    np.testing.assert_allclose(corners(ours.affine, (16, 16, 16)), corners(oblique_affine, (8, 8, 8)), atol=1e-10)
