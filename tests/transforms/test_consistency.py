"""Consistent starts, and many patches of one simulated volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from medsr import degradation
from medsr.degradation import ExactConsistency, Protocol, mu_of_noise
from medsr.errors import InputError
from medsr.geometry import as_scale
from medsr.interpolation import resize
from medsr.transforms import ConsistentStartd, RandPatchesd, SimulateLowResolutiond, VolumeTraining, VolumeValidation
from medsr.transforms.consistency import noise_of

Texture = Callable[..., MetaTensor]
BLOCK, KSPACE = degradation.get("block-mean"), degradation.get("kspace-truncation")


def simulated(hr: MetaTensor, scale=2, **options) -> dict:
    return SimulateLowResolutiond(scale=scale, seed=0, **options)({"label": hr})


def started(item: dict, model, mu: float, scale=2) -> torch.Tensor:
    lr, hr = item["image"].as_tensor()[None], item["label"]
    return ExactConsistency(model, hr.shape[1:], lr.shape[2:], as_scale(scale, 3), mu).start(lr)[0]


class TestConsistentStartd:
    @pytest.mark.parametrize("scale", [2, (1, 2, 1.5)], ids=str)
    def test_it_is_the_start_of_the_known_formation_on_the_hr_grid(self, texture: Texture, scale) -> None:
        item = simulated(texture((12, 16, 18)), scale, degradation="slice-profile")
        made = ConsistentStartd()(item)
        expected = started(item, degradation.get("slice-profile"), mu_of_noise(0), scale)
        torch.testing.assert_close(made["image"].as_tensor(), expected)
        torch.testing.assert_close(made["image"].affine, item["label"].affine)
        assert item["image"].shape != made["image"].shape, "the item itself is not changed"

    def test_noise_sets_mu(self, texture: Texture) -> None:
        noisy = Protocol(name="noisy", steps=(BLOCK, degradation.get("rician-noise", sigma=0.03)))
        item = simulated(texture((12, 12, 12)), degradation=noisy)
        span = float(item["image"].max() - item["image"].min())
        made = ConsistentStartd()(item)["image"]
        torch.testing.assert_close(made.as_tensor(), started(item, BLOCK, mu_of_noise(0.03 * span)))

    def test_a_withheld_formation_is_replaced_by_an_assumed_one(self, texture: Texture) -> None:
        item = simulated(texture((12, 12, 12)), degradation="gaussian-blur")
        always = ConsistentStartd(withheld=1.0, assumed=["kspace-truncation"])
        torch.testing.assert_close(always(item)["image"].as_tensor(), started(item, KSPACE, mu_of_noise(0)))
        half = ConsistentStartd(withheld=0.5, assumed=["kspace-truncation", "block-mean"])
        half.set_random_state(0)
        made = [half(item)["image"].as_tensor() for _ in range(60)]
        models = [degradation.get("gaussian-blur"), KSPACE, BLOCK]
        kinds = [started(item, model, mu_of_noise(0)) for model in models]
        counts = [sum(torch.allclose(m, kind, atol=1e-6) for m in made) for kind in kinds]
        assert sum(counts) == 60
        assert counts[0] == pytest.approx(30, abs=12)
        assert min(counts[1:]) > 4

    def test_a_real_pair_that_was_interpolated_stays(self, texture: Texture) -> None:
        item = {"label": texture((8, 8, 8)), "image": texture((8, 8, 8))}
        assert ConsistentStartd()(item)["image"] is item["image"]

    def test_wrong_arguments_and_images_are_refused(self, texture: Texture) -> None:
        with pytest.raises(InputError, match="expected a simulated LR image"):
            ConsistentStartd()({"label": texture((8, 8, 8)), "image": texture((4, 4, 4))})
        for wrong in ({"withheld": 2}, {"noise_spread": 0.5}, {"assumed": []}):
            with pytest.raises(InputError, match="a share between 0 and 1"):
                ConsistentStartd(**wrong)
        jpeg = Protocol(name="jpeg", steps=(BLOCK, degradation.get("jpeg")))
        with pytest.raises(InputError, match="noise of jpeg is not known"):
            noise_of(jpeg)


class TestRandPatchesd:
    def test_patches_are_cut_at_one_place_of_all_images_and_turned_alike(self) -> None:
        index = torch.arange(10 * 12 * 9, dtype=torch.float32).reshape(1, 10, 12, 9)
        item = {"image": MetaTensor(index + 0.5), "label": MetaTensor(index)}
        cut = RandPatchesd(("image", "label"), 4, coverage=2.0)
        cut.set_random_state(3)
        patches = cut(item)
        assert len(patches) == min(32, round(2 * 10 * 12 * 9 / 64))
        firsts = set()
        for patch in patches:
            torch.testing.assert_close(patch["image"], patch["label"] + 0.5)
            values = np.sort(np.unique(patch["label"].numpy()))
            x, y, z = np.unravel_index(int(values[0]), (10, 12, 9))
            block = index[0, x : x + 4, y : y + 4, z : z + 4]
            np.testing.assert_array_equal(values, np.sort(block.flatten()))
            firsts.add((x, y, z))
        assert len(firsts) > 20

    def test_small_images_are_mirrored_and_empty_ones_end(self) -> None:
        item = {"image": MetaTensor(torch.zeros(1, 3, 5, 5)), "label": MetaTensor(torch.zeros(1, 3, 5, 5))}
        (patch,) = RandPatchesd(("image", "label"), 5)(item)
        assert patch["label"].shape == (1, 5, 5, 5)

    def test_images_on_two_grids_are_refused(self) -> None:
        item = {"image": MetaTensor(torch.zeros(1, 3, 3, 3)), "label": MetaTensor(torch.zeros(1, 6, 6, 6))}
        with pytest.raises(InputError, match="on one grid"):
            RandPatchesd(("image", "label"), 2)(item)


def test_training_and_validation_pipelines_start_as_they_are_told(texture: Texture, tmp_path: Path) -> None:
    hr = texture((24, 20, 22))
    nib.save(nib.Nifti1Image(hr.numpy()[0], np.eye(4)), tmp_path / "hr.nii.gz")
    item = {"label": str(tmp_path / "hr.nii.gz")}
    validation = VolumeValidation(2, "slice-profile", start="consistent")(item)
    simulated_item = SimulateLowResolutiond(scale=2, seed=0, degradation="slice-profile")(
        {"label": validation["label"]}
    )
    expected = started(simulated_item, degradation.get("slice-profile"), mu_of_noise(0))
    torch.testing.assert_close(validation["image"].as_tensor(), expected, atol=1e-5, rtol=0)
    plain = VolumeValidation(2, "slice-profile")(item)["image"].as_tensor()
    torch.testing.assert_close(
        plain, resize(simulated_item["image"].as_tensor()[None], as_scale(2, 3))[0], atol=1e-5, rtol=0
    )

    training = VolumeTraining(
        [2, (1, 1, 3)], patch_size=8, degradation="acquisition-3d", start="consistent", withheld=0.5
    )
    assert isinstance(training, Compose)
    training.set_random_state(0)
    torch.manual_seed(0)
    first = training(item)
    assert len(first) > 10
    assert {tuple(p["image"].shape) for p in first} == {(1, 8, 8, 8)}
    training.set_random_state(0)
    torch.manual_seed(0)
    again = training(item)
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, again, strict=True))
