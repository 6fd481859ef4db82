"""Intensities go to [0, 1] and come back in the units they had."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor, decollate_batch, list_data_collate

from medsr.errors import InputError
from medsr.transforms import NormalizeIntensityRecordedd, RestoreIntensityd


def image_of(values: np.ndarray | list[float]) -> MetaTensor:
    array = np.asarray(values, dtype=np.float32)
    return MetaTensor(torch.as_tensor(array.reshape(1, 2, -1)))


UNITS = {
    "CT in HU": np.linspace(-1024, 3071, 24),
    "all negative": np.linspace(-900, -100, 24),
    "tiny": np.linspace(1e-6, 3e-6, 24),
    "16 bit": np.linspace(0, 65535, 24),
}


@pytest.mark.parametrize("method", ["percentile", "minmax"])
@pytest.mark.parametrize("name", UNITS)
def test_round_trip_keeps_units_and_negatives(name: str, method: str) -> None:
    image = image_of(UNITS[name])
    item = NormalizeIntensityRecordedd("image", method=method)({"image": image})
    assert float(item["image"].min()) == pytest.approx(0, abs=1e-6)
    assert 0.99 <= float(item["image"].max()) <= 1.1  # the percentile lets the brightest voxels exceed 1
    back = RestoreIntensityd("pred", source="image")({**item, "pred": item["image"] * 1})["pred"]
    spread = np.ptp(UNITS[name])
    assert float((back - image).abs().max()) <= 1e-6 * max(spread, abs(UNITS[name]).max())
    assert back.dtype == torch.float32


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=8, max_size=8).filter(lambda v: np.ptp(v) > 1e-2),
    st.sampled_from(["percentile", "minmax"]),
)
def test_round_trip_of_any_image(values: list[float], method: str) -> None:
    image = image_of(values)
    item = NormalizeIntensityRecordedd("image", method=method)({"image": image})
    back = RestoreIntensityd("image")(item)["image"]
    assert float((back - image).abs().max()) <= 4e-7 * max(np.abs(values).max(), np.ptp(values))


def test_max_keeps_zero_where_it_is() -> None:
    item = NormalizeIntensityRecordedd("image", method="max")({"image": image_of([0, 5, 10, 20])})
    assert item["image"].flatten().tolist() == [0, 0.25, 0.5, 1]


def test_percentile_ignores_a_few_bright_voxels_and_clips_none() -> None:
    values = np.append(np.linspace(0, 100, 9999), 1e6).reshape(1, 100, 100)
    item = NormalizeIntensityRecordedd("image")({"image": MetaTensor(torch.as_tensor(values))})
    assert float(np.sort(item["image"].numpy().ravel())[-3]) == pytest.approx(1, abs=0.01)
    assert float(item["image"].max()) > 1000


def test_nearly_empty_image_keeps_its_range() -> None:
    values = np.zeros((1, 40, 40), dtype=np.float32)
    values[0, 3, 3] = 7
    item = NormalizeIntensityRecordedd("image")({"image": MetaTensor(torch.as_tensor(values))})
    assert float(item["image"].max()) == 1


def test_record_survives_collation() -> None:
    images = {k: image_of(np.linspace(-k, 100 * k, 24)) for k in (1, 2, 3)}
    items = [NormalizeIntensityRecordedd("image")({"image": image}) for image in images.values()]
    batch = list_data_collate(items)
    batch["pred"] = batch["image"] * 1
    restored = [RestoreIntensityd("pred")(item)["pred"] for item in decollate_batch(batch)]
    for image, back in zip(images.values(), restored, strict=True):
        assert float((back - image).abs().max()) < 1e-4


def test_deviation_is_scaled_but_not_offset() -> None:
    item = NormalizeIntensityRecordedd("image", method="minmax")({"image": image_of([-100, 0, 50, 100])})
    item["std"] = MetaTensor(torch.full((1, 2, 2), 0.25))
    restored = RestoreIntensityd("std", deviation=True)(item)["std"]
    assert restored.flatten().tolist() == [50] * 4


def test_pair_shares_the_window_of_the_first_reference_present() -> None:
    lr, hr = image_of([0, 10, 20, 40]), image_of([0, 20, 40, 80])
    transform = NormalizeIntensityRecordedd(
        ["image", "label"], reference=["image", "label"], method="minmax", allow_missing_keys=True
    )
    pair = transform({"image": lr, "label": hr})
    assert float(pair["image"].max()) == 1
    assert float(pair["label"].max()) == 2
    alone = transform({"label": hr})
    assert float(alone["label"].max()) == 1
    assert "image" not in alone
    with pytest.raises(InputError, match="no image 'image' or 'label'"):
        transform({"other": hr})


def test_input_is_left_alone() -> None:
    image = image_of([1, 2, 3, 4])
    data = {"image": image}
    NormalizeIntensityRecordedd("image")(data)
    assert data["image"] is image
    assert image.flatten().tolist() == [1, 2, 3, 4]
    assert "intensity_scale" not in image.meta


def test_affine_is_kept(oblique_affine: np.ndarray) -> None:
    image = MetaTensor(torch.rand(1, 3, 4, 5), affine=torch.as_tensor(oblique_affine))
    item = NormalizeIntensityRecordedd("image")({"image": image})
    back = RestoreIntensityd("image")(item)["image"]
    assert np.array_equal(back.affine.numpy(), oblique_affine)


@pytest.mark.parametrize(
    ("values", "method", "message"),
    [
        ([5, 5, 5, 5], "percentile", r"the image is constant \(every voxel is 5\)"),
        ([0, 0, 0, 0], "max", "the image is constant"),
        ([-4, -3, -2, -1], "max", r"maximum is -1; .*needs a positive one"),
        ([0, 1, np.nan, 2], "minmax", "NaN or infinite"),
        ([0, 1, np.inf, 2], "percentile", "NaN or infinite"),
        ([0, 1, 2, 3], "median", "one of percentile, minmax, max, got 'median'"),
    ],
)
def test_unusable_images_are_one_line_errors(values: list[float], method: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        NormalizeIntensityRecordedd("image", method=method)({"image": image_of(values)})
    assert "\n" not in str(error.value)


def test_restoring_without_a_record_says_what_is_missing() -> None:
    with pytest.raises(InputError, match="put NormalizeIntensityRecordedd before"):
        RestoreIntensityd("pred")({"image": image_of([1, 2, 3, 4]), "pred": image_of([1, 2, 3, 4])})
