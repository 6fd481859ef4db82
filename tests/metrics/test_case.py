from __future__ import annotations

import json
import warnings
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medsr.errors import InputError, MedsrError
from medsr.metrics import (
    METRICS,
    PROTOCOLS,
    CaseMetrics,
    FidelityMetric,
    Protocol,
    get_protocol,
    mae,
    nmse,
    psnr,
    ssim,
)


def images(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(*shape, generator=generator)
    return target + 0.05 * torch.randn(*shape, generator=generator), target


def test_volume_protocol_is_the_plain_functions() -> None:
    p, t = images(1, 14, 13, 12)
    p, t = 700 * p, 700 * t
    values = CaseMetrics("volume")(p, t)
    assert list(values) == [*METRICS, "data_range"]
    options: dict[str, Any] = {"spatial_dims": 3}
    assert values["psnr"] == psnr(p, t, data_range="target", **options)
    assert values["ssim"] == ssim(p, t, data_range="target", definition="gaussian11", **options)
    assert values["mae"] == mae(p, t, **options)
    assert values["nmse"] == nmse(p, t, **options)
    assert values["data_range"] == pytest.approx((t.max() - t.min()).item())


def test_dissertation_protocol_is_scikit_image_on_axial_slices() -> None:
    p, t = images(1, 20, 6, 21)
    affine = np.eye(4)[[0, 2, 1, 3]]  # world z is array axis 1: axial slices are 20 x 21
    values = CaseMetrics("dissertation")(p, t, scale=2.5, affine=affine)
    inner = (slice(3, -3), slice(3, -3))
    pairs = [(p[0, :, i][inner].double().numpy(), t[0, :, i][inner].double().numpy()) for i in range(6)]
    expected = np.mean([peak_signal_noise_ratio(b, a, data_range=1.0) for a, b in pairs])
    assert values["psnr"] == pytest.approx(expected, abs=1e-9)
    expected = np.mean([structural_similarity(b, a, data_range=1.0) for a, b in pairs])
    assert values["ssim"] == pytest.approx(expected, abs=1e-9)
    assert values["slices"] == 6
    assert values["infinite_slices"] == 0
    assert CaseMetrics("dissertation")(p, MetaTensor(t, affine=affine), scale=2.5) == values


def test_a_2d_case_is_one_slice() -> None:
    p, t = images(1, 20, 22)
    values = CaseMetrics("dissertation")(p, t, scale=(2, 3))
    assert values["psnr"] == psnr(p, t, data_range=1.0, border=(2, 3))
    assert "slices" not in values


def test_border_of_a_volume_leaves_all_slices() -> None:
    p, t = images(1, 16, 17, 5)
    protocol = Protocol("own", data_range=1.0, ssim="uniform7", border="scale", slice_axis=2)
    values = CaseMetrics(protocol)(p, t, scale=(1, 2, 3))
    assert values["slices"] == 5
    assert values["psnr"] == psnr(p, t, data_range=1.0, border=(1, 2), slice_axis=2, spatial_dims=3)
    assert CaseMetrics(replace(protocol, border=(1, 2, 3)))(p, t) == values


def test_slices_without_error_or_mask_are_counted() -> None:
    p, t = images(1, 16, 17, 5)
    p[..., 0] = t[..., 0]
    mask = torch.ones(16, 17, 5, dtype=torch.bool)
    mask[..., 4] = False
    measure = CaseMetrics(Protocol("own", data_range=1.0, slice_axis=2))
    values = measure(p, t, mask=mask)
    assert (values["slices"], values["infinite_slices"]) == (4, 1)
    assert np.isfinite(values["psnr"])
    assert measure(t, t)["psnr"] == np.inf


def test_warns_where_the_units_cannot_be_the_stated_ones() -> None:
    p, t = images(1, 20, 20)
    measure = CaseMetrics(Protocol("own", data_range=1.0))
    with pytest.warns(UserWarning, match=r'"own" states a data range of 1, but the target spans'):
        measure(1000 * p, 1000 * t)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(p, t)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CaseMetrics("dissertation")(*images(1, 20, 20, 20)), "takes axial slices: give the affine"),
        (
            lambda: CaseMetrics("dissertation")(*images(1, 20, 20, 20), affine=np.eye(4)),
            r"removes ceil\(scale\) voxels: give the scale",
        ),
        (lambda: CaseMetrics("dissertation")(*images(1, 20, 20), scale=(2, 2, 2)), "one per axis"),
        (lambda: CaseMetrics()(*images(2, 1, 8, 8, 8)), r"expected one case as a tensor .* got \(2, 1, 8, 8, 8\)"),
        (lambda: CaseMetrics()(None, None), "expected one case as a tensor .* got NoneType"),  # type: ignore[arg-type]
        (lambda: get_protocol("whole"), "one of volume, dissertation or a dict of fields, got 'whole'"),
        (lambda: get_protocol({"name": "own"}), "needs name and data_range .* got name"),
        (lambda: get_protocol({"name": "own", "data_range": 1, "window": 7}), "got name, data_range, window"),
        (lambda: Protocol("own", data_range=0), 'positive number or "target", got 0'),
        (lambda: Protocol("own", data_range=1.0, border="ceil"), "\"scale\", got 'ceil'"),
        (lambda: Protocol("own", data_range=1.0, slice_axis=3), "got 3"),
        (lambda: Protocol("own", data_range=1.0, metrics=("psnr", "fid")), r"got \['psnr', 'fid'\]"),
        (lambda: Protocol("own", data_range=1.0, ssim="wang"), "SSIM definition must be one of"),
        (lambda: FidelityMetric("dice"), "metrics must be some of"),
    ],
)
def test_what_cannot_be_measured_is_one_line(call: Any, message: str) -> None:
    with pytest.raises(MedsrError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


PROTOCOL = st.builds(
    Protocol,
    name=st.text(),
    data_range=st.just("target") | st.floats(1e-6, 1e6),
    ssim=st.sampled_from(["uniform7", "gaussian11"]),
    border=st.just("scale") | st.integers(0, 9) | st.tuples(st.integers(0, 9), st.integers(0, 9)),
    slice_axis=st.sampled_from([None, 0, 1, 2, "axial", "coronal", "sagittal"]),
    metrics=st.lists(st.sampled_from(METRICS), min_size=1, unique=True).map(tuple),
)


@given(PROTOCOL)
def test_a_protocol_comes_back_from_json(protocol: Protocol) -> None:
    stored = json.loads(json.dumps(protocol.to_dict()))
    assert Protocol.from_dict(stored) == get_protocol(stored) == protocol
    assert stored["ssim_definition"]["name"] == protocol.ssim


def test_border_by_scale_is_its_ceiling() -> None:
    protocol = PROTOCOLS["dissertation"]
    assert protocol.border_voxels(3, 2.5) == (3, 3, 3)
    assert protocol.border_voxels(2, (Fraction(7, 3), 4)) == (3, 4)
    assert protocol.border_voxels(3, [1, 1.1, 2]) == (1, 2, 2)


@pytest.mark.parametrize("metric", METRICS)
def test_monai_metric_is_the_mean_over_cases(metric: str) -> None:
    p, t = images(3, 1, 12, 11, 13)
    measure = FidelityMetric(metric)
    measure(p[:2], t[:2])
    measure([p[2]], [t[2]])
    single = [CaseMetrics()(a, b)[metric] for a, b in zip(p, t, strict=True)]
    assert measure.aggregate().item() == pytest.approx(np.mean(single), rel=1e-6)
    torch.testing.assert_close(measure.aggregate("none"), torch.tensor(single)[:, None])
    measure.reset()
    with pytest.raises(InputError, match="no case was measured"):
        measure.aggregate()


def test_monai_metric_is_not_poisoned_by_equal_images() -> None:
    p, t = images(2, 1, 12, 12)
    p[0] = t[0]
    measure = FidelityMetric("psnr")
    assert measure(p, t).flatten()[0].isinf()  # type: ignore[union-attr]
    assert measure.aggregate().item() == pytest.approx(CaseMetrics()(p[1], t[1])["psnr"], rel=1e-6)


def test_monai_metric_takes_slices_from_the_affine_of_a_batch() -> None:
    p, t = images(1, 1, 12, 13, 14)
    affine = np.eye(4)[[2, 1, 0, 3]]  # axial slices are along the first axis
    protocol = Protocol("own", data_range=1.0, slice_axis="axial")
    expected = CaseMetrics(replace(protocol, slice_axis=0))(p[0], t[0])["psnr"]
    measure = FidelityMetric("psnr", protocol)
    assert measure([p[0]], [MetaTensor(t[0], affine=affine)]).item() == pytest.approx(expected)  # type: ignore[union-attr]


def test_monai_metric_wants_a_target_for_every_prediction() -> None:
    p, t = images(2, 1, 12, 12)
    with pytest.raises(InputError, match="2 predictions and 1 targets"):
        FidelityMetric()(list(p), list(t[:1]))


@pytest.mark.gpu
def test_cuda_and_cpu_agree() -> None:
    p, t = images(1, 40, 41, 42)
    on_cpu, on_gpu = CaseMetrics()(p, t), CaseMetrics()(p.cuda(), t)  # a target left on the CPU is moved
    assert on_gpu == pytest.approx(on_cpu, rel=1e-9)
    measure = FidelityMetric("psnr")
    measure([p.cuda()], [t.cuda()])
    assert measure.aggregate().is_cuda


@pytest.mark.parametrize("protocol", ["volume", "dissertation"])
def test_contrasts_are_measured_one_by_one(protocol: str) -> None:
    """Each as if it were alone; the case has their mean."""
    p, t = images(3, 16, 15, 14)
    units = torch.tensor([1.0, 0.5, 0.25]).reshape(3, 1, 1, 1)
    p, t = p * units, t * units
    mask = t > 0.01
    options: dict[str, Any] = {"scale": 2, "affine": np.eye(4)}
    measure = CaseMetrics(protocol)
    names = ["T1w", "T2w", "FLAIR"]
    alone = [measure(p[k : k + 1], t[k : k + 1], mask=mask[k : k + 1], **options) for k in range(3)]
    together = measure(p, t, mask=mask, contrasts=names, **options)
    for metric in METRICS:
        assert [together[f"{metric}_{name}"] for name in names] == [values[metric] for values in alone]
        assert together[metric] == pytest.approx(np.mean([values[metric] for values in alone]), rel=1e-12)
    assert measure(p, t, mask=mask, **options)["psnr_channel_2"] == alone[2]["psnr"]
    ranges = {f"data_range_{name}" for name in names}
    assert ranges & set(together) == (ranges if protocol == "volume" else set())
    if protocol == "dissertation":
        assert together["slices"] == 14
        assert together["infinite_slices"] == 0


def test_a_contrast_without_an_error_is_left_out_of_the_mean() -> None:
    p, t = images(2, 12, 12, 12)
    p[1] = t[1]
    values = CaseMetrics("volume")(p, t)
    assert values["psnr_channel_1"] == float("inf")
    assert values["psnr"] == values["psnr_channel_0"]
    assert values["mae"] == values["mae_channel_0"] / 2


def test_names_of_contrasts_must_fit() -> None:
    with pytest.raises(InputError, match="got 2 channels and 3 names: a, b, c"):
        CaseMetrics("volume")(*images(2, 12, 12, 12), contrasts=["a", "b", "c"])
