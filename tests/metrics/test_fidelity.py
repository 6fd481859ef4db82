from __future__ import annotations

from math import inf, isclose
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.metrics import MAEMetric, MSEMetric, PSNRMetric
from skimage.metrics import mean_squared_error, normalized_root_mse, peak_signal_noise_ratio

from medsr.errors import InputError
from medsr.metrics import mae, mse, nmse, psnr
from medsr.metrics.image_pair import mean_of_finite

SEEDS = st.integers(0, 2**32 - 1)


def images(*shape: int, seed: int = 0, noise: float = 0.05) -> tuple[torch.Tensor, torch.Tensor]:
    """A prediction and its truth, truth in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(*shape, generator=generator)
    return target + noise * torch.randn(*shape, generator=generator), target


@pytest.mark.parametrize("shape", [(1, 17, 12), (1, 9, 7, 11), (3, 8, 8)])
def test_one_case_agrees_with_scikit_image(shape: tuple[int, ...]) -> None:
    p, t = images(*shape)
    truth, image = t.double().numpy(), p.double().numpy()
    dims = len(shape) - 1
    assert psnr(p, t, data_range=1.0, spatial_dims=dims).item() == pytest.approx(
        peak_signal_noise_ratio(truth, image, data_range=1.0), rel=1e-12
    )
    assert mse(p, t, spatial_dims=dims).item() == pytest.approx(mean_squared_error(truth, image), rel=1e-12)
    assert mae(p, t, spatial_dims=dims).item() == pytest.approx(np.abs(truth - image).mean(), rel=1e-12)
    assert nmse(p, t, spatial_dims=dims).item() == pytest.approx(
        normalized_root_mse(truth, image, normalization="euclidean") ** 2, rel=1e-12
    )


def test_a_batch_has_one_value_per_item_and_agrees_with_monai() -> None:
    p, t = images(3, 2, 6, 7, 8)
    for ours, theirs in [
        (psnr(p, t, data_range=2.0), PSNRMetric(max_val=2.0)(p, t)),
        (mse(p, t), MSEMetric()(p, t)),
        (mae(p, t), MAEMetric()(p, t)),
    ]:
        assert ours.shape == (3,)
        torch.testing.assert_close(ours, theirs[:, 0].double(), rtol=1e-5, atol=1e-7)


def test_dissertation_values(shared_parity: Path) -> None:
    stored = torch.load(shared_parity / "metrics_losses.pt", weights_only=True)["metrics"]
    a, b = stored["a"][None], stored["b"][None]
    assert psnr(b, a, data_range=1.0).item() == pytest.approx(stored["psnr_full"], abs=1e-9)
    for border in (2, 3, 4):
        expected = stored[f"psnr_crop{border}"]
        assert psnr(b, a, data_range=1.0, border=border).item() == pytest.approx(expected, abs=1e-9)


def test_integers_do_not_wrap() -> None:
    p, t = torch.full((1, 4, 4), 10, dtype=torch.uint8), torch.full((1, 4, 4), 12, dtype=torch.uint8)
    assert mse(p, t).item() == 4
    assert mae(p, t).item() == 2
    assert psnr(p, t, data_range=255).item() == pytest.approx(10 * np.log10(255**2 / 4))
    wide = torch.tensor([[[-30000, 30000]]], dtype=torch.int16)
    assert psnr(wide, wide.flip(-1), data_range="target").item() == pytest.approx(0)


def test_half_precision_is_computed_in_double() -> None:
    t = torch.full((1, 64, 64), 300.0, dtype=torch.float16)
    assert mse(t + 256, t).item() == 65536  # more than float16 holds


def test_equal_images_have_infinite_psnr() -> None:
    _, t = images(1, 5, 5)
    assert psnr(t, t, data_range=1.0).item() == inf
    assert nmse(t, t).item() == 0


def test_target_data_range_is_per_item_and_before_border_and_mask() -> None:
    p, t = images(2, 1, 8, 8)
    t[1] *= 100
    t[0, 0, 0, 0], t[0, 0, 0, 1] = -1, 3  # in the border, outside the mask
    mask = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    mask[..., 3:6, 3:6] = True
    ours = psnr(p, t, data_range="target", border=2, mask=mask, spatial_dims=2)
    for i in range(2):
        span = (t[i].double().max() - t[i].double().min()).item()
        alone = psnr(p[i, :, 3:6, 3:6], t[i, :, 3:6, 3:6], data_range=span)
        assert ours[i].item() == pytest.approx(alone.item(), rel=1e-12)


def test_border_per_axis() -> None:
    p, t = images(1, 9, 8, 7)
    inner = (slice(None), slice(1, 8), slice(0, 8), slice(3, 4))
    for metric in (mse, mae, nmse):
        assert metric(p, t, border=(1, 0, 3), spatial_dims=3) == metric(p[inner], t[inner], spatial_dims=3)


@pytest.mark.parametrize("shape", [(9, 8), (1, 9, 8), (2, 9, 8)])
def test_mask_of_any_allowed_shape(shape: tuple[int, ...]) -> None:
    p, t = images(2, 9, 8)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.5
    chosen = mask.expand(2, 9, 8)
    error = (p.double() - t.double())[chosen]
    for given_mask in (mask, mask.float(), mask.to(torch.uint8)):
        assert mse(p, t, mask=given_mask).item() == pytest.approx(error.square().mean().item())
        assert mae(p, t, mask=given_mask).item() == pytest.approx(error.abs().mean().item())
    expected = error.square().sum() / t.double()[chosen].square().sum()
    assert nmse(p, t, mask=mask).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_wise_is_the_mean_over_slices(axis: int) -> None:
    p, t = images(2, 1, 5, 6, 7)
    ours = psnr(p, t, data_range=1.0, slice_axis=axis, border=1)
    slices = [
        [psnr(a, b, data_range=1.0, border=1) for a, b in zip(x.unbind(axis + 1), y.unbind(axis + 1), strict=True)]
        for x, y in zip(p, t, strict=True)
    ]
    torch.testing.assert_close(ours, torch.stack([torch.stack(s).mean() for s in slices]))


def test_slice_wise_leaves_out_infinite_and_masked_slices() -> None:
    p, t = images(1, 6, 6, 4)
    p[..., 1] = t[..., 1]
    mask = torch.ones(6, 6, 4, dtype=torch.bool)
    mask[..., 3] = False
    expected = (psnr(p[..., 0], t[..., 0], data_range=1.0) + psnr(p[..., 2], t[..., 2], data_range=1.0)) / 2
    ours = psnr(p, t, data_range=1.0, mask=mask, slice_axis=2, spatial_dims=3)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-12)
    assert psnr(t, t, data_range=1.0, slice_axis=2, spatial_dims=3).item() == inf


def test_nmse_leaves_out_empty_slices_and_refuses_empty_images() -> None:
    p, t = images(1, 6, 6, 3)
    t[..., 1] = 0
    expected = (nmse(p[..., 0], t[..., 0]) + nmse(p[..., 2], t[..., 2])) / 2
    assert nmse(p, t, slice_axis=2, spatial_dims=3).item() == pytest.approx(expected.item())
    with pytest.raises(InputError, match="NMSE has no value: the target is zero"):
        nmse(p[..., 1], t[..., 1])


def test_a_meta_tensor_gives_a_plain_tensor() -> None:
    p, t = images(1, 6, 6)
    result = psnr(MetaTensor(p), MetaTensor(t), data_range=1.0)
    assert type(result) is torch.Tensor
    assert result == psnr(p, t, data_range=1.0)


def test_no_gradient_is_kept() -> None:
    p, t = images(1, 6, 6)
    assert not mse(p.requires_grad_(), t).requires_grad


@given(SEEDS, st.floats(0.01, 1e3), st.floats(-1e3, 1e3))
def test_psnr_does_not_see_an_affine_change_of_intensity(seed: int, gain: float, offset: float) -> None:
    p, t = (x.double() for x in images(1, 7, 6, seed=seed))
    before = psnr(p, t, data_range=1.0).item()
    assert isclose(psnr(gain * p + offset, gain * t + offset, data_range=gain).item(), before, abs_tol=1e-6)
    by_target = psnr(p, t, data_range="target").item()
    assert isclose(psnr(gain * p + offset, gain * t + offset, data_range="target").item(), by_target, abs_tol=1e-6)


@given(SEEDS)
def test_symmetric_but_for_nmse(seed: int) -> None:
    p, t = images(1, 7, 6, seed=seed)
    assert psnr(p, t, data_range=1.0) == psnr(t, p, data_range=1.0)
    assert mse(p, t) == mse(t, p)
    assert mae(p, t) == mae(t, p)


@given(SEEDS, st.floats(1.1, 10))
def test_more_noise_means_less_psnr_by_the_law(seed: int, factor: float) -> None:
    p, t = (x.double() for x in images(1, 7, 6, seed=seed))
    worse = t + factor * (p - t)
    drop = psnr(p, t, data_range=1.0) - psnr(worse, t, data_range=1.0)
    assert isclose(drop.item(), 20 * np.log10(factor), abs_tol=1e-9)
    assert mse(worse, t) > mse(p, t)
    assert nmse(worse, t) > nmse(p, t)


def test_mean_of_finite() -> None:
    nan = float("nan")
    table = torch.tensor([[1.0, 3.0, inf], [inf, nan, inf], [nan, nan, nan], [nan, -2.0, inf]])
    torch.testing.assert_close(mean_of_finite(table), torch.tensor([2.0, inf, nan, -2.0]), equal_nan=True)


IMAGE = torch.rand(1, 6, 6)
NOT_FINITE = IMAGE.clone()
NOT_FINITE[0, 0, :2] = torch.tensor([float("nan"), inf])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mse(IMAGE, IMAGE[:, 1:]), r"one shape, got \(1, 6, 6\) and \(1, 5, 6\)"),
        (lambda: mse(IMAGE[None], IMAGE[None]), "4D tensor .* spatial_dims=3 or spatial_dims=2"),
        (lambda: mse(IMAGE[0], IMAGE[0]), r"expected 2D or 3D images .* got shape \(6, 6\)"),
        (lambda: mse(IMAGE, IMAGE, spatial_dims=3), r"got shape \(1, 6, 6\)"),
        (lambda: mse(IMAGE.numpy(), IMAGE), "prediction must be a real torch tensor, got ndarray"),
        (
            lambda: mse(IMAGE, IMAGE.to(torch.complex64)),
            "target must be a real torch tensor, got torch.complex64",
        ),
        (lambda: mse(IMAGE[:, :0], IMAGE[:, :0]), r"prediction is empty: its shape is \(1, 0, 6\)"),
        (lambda: mse(NOT_FINITE, IMAGE), "prediction must hold finite numbers, 2 of 36 voxels"),
        (lambda: mse(IMAGE, NOT_FINITE), "target must hold finite numbers"),
        (lambda: psnr(IMAGE, IMAGE, data_range=0), "data range must be a positive number .* got 0"),
        (lambda: psnr(IMAGE, IMAGE, data_range=-1.0), "data range must be a positive number"),
        (lambda: psnr(IMAGE, IMAGE, data_range=float("nan")), "data range must be a positive number"),
        (lambda: psnr(IMAGE, IMAGE, data_range=True), "data range must be a positive number"),
        (lambda: psnr(IMAGE, IMAGE, data_range="label"), "number or \"target\", got 'label'"),
        (lambda: psnr(IMAGE, IMAGE * 0, data_range="target"), "target is constant"),
        (
            lambda: mse(IMAGE, IMAGE, border=3),
            r"border of \[3, 3\] .* leaves nothing of an image of \(6, 6\)",
        ),
        (lambda: mse(IMAGE, IMAGE, border=(1, 1, 1)), "2 of them, one per axis"),
        (lambda: mse(IMAGE, IMAGE, border=-1), "voxel count >= 0"),
        (lambda: mse(IMAGE, IMAGE, border=1.5), "voxel count >= 0"),
        (lambda: mse(IMAGE, IMAGE, mask=IMAGE > 2), "mask has no voxel inside the border"),
        (lambda: mse(IMAGE, IMAGE, mask=IMAGE), "bool or hold only 0 and 1"),
        (lambda: mse(IMAGE, IMAGE, mask=IMAGE[:, 1:] > 0), r"image's shape \(1, 6, 6\).*got \(1, 5, 6\)"),
        (lambda: mse(IMAGE, IMAGE, mask=[1]), "mask must be a torch tensor, got list"),
        (
            lambda: mse(IMAGE, IMAGE, slice_axis=0),
            "slices need a 3D volume and axis 0, 1 or 2, got 2D and axis 0",
        ),
        (lambda: mse(IMAGE[None], IMAGE[None], slice_axis=3, spatial_dims=3), "got 3D and axis 3"),
    ],
)
def test_what_cannot_be_compared_is_one_line(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        call()  # type: ignore[operator]
    assert "\n" not in str(error.value)
