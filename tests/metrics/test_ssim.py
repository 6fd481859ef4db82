from __future__ import annotations

from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import SSIMMetric
from skimage.metrics import structural_similarity

from medsr.errors import InputError
from medsr.metrics import SSIM_DEFINITIONS, SSIMDefinition, ssim, ssim_map
from medsr.metrics import ssim as ssim_function

SCIKIT_IMAGE: dict[str, dict[str, Any]] = {
    "uniform7": {},
    "gaussian11": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
}
DEFINITIONS = st.sampled_from(sorted(SSIM_DEFINITIONS))


def images(*shape: int, seed: int = 0, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """A prediction and its truth: a smooth pattern of size about 1, so that SSIM is well inside (0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape[1:]), indexing="ij")
    pattern = 0.5 + 0.4 * torch.sin(sum((0.5 + i) * a for i, a in enumerate(axes)) / 3)
    target = pattern + 0.1 * torch.rand(*shape, generator=generator)
    return target + noise * torch.randn(*shape, generator=generator), target


def oracle(p: torch.Tensor, t: torch.Tensor, name: str, data_range: float = 1.0, **options: Any) -> Any:
    return structural_similarity(
        t.double().numpy(), p.double().numpy(), data_range=data_range, **SCIKIT_IMAGE[name], **options
    )


@pytest.mark.parametrize("name", sorted(SSIM_DEFINITIONS))
@pytest.mark.parametrize("shape", [(11, 11), (31, 24), (40, 11), (11, 13, 12), (21, 16, 18)])
def test_agrees_with_scikit_image(name: str, shape: tuple[int, ...]) -> None:
    p, t = images(1, *shape)
    ours = ssim(p, t, data_range=1.0, definition=name, spatial_dims=len(shape)).item()
    assert ours == pytest.approx(oracle(p[0], t[0], name), abs=1e-12)
    assert 0.05 < ours < 0.99


@pytest.mark.parametrize("name", sorted(SSIM_DEFINITIONS))
def test_batches_channels_and_borders(name: str) -> None:
    p, t = images(6, 25, 22)
    p, t = p.view(3, 2, 25, 22), t.view(3, 2, 25, 22)
    ours = ssim(p, t, data_range=2.0, definition=name, border=(2, 4), spatial_dims=2)
    for i in range(3):
        inner = (slice(None), slice(2, -2), slice(4, -4))
        expected = oracle(p[i][inner], t[i][inner], name, 2.0, channel_axis=0)
        assert ours[i].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", sorted(SSIM_DEFINITIONS))
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_wise_agrees_with_scikit_image(name: str, axis: int) -> None:
    p, t = images(1, 13, 15, 12)
    expected = np.mean([oracle(a, b, name) for a, b in zip(p[0].unbind(axis), t[0].unbind(axis), strict=True)])
    ours = ssim(p, t, data_range=1.0, definition=name, slice_axis=axis, spatial_dims=3)
    assert ours.item() == pytest.approx(expected, abs=1e-12)


def test_thin_stacks_can_be_compared_slice_by_slice() -> None:
    p, t = images(1, 20, 20, 3)
    assert 0 < ssim(p, t, data_range=1.0, slice_axis=2, spatial_dims=3) < 1
    with pytest.raises(InputError, match=r"needs at least 11 voxels .* got \(20, 20, 3\).*slice_axis"):
        ssim(p, t, data_range=1.0, spatial_dims=3)


@pytest.mark.parametrize("shape", [(24, 20), (14, 15, 16)])
def test_agrees_with_monai(shape: tuple[int, ...]) -> None:
    p, t = (x.float() for x in images(2, *shape))
    p, t = p[:, None], t[:, None]
    theirs = SSIMMetric(spatial_dims=len(shape), data_range=1.0)(p, t)
    ours = ssim(p, t, data_range=1.0, spatial_dims=len(shape))
    torch.testing.assert_close(ours, theirs[:, 0].double(), atol=2e-5, rtol=0)


def test_dissertation_values(shared_parity: Path) -> None:
    stored = torch.load(shared_parity / "metrics_losses.pt", weights_only=True)["metrics"]
    a, b = stored["a"][None], stored["b"][None]
    full = ssim(b, a, data_range=1.0, definition="uniform7").item()
    assert full == pytest.approx(stored["ssim_full_skimage_default"], abs=1e-9)
    for border in (2, 3, 4):
        ours = ssim(b, a, data_range=1.0, definition="uniform7", border=border).item()
        assert ours == pytest.approx(stored[f"ssim_crop{border}"], abs=1e-9)
    gaussian = ssim(b, a, data_range=1.0, definition="gaussian11").item()
    assert gaussian == pytest.approx(stored["ssim_gaussian_11_1.5"], abs=1e-9)


@pytest.mark.parametrize("name", sorted(SSIM_DEFINITIONS))
def test_map_and_mask(name: str) -> None:
    p, t = images(1, 20, 18)
    _, full = oracle(p[0], t[0], name, full=True)
    radius = SSIM_DEFINITIONS[name].radius
    inside = (slice(radius, -radius), slice(radius, -radius))
    ours = ssim_map(p, t, data_range=1.0, definition=name)
    np.testing.assert_allclose(ours[0].numpy(), full[inside], atol=1e-12)
    mask = torch.rand(20, 18, generator=torch.Generator().manual_seed(3)) > 0.7
    masked = ssim(p, t, data_range=1.0, definition=name, mask=mask).item()
    assert masked == pytest.approx(full[inside][mask.numpy()[inside]].mean(), abs=1e-12)


def test_mask_where_no_window_fits() -> None:
    p, t = images(1, 20, 18)
    mask = torch.zeros(20, 18, dtype=torch.bool)
    mask[0] = True
    with pytest.raises(InputError, match=r"SSIM has no value: .*no window of the image lies in the mask"):
        ssim(p, t, data_range=1.0, mask=mask)


@pytest.mark.parametrize("block", [1, 700, 5000, 10**9])
@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 2, 17, 14, 13), None), ((2, 2, 17, 14, 13), 1), ((5, 1, 17, 13), None)]
)
def test_working_in_blocks_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, block: int, shape: tuple[int, ...], axis: int | None
) -> None:
    generator = torch.Generator().manual_seed(5)
    p, t, keep = (torch.rand(shape, generator=generator) for _ in range(3))
    options: dict[str, Any] = {"slice_axis": axis, "spatial_dims": len(shape) - 2, "mask": keep > 0.5}
    expected = ssim(p, t, data_range="target", **options)
    module = __import__("sys").modules[ssim_function.__module__]
    monkeypatch.setattr(module, "BLOCK_VOXELS", block)
    torch.testing.assert_close(ssim(p, t, data_range="target", **options), expected, rtol=1e-12, atol=1e-12)


def test_integers_and_large_offsets() -> None:
    p, t = images(1, 20, 20)
    p8, t8 = ((255 * x).clamp(0, 255).to(torch.uint8) for x in (p, t))
    expected = oracle(p8[0], t8[0], "uniform7", 255.0)
    assert ssim(p8, t8, data_range=255, definition="uniform7").item() == pytest.approx(expected, abs=1e-12)
    far = ssim(p.float() + 3e4, t.float() + 3e4, data_range=1.0).item()  # float32 would lose the variances
    assert -1 <= far <= 1


@given(st.integers(0, 2**32 - 1), DEFINITIONS, st.floats(1e-3, 1e4))
def test_properties(seed: int, name: str, gain: float) -> None:
    p, t = images(1, 13, 12, seed=seed)
    value = ssim(p, t, data_range=1.0, definition=name).item()
    assert -1 <= value < 1
    assert isclose(ssim(t, p, data_range=1.0, definition=name).item(), value, abs_tol=1e-12)
    scaled = ssim(gain * p, gain * t, data_range=gain, definition=name).item()
    assert isclose(scaled, value, abs_tol=1e-9)
    assert isclose(ssim(t, t, data_range=1.0, definition=name).item(), 1, abs_tol=1e-12)
    assert ssim(t + 3 * (p - t), t, data_range=1.0, definition=name).item() < value


def test_own_definition() -> None:
    p, t = images(1, 16, 16)
    own = SSIMDefinition("uniform9", size=9, sigma=None, sample_covariance=True)
    expected = structural_similarity(t[0].numpy(), p[0].numpy(), data_range=1.0, win_size=9)
    assert ssim(p, t, data_range=1.0, definition=own).item() == pytest.approx(expected, abs=1e-12)


def test_what_cannot_be_compared_is_one_line() -> None:
    p, t = images(1, 10, 30)
    with pytest.raises(InputError, match=r"gaussian11 needs at least 11 voxels on every axis, got \(10, 30\)"):
        ssim(p, t, data_range=1.0)
    with pytest.raises(InputError, match=r"uniform7 needs at least 7 voxels .* got \(6, 26\)"):
        ssim(p, t, data_range=1.0, definition="uniform7", border=2)
    with pytest.raises(InputError, match="one of uniform7, gaussian11, got 'wang'"):
        ssim(p, t, data_range=1.0, definition="wang")
    with pytest.raises(InputError, match="odd size >= 3"):
        SSIMDefinition("even", size=8, sigma=None, sample_covariance=True)
