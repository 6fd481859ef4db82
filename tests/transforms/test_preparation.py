"""The published preparation against the steps of the dissertation's program, written with numpy from the facts."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medsr.datasets.manifest_files import load_manifest
from medsr.errors import InputError
from medsr.transforms import LoadNormalized, NormalizeIntensityRecordedd, RestoreIntensityd
from medsr.transforms.intensity import OFFSET, SCALE
from medsr.transforms.preparation import KEPT_SLICES, PREPARATION, Preparation, PrepareVolumed

RNG = np.random.default_rng(0)
RAS = np.eye(4)


def published(name: str) -> dict:
    preparation = load_manifest(name).preparation
    assert preparation is not None
    return dict(preparation)


def volume(values: np.ndarray, affine: np.ndarray = RAS) -> MetaTensor:
    values = values if values.ndim == 4 else values[None]
    return MetaTensor(torch.from_numpy(values.astype(np.float32)), affine=torch.as_tensor(affine))


def save(path: Path, values: np.ndarray, affine: np.ndarray = RAS) -> str:
    nib.save(nib.Nifti1Image(values, affine), path)
    return str(path)


def program(
    images: list[np.ndarray],
    labels: np.ndarray | None,
    above: float | None,
    margins: tuple[int, int] | None = None,
    centre: int | None = None,
) -> np.ndarray:
    """(slices, rows, columns, channels): axes 0 and 2 swapped, slices chosen, extremes, then the crop."""
    chosen_by = np.swapaxes(images[0] if labels is None else labels, 0, 2)
    mask = chosen_by.sum(axis=(1, 2)) > above if above is not None else np.ones(len(chosen_by), bool)
    channels = []
    for image in images:
        slices = np.swapaxes(image, 0, 2)[mask].astype(np.float64)
        channels.append((slices - slices.min()) / (slices.max() - slices.min()))
    stack = np.stack(channels, axis=-1)
    if margins:
        return stack[:, margins[0] : -margins[0], margins[1] : -margins[1]]
    if centre:
        top, left = (max((n - centre) // 2, 0) for n in stack.shape[1:3])
        return stack[:, top : top + centre, left : left + centre]
    return stack


def check(result: MetaTensor, expected: np.ndarray) -> None:
    """(C, X, Y, slices) against (slices, rows = Y, columns = X, channels)."""
    np.testing.assert_allclose(result.numpy(), expected.transpose(3, 2, 1, 0), atol=1e-6)
    assert tuple(result.meta["spatial_shape"]) == tuple(result.shape[1:])


def blob(shape: tuple[int, ...], inside: tuple[slice, ...], low: int = 1, high: int = 3000) -> np.ndarray:
    values = np.zeros(shape, np.int16)
    values[inside] = RNG.integers(low, high, values[inside].shape)
    return values


# The datasets


@pytest.mark.parametrize(
    ("name", "margins", "size"),
    [("oasis1", (24, 24), (128, 160)), ("oasis1_published_ch4", (14, 16), (144, 180))],
)
def test_oasis_from_its_files(tmp_path, name, margins, size):
    """Full size, from an Analyze pair through the pipeline that training uses."""
    values = blob((176, 208, 176), np.s_[20:150, 10:190, 30:48])
    values[21:23, 11, 31] = -50, 9000  # the extremes lie outside the crop
    nib.AnalyzeImage(values[..., None], None).to_filename(tmp_path / "a_masked_gfc.hdr")
    item = {"label": str(tmp_path / "a_masked_gfc.img"), PREPARATION: published(name)}
    result = LoadNormalized("minmax")(item)
    seen = nib.load(tmp_path / "a_masked_gfc.img").get_fdata()[..., 0]
    check(result["label"], program([seen], None, 0, margins))
    assert result["label"].shape == (1, *size, 18)
    assert result["label"].meta[KEPT_SLICES] == "30-47"
    assert PREPARATION not in result
    # the affine follows the crop: LAS, middle of the file at the origin
    first = result["label"].affine.numpy() @ [0, 0, 0, 1]
    crop = [(176 - size[0]) // 2, (208 - size[1]) // 2, 30]
    np.testing.assert_allclose(first[:3], [(87.5 - crop[0]), crop[1] - 103.5, crop[2] - 87.5], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "above", "margins"),
    [("brats2017", 100, (24, 24)), ("brats2017_published_ch4", None, (30, 35))],
)
def test_brats_channels_labels_and_gaps(tmp_path, name, above, margins):
    shape = (240, 240, 12)
    images = [blob(shape, np.s_[10:230, 20:220, 1:11], high=500 * k) for k in (1, 2, 3, 4)]
    images[2][50, 50, 1], images[3][11, 100, 4] = 20000, 9000  # in a slice that labels do not keep, outside the crop
    labels = np.zeros(shape, np.uint8)
    labels[100:120, 90:100, 3:6] = 4
    labels[100:110, 100:110, 8] = 1  # sums to 100: not above it
    labels[100:110, 100:111, 9] = 1
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    files = [save(tmp_path / f"{k}.nii.gz", image, affine) for k, image in enumerate(images)]
    item = {"label": files, "segmentation": save(tmp_path / "seg.nii.gz", labels, affine)}
    load = LoadNormalized("minmax").transforms[0]
    prepare = PrepareVolumed(load_segmentation=True)
    result = prepare(load({**item, PREPARATION: published(name)}))
    expected = program(images, labels if above else None, above or 0, margins)
    check(result["label"], expected)
    assert result["label"].shape[0] == 4
    assert result["label"].meta[KEPT_SLICES] == ("3-5,9" if above else "1-10")
    kept = np.swapaxes(labels, 0, 2)[[3, 4, 5, 9] if above else range(1, 11)]
    kept = kept[:, margins[0] : -margins[0], margins[1] : -margins[1]]
    np.testing.assert_array_equal(result["segmentation"][0].numpy(), np.where(kept == 4, 3, kept).transpose(2, 1, 0))
    # LoadNormalized leaves the range of every contrast as it is, and it can be undone
    again = NormalizeIntensityRecordedd(["label"], ["image", "label"], "minmax")(result)
    assert again["label"] is result["label"]
    restored = RestoreIntensityd("label", reference="label")(result)["label"]
    start = {True: (24, 24, 3), False: (35, 30, 1)}[bool(above)]
    np.testing.assert_allclose(
        restored[:, :, :, 0].numpy(),
        [image[start[0] : 240 - start[0], start[1] : 240 - start[1], start[2]] for image in images],
        atol=2e-3,
    )


@pytest.mark.parametrize("shape", [(154, 224, 6), (175, 209, 5), (128, 100, 4)])
@pytest.mark.parametrize("name", ["acdc", "acdc_published_ch4"])
def test_acdc_centre_of_any_size(shape, name):
    image = RNG.integers(0, 900, shape).astype(np.int16)
    labels = np.zeros(shape, np.uint8)
    labels[60:80, 50:70, 1:3] = 3
    item = {"label": volume(image), "segmentation": volume(labels), PREPARATION: published(name)}
    result = PrepareVolumed()(item)
    by_labels = name == "acdc"
    check(result["label"], program([image], labels if by_labels else None, 100 if by_labels else None, centre=128))
    assert result["segmentation"].shape == result["label"].shape


@pytest.mark.parametrize("size", [(512, 512), (630, 630), (630, 401)])
def test_covid_ct_seg(size):
    image = RNG.integers(-1024, 2000, (*size, 4)).astype(np.int16)
    labels = np.zeros((*size, 4), np.uint8)
    labels[200:300, 200:300, 1:] = 2
    item = {"label": volume(image), "segmentation": volume(labels), PREPARATION: published("covid19_ct_seg")}
    check(PrepareVolumed()(item)["label"], program([image], labels, 100, centre=512))


def test_covid19_20_margins():
    image = RNG.integers(-1024, 2000, (512, 512, 3)).astype(np.int16)
    result = PrepareVolumed()({"label": volume(image), PREPARATION: published("covid19_20")})["label"]
    check(result, program([image], None, None, (90, 50)))
    assert result.shape == (1, 412, 332, 3)  # 412 x 332 as the dissertation prints it: left-right first


def test_div2k_is_divided_by_255(tmp_path):
    from PIL import Image

    values = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "0001.png")
    result = LoadNormalized()({"label": str(tmp_path / "0001.png"), PREPARATION: published("div2k")})["label"]
    grey = np.asarray(Image.open(tmp_path / "0001.png").convert("L"), dtype=float)
    np.testing.assert_allclose(result[0, :, :, 0].numpy(), grey.T / 255, atol=1e-6)


# What it promises


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASR", "SLP"])
def test_crop_and_slices_follow_the_patient_not_the_array(codes):
    """The same head stored otherwise is prepared to the same voxels at the same places."""
    image = blob((20, 24, 18), np.s_[:, :, 4:9])
    ornt = nib.orientations.axcodes2ornt(tuple(codes))
    turned = nib.Nifti1Image(image, RAS).as_reoriented(nib.io_orientation(RAS))
    back = nib.orientations.ornt_transform(nib.io_orientation(RAS), ornt)
    turned = nib.Nifti1Image(image, RAS).as_reoriented(back)
    preparation = {
        "plane": "axial",
        "crop": {"left-right": 12, "anterior-posterior": 16},
        "keep": {"of": "image", "above": 0},
        "normalisation": "min-max",
    }
    item = {"label": volume(np.asarray(turned.dataobj), turned.affine), PREPARATION: preparation}
    result = PrepareVolumed()(item)["label"]
    straight = nib.as_closest_canonical(nib.Nifti1Image(result[0].numpy(), result.affine.numpy()))
    span = image[:, :, 4:9].astype(float)
    expected = (span - span.min()) / (span.max() - span.min())
    np.testing.assert_allclose(np.asarray(straight.dataobj), expected[4:16, 4:20], atol=1e-6)
    np.testing.assert_allclose(straight.affine[:3, 3], (4, 4, 4), atol=1e-9)


def test_items_without_a_preparation_pass_unchanged():
    image = volume(RNG.random((5, 6, 7)))
    item = {"label": image, "segmentation": "somewhere.nii.gz", "scale": 2}
    result = PrepareVolumed()(item)
    assert result == item
    assert result["label"] is image
    assert result is not item


@pytest.mark.parametrize("load", [False, True])
def test_a_label_map_is_loaded_when_needed_and_never_left_unprepared(tmp_path, load):
    values = np.ones((6, 6, 4), np.uint8)
    path = save(tmp_path / "seg.nii.gz", values)
    base = {"plane": "axial", "crop": {"left-right": 4}, "normalisation": "none"}
    for preparation in (base, {**base, "keep": {"of": "segmentation", "above": 3}}):
        item = {"label": volume(RNG.random((6, 6, 4))), "segmentation": path, PREPARATION: preparation}
        result = PrepareVolumed(load_segmentation=load)(item)
        assert ("segmentation" in result) == load
        assert not load or result["segmentation"].shape == (1, 4, 6, 4)
        assert item["segmentation"] == path  # the item itself is as it was
        assert PREPARATION in item


def test_label_values_are_exchanged_at_once():
    labels = np.zeros((4, 4, 2), np.uint8)
    labels[:2], labels[2:] = 1, 2
    preparation = {"plane": "axial", "normalisation": "none", "labels": {"1": 2, "2": 1}}
    item = {"label": volume(RNG.random((4, 4, 2))), "segmentation": volume(labels), PREPARATION: preparation}
    np.testing.assert_array_equal(PrepareVolumed()(item)["segmentation"][0].numpy(), 3 - labels)


def test_other_keys_and_range():
    """Items of a segmentation network hold the image as "image" and the label map as "label"."""
    preparation = {"plane": "axial", "normalisation": [100, 300], "keep": {"of": "segmentation", "above": 0}}
    image, labels = np.full((3, 3, 4), 150.0), np.zeros((3, 3, 4))
    labels[0, 0, 2] = 1
    item = {"image": volume(image), "label": volume(labels), PREPARATION: preparation}
    result = PrepareVolumed("image", "label")(item)
    np.testing.assert_allclose(result["image"].numpy(), np.full((1, 3, 3, 1), 0.25))
    assert (result["image"].meta[OFFSET], result["image"].meta[SCALE]) == (100.0, 200.0)
    assert result["label"].shape == (1, 3, 3, 1)


@pytest.mark.parametrize(
    ("preparation", "message"),
    [
        ({"plane": "diagonal"}, "diagonal"),
        ({"crops": {}}, "'crops'"),
        ({"crop": {"up": 3}}, "'up'"),
        ({"keep": {"of": "moon", "above": 1}}, "'moon'"),
        ({"keep": {"above": 1e9, "of": "image"}}, "none of its 4 axial slices has a sum of the image above 1e\\+09"),
        ({"keep": {"of": "segmentation", "above": 1}}, "it has none; complete the dataset"),
        ({"normalisation": "z-score"}, "'z-score'"),
        ({"margins": {"left-right": 3}}, "leave nothing of 5"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(preparation, message):
    item = {"label": volume(RNG.random((5, 6, 4))), PREPARATION: preparation}
    with pytest.raises(InputError if preparation.get("plane") != "diagonal" else ValueError, match=message) as caught:
        PrepareVolumed()(item)
    assert "\n" not in str(caught.value)


def test_label_map_on_another_grid_and_constant_image():
    item = {"label": volume(RNG.random((5, 6, 4))), "segmentation": volume(np.ones((5, 6, 3))), PREPARATION: {}}
    with pytest.raises(InputError, match=r"expected a label map of \(5, 6, 4\) voxels as the image, got \(5, 6, 3\)"):
        PrepareVolumed()(item)
    constant = {"label": volume(np.ones((5, 6, 4))), PREPARATION: {"normalisation": "min-max"}}
    with pytest.raises(InputError, match="the image is constant"):
        PrepareVolumed()(constant)


def test_every_shipped_preparation_is_understood():
    from medsr.datasets.manifest_files import list_manifests

    prepared = [manifest for manifest in list_manifests() if manifest.preparation]
    assert len(prepared) >= 14
    for manifest in prepared:
        Preparation.of(manifest.preparation)
