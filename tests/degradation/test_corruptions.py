"""Noise has the statistics it claims; JPEG is Pillow's; protocols apply their steps in order."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from medsr import degradation
from medsr.degradation import Protocol
from medsr.errors import InputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ramp(low, high, shape=(256, 256)):
    return torch.linspace(low, high, shape[0])[None, None, :, None].expand(1, 1, *shape).contiguous()


@pytest.mark.parametrize("options", [{"name": "gaussian-noise"}, {"name": "kspace-noise", "output": "real"}])
def test_gaussian_noise(options):
    x = ramp(-3.0, 5.0)
    residual = degradation.get(**options, sigma=0.05)(x, generator=seeded()) - x
    assert residual.std() == pytest.approx(0.05 * 8, rel=0.02)
    assert residual.mean() == pytest.approx(0, abs=0.01)
    absolute = degradation.get(**options, sigma=0.05, relative=False)(x, generator=seeded()) - x
    torch.testing.assert_close(absolute * 8, residual, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["rician-noise", "kspace-noise"])
def test_magnitude_noise_is_rician(name):
    step = degradation.get(name, sigma=0.1, relative=False)
    background = step(torch.zeros(1, 1, 256, 256), generator=seeded())
    assert background.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.01)  # Rayleigh
    tissue = step(torch.full((1, 1, 256, 256), 2.0), generator=seeded())
    assert tissue.std() == pytest.approx(0.1, rel=0.02)
    assert tissue.mean() == pytest.approx(np.sqrt(4 + 0.1**2), rel=1e-3)


def test_kspace_noise_in_units_of_the_plain_dft():
    step = degradation.get("kspace-noise", sigma=20.0, relative=False, norm="backward", output="real")
    residual = step(torch.zeros(1, 1, 128, 64), generator=seeded())
    assert residual.std() == pytest.approx(20 / np.sqrt(128 * 64), rel=0.03)


def test_relative_noise_is_per_case_and_channel():
    x = torch.cat([ramp(0, 1), ramp(0, 100)], dim=1)
    residual = degradation.get("gaussian-noise", sigma=0.1)(x, generator=seeded()) - x
    assert residual[:, 0].std() == pytest.approx(0.1, rel=0.02)
    assert residual[:, 1].std() == pytest.approx(10, rel=0.02)


def test_global_generator_is_the_default():
    x, step = torch.rand(1, 1, 8, 8), degradation.get("rician-noise")
    torch.manual_seed(7)
    first = step(x)
    torch.manual_seed(7)
    torch.testing.assert_close(first, step(x), atol=0, rtol=0)


def test_jpeg_is_pillows():
    levels = np.random.default_rng(0).integers(0, 256, (1, 2, 24, 40), dtype=np.uint8)
    coded = degradation.get("jpeg", quality=40, value_range=(-1, 3))(torch.from_numpy(levels / 255 * 4 - 1))
    for channel in range(2):
        stream = io.BytesIO()
        Image.fromarray(levels[0, channel]).save(stream, format="JPEG", quality=40)
        expected = np.asarray(Image.open(stream)) / 255 * 4 - 1
        np.testing.assert_allclose(coded[0, channel], expected, atol=1e-12)


def test_jpeg_colour_clips_and_degrades_with_quality():
    x = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 8, generator=seeded()), scale_factor=8, mode="bicubic")
    errors = [(degradation.get("jpeg", quality=q, colour=True)(x) - x.clamp(0, 1)).abs().mean() for q in (95, 50, 10)]
    assert 0 < errors[0] < errors[1] < errors[2] < 0.1
    assert degradation.get("jpeg")(x * 5 - 2).aminmax() == (0, 1)


@pytest.mark.parametrize(("colour", "shape"), [(False, (1, 1, 8, 8, 8)), (True, (1, 1, 8, 8))])
def test_jpeg_refuses(colour, shape):
    with pytest.raises(InputError, match="JPEG takes 2D images"):
        degradation.get("jpeg", colour=colour)(torch.zeros(shape))


def test_protocol_is_its_steps_in_order():
    parts = [
        {"name": "gaussian-blur", "sigma": 0.8},
        {"name": "rician-noise", "sigma": 0.03},
        {"name": "jpeg"},
    ]
    protocol = degradation.from_dict({"name": "old-microscope", "version": 3, "steps": parts})
    x = torch.rand(2, 1, 24, 24, generator=seeded())
    steps = [degradation.from_dict(p) for p in parts]
    expected = steps[2](steps[1](steps[0](x, 2), generator=seeded(1)))
    torch.testing.assert_close(protocol(x, 2, generator=seeded(1)), expected, atol=0, rtol=0)
    again = degradation.from_dict(json.loads(json.dumps(protocol.to_dict())))
    assert again == protocol
    assert (again.name, again.version, again.downsampling) == ("old-microscope", 3, steps[0])
    assert not protocol.linear
    with pytest.raises(InputError, match="no adjoint"):
        protocol.adjoint(x, (48, 48), 2)


def test_protocol_takes_the_alignment_and_adjoint_of_its_degradation():
    inner = degradation.get("pham-scipy-zoom")
    alone = Protocol(name="mine", steps=(inner,))
    assert alone.linear
    assert alone.alignment == "corner"
    x = torch.rand(1, 1, 12, 12)
    torch.testing.assert_close(alone.adjoint(alone(x, 2), (12, 12), 2), inner.adjoint(inner(x, 2), (12, 12), 2))
    np.testing.assert_array_equal(
        alone.lr_affine(np.eye(4), (12, 12, 12), 2), inner.lr_affine(np.eye(4), (12, 12, 12), 2)
    )


def test_nested_protocols_and_noise_before_reduction():
    noise = degradation.get("gaussian-noise")
    inner = Protocol(name="inner", steps=(noise, degradation.get("block-mean")))
    outer = Protocol(name="outer", steps=(inner, noise))
    assert degradation.from_dict(outer.to_dict()) == outer
    assert outer.downsampling == degradation.get("block-mean")
    assert outer(torch.rand(1, 1, 8, 8), 2).shape == (1, 1, 4, 4)
