"""What cannot be done is refused in one line that says what was expected, what came and what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from medsr.errors import GridError, InputError
from medsr.inferers import SuperResolutionInferer


def volume(noise, **changes):
    return noise(*changes.get("shape", (1, 1, 4, 4, 4)))


@pytest.mark.parametrize(
    ("options", "shape", "error", "message"),
    [
        ({}, (1, 1, 4, 4, 4), GridError, "no scale: give a scale"),
        ({"scale": 0.5}, (1, 1, 4, 4, 4), GridError, "at least 1 on every axis, got 0.5x0.5x0.5"),
        ({"scale": (2, 2)}, (1, 1, 4, 4, 4), GridError, r"one per axis \(3\), got 2"),
        ({"scale": "two"}, (1, 1, 4, 4, 4), GridError, "positive number such as 2, 2.5 or 9/4, got 'two'"),
        ({"scale": object()}, (1, 1, 4, 4, 4), GridError, "a positive number"),
        ({"spacing": 1.0}, (1, 1, 4, 4, 4), GridError, "needs an image with an affine; give a scale instead"),
        (
            {"scale": 200, "max_voxels": 10**6},
            (1, 1, 4, 4, 4),
            GridError,
            r"512,000,000 voxels, above .* 1,000,000; choose",
        ),
        ({"scale": 2}, (1, 2, 4, 4, 4), InputError, r"takes 1 channel\(s\), but the image has 2"),
        ({"scale": 2}, (1, 1, 4, 4), InputError, r"takes 3D images \(batch, channel, \*spatial\), got \(1, 1, 4, 4\)"),
        ({"scale": 2}, (4, 4, 4), InputError, "takes 3D images"),
        ({"scale": 2}, (1, 1, 1, 4, 4, 4), InputError, "takes 3D images"),
        ({"scale": 2}, (1, 1, 4, 0, 4), InputError, "takes 3D images"),
        ({"scale": 2}, (0, 1, 4, 4, 4), InputError, "takes 3D images"),
        ({"scale": 2}, (1, 1, 4, 1, 4), InputError, "axis 1 has a single voxel and cannot be enlarged"),
        (
            {"scale": 2, "tile_size": (4, 4)},
            (1, 1, 4, 4, 4),
            InputError,
            "one number or 3, one per axis of the network",
        ),
    ],
)
def test_refused(made, noise, options, shape, error, message):
    with pytest.raises(error, match=message) as raised:
        SuperResolutionInferer(**options)(noise(*shape), made.recnn(3))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scale": 2, "spacing": 1.0}, GridError, "a scale or a target spacing, not both"),
        ({"memory_mb": 0}, InputError, "must be positive"),
        ({"tile_size": 0}, InputError, "must be positive"),
        ({"tile_size": (4, -1, 4)}, InputError, "must be positive"),
        ({"formation": "gaussain"}, InputError, "the nearest is 'gaussian'"),
        ({"start": "blurred"}, InputError, "interpolated or the consistent"),
        ({"precision": "half"}, InputError, "one of float32, bfloat16, float16, got 'half'"),
        ({"slice_plane": "frontal"}, GridError, "one of sagittal, coronal, axial, got 'frontal'"),
        ({"formation": {"name": "sharpening"}}, InputError, "sharpening"),
    ],
)
def test_refused_before_any_image_is_read(options, error, message):
    with pytest.raises(error, match=message) as raised:
        SuperResolutionInferer(**options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite(made, noise, value):
    lr = noise(1, 1, 4, 4, 4)
    lr[0, 0, 1, 2, 3] = value
    with pytest.raises(InputError, match="holds NaN or infinite values"):
        SuperResolutionInferer(2)(lr, made.recnn(3))


@pytest.mark.parametrize(("row", "value"), [(0, 0.0), (1, float("nan"))])
@pytest.mark.parametrize("options", [{"scale": 2}, {"spacing": 0.5}])
def test_unusable_affines(made, noise, row, value, options):
    affine = np.eye(4)
    affine[row, row] = value
    lr = MetaTensor(noise(1, 1, 4, 4, 4), affine=torch.as_tensor(affine))
    for network in (made.recnn(3), made.recnn(2)):
        with pytest.raises(GridError, match="affine"):
            SuperResolutionInferer(**options)(lr, network)


def test_coarser_spacing(made, noise):
    lr = MetaTensor(noise(1, 1, 4, 4, 4), affine=torch.eye(4, dtype=torch.float64))
    with pytest.raises(GridError, match="coarser than the input's 1x1x1 mm"):
        SuperResolutionInferer(spacing=(1, 1, 2))(lr, made.recnn(3))


@pytest.mark.parametrize("scale", [3, (2, 1), (2, 2.5)])
def test_fixed_networks_have_their_scale(made, noise, scale):
    with pytest.raises(GridError, match=r"the network enlarges by 2x2 only, got \d"):
        SuperResolutionInferer(scale)(noise(1, 1, 4, 4), made.fixed((2, 2)))


def test_guidance(made, noise):
    lr, guided = noise(1, 1, 4, 4, 4), made.recnn(3, in_channels=2)
    cases = [
        (guided, None, InputError, r"takes 2 channel\(s\), but the image has 1$"),
        (guided, noise(1, 2, 8, 8, 8), InputError, r"the image has 1 and 2 of guidance"),
        (guided, noise(1, 1, 4, 4, 4), InputError, r"1 image\(s\) on the SR grid \(8, 8, 8\), got \(1, 1, 4, 4, 4\)"),
        (guided, noise(2, 1, 8, 8, 8), InputError, r"1 image\(s\) on the SR grid"),
        (made.recnn(3), noise(1, 1, 8, 8, 8), InputError, "1 and 1 of guidance"),
    ]
    for network, reference, error, message in cases:
        with pytest.raises(error, match=message):
            SuperResolutionInferer(2)(lr, network, reference=reference)
    fixed = made.fixed((2, 2, 2), channels=2)
    with pytest.raises(InputError, match="only networks that restore an interpolated image take a guidance image"):
        SuperResolutionInferer(2)(lr, fixed, reference=noise(1, 1, 8, 8, 8))


def test_networks_without_a_spec(noise):
    with pytest.raises(InputError, match=r"Conv3d has no spec; use a network of medsr\.networks"):
        SuperResolutionInferer(2)(noise(1, 1, 4, 4, 4), nn.Conv3d(1, 1, 3))


def test_wrapped_networks_are_recognised(made, noise):
    class Parallel(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(x)

    network = made.recnn(3)
    expected = SuperResolutionInferer(2)(noise(1, 1, 4, 4, 4), network)
    torch.testing.assert_close(SuperResolutionInferer(2)(noise(1, 1, 4, 4, 4), Parallel(network)), expected)
