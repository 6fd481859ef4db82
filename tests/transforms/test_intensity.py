"""Intensities go to [0, 1] and come back in the units they had."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor, decollate_batch, list_data_collate

from medsr.errors import InputError
from medsr.transforms import NormalizeIntensityRecordedd, RestoreIntensityd, StandardizeIntensityRecordedd


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
    back = RestoreIntensityd("pred", reference="image")({**item, "pred": item["image"] * 1})["pred"]
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


def contrasts(*images: MetaTensor) -> MetaTensor:
    """Images of one channel as the channels of one image."""
    return MetaTensor(torch.cat([image.as_tensor() for image in images]))


@pytest.mark.parametrize("method", ["percentile", "minmax"])
def test_contrasts_are_normalised_as_if_each_were_alone(method: str) -> None:
    images = [image_of(values) for values in UNITS.values()]
    transform = NormalizeIntensityRecordedd("image", method=method)
    alone = [transform({"image": image})["image"] for image in images]
    together = transform({"image": contrasts(*images)})["image"]
    assert torch.equal(together.as_tensor(), contrasts(*alone).as_tensor())
    for name in ("intensity_offset", "intensity_scale"):
        assert together.meta[name] == [image.meta[name] for image in alone]


def test_units_of_contrasts_survive_collation() -> None:
    images = [contrasts(*(image_of(k * UNITS[name]) for name in UNITS)) for k in (1, 3)]
    batch = list_data_collate([NormalizeIntensityRecordedd("image")({"image": image}) for image in images])
    batch["pred"] = batch["image"] * 1
    batch["first"] = batch["image"][:, :2] * 1  # a network that returns fewer contrasts than it reads
    for image, item in zip(images, decollate_batch(batch), strict=True):
        restored = RestoreIntensityd(["pred", "first"])(item)
        for key in ("pred", "first"):
            for channel, back in zip(image.as_tensor(), restored[key].as_tensor(), strict=False):
                assert float((back - channel).abs().max()) <= 1e-6 * float(channel.abs().max() + channel.std())
        assert restored["first"].shape[0] == 2


def test_one_window_for_all_channels_where_asked() -> None:
    image = contrasts(image_of([0, 10, 20, 40]), image_of([0, 20, 40, 80]))
    item = NormalizeIntensityRecordedd("image", method="minmax", per_channel=False)({"image": image})
    assert item["image"].amax((1, 2)).tolist() == [0.5, 1]
    assert item["image"].meta["intensity_scale"] == 80


def test_pairs_of_contrasts_share_windows_channel_by_channel() -> None:
    lr = contrasts(image_of([0, 10, 20, 40]), image_of([0, 1, 2, 4]))
    hr = contrasts(image_of([0, 20, 40, 80]), image_of([0, 4, 8, 12]))
    transform = NormalizeIntensityRecordedd(["image", "label"], reference="image", method="minmax")
    pair = transform({"image": lr, "label": hr})
    assert pair["label"].amax((1, 2)).tolist() == [2, 3]
    with pytest.raises(InputError, match="2 channels say how to normalise, but the image has 1"):
        transform({"image": lr, "label": hr[:1]})


def test_a_constant_contrast_is_named() -> None:
    with pytest.raises(InputError, match=r"channel 1 of 2: .*the image is constant \(every voxel is 7\)"):
        NormalizeIntensityRecordedd("image")({"image": contrasts(image_of([1, 2, 3, 4]), image_of([7, 7, 7, 7]))})


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


@pytest.mark.parametrize("channels", [1, 3])
def test_standardised_images_get_their_units_back(channels: int) -> None:
    image = MetaTensor(1000 * torch.rand(channels, 5, 6, generator=torch.Generator().manual_seed(0)) - 300)
    item = NormalizeIntensityRecordedd("image", method="minmax")({"image": image})
    standard = StandardizeIntensityRecordedd("image", 0.370, 0.117)(item)
    torch.testing.assert_close(standard["image"].as_tensor(), (item["image"].as_tensor() - 0.370) / 0.117)
    back = RestoreIntensityd("pred")({**standard, "pred": standard["image"].clone()})["pred"]
    torch.testing.assert_close(back.as_tensor(), image.as_tensor(), atol=1e-3, rtol=0)
    assert "intensity_scale" in item["image"].meta
    again = RestoreIntensityd("image")(item)["image"]
    torch.testing.assert_close(again.as_tensor(), image.as_tensor(), atol=1e-3, rtol=0)  # its record is as it was
    with pytest.raises(InputError, match="no recorded intensity"):
        StandardizeIntensityRecordedd("image", 0.3, 0.1)({"image": image})
    with pytest.raises(InputError, match="a positive standard deviation"):
        StandardizeIntensityRecordedd("image", 0.3, 0)
