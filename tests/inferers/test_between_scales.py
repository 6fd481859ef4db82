"""Fixed networks between the scales they were built for: up by the next one, then down (Zhu 2022, section 4.3.4)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medsr.errors import GridError, InputError
from medsr.geometry import as_scale
from medsr.inferers import SuperResolutionInferer
from medsr.networks.registry import small


def up_and_down(scale, **options) -> SuperResolutionInferer:
    return SuperResolutionInferer(scale, between_scales="up-and-down", **options)


@pytest.mark.parametrize("scale", ["1.5", "2.5", ("2.5", 3)])
def test_is_the_larger_image_reduced_by_cubic_interpolation(made, noise, scale):
    network, lr = made.fixed((3, 3)), noise(1, 1, 8, 6)
    came = up_and_down(scale, tile_size=4).enlarge(lr, network)
    exact = as_scale(scale, 2)
    with torch.no_grad():
        large = network(lr)
    size = [int(n * s) for n, s in zip((8, 6), exact, strict=True)]  # no rounding at these sizes
    # torch's cubic kernel is OpenCV's, without low-pass, and with edges that coincide at whole sizes
    expected = F.interpolate(large, size, mode="bicubic", align_corners=False)
    torch.testing.assert_close(came.image, expected, atol=1e-5, rtol=0)
    assert len(came.warnings) == 1
    assert came.warnings[0].startswith("enlarged by 3x3, then reduced to ")


def test_off_by_default_and_no_way_beyond_the_largest_scale(made, noise):
    network, lr = made.fixed((3, 3)), noise(1, 1, 8, 6)
    for inferer in (SuperResolutionInferer("2.5"), up_and_down("3.5"), up_and_down((2, "3.5"))):
        with pytest.raises(GridError, match="enlarges by 3x3 only, got"):
            inferer(lr, network)
    with pytest.raises(InputError, match="refuse or up-and-down, got 'down'"):
        SuperResolutionInferer(between_scales="down")
    with pytest.raises(InputError, match="choose ensemble or up-and-down") as error:
        SuperResolutionInferer(between_scales="up-and-down", ensemble=True)
    assert "\n" not in str(error.value)


def test_scales_that_the_network_has_are_left_alone(made, noise):
    network, lr = made.fixed((3, 3)), noise(1, 1, 8, 6)
    came = up_and_down(3).enlarge(lr, network)
    torch.testing.assert_close(came.image, SuperResolutionInferer(3)(lr, network), atol=0, rtol=0)
    assert came.warnings == []
    restore = made.recnn(2)
    expected = SuperResolutionInferer("2.5")(lr, restore)
    torch.testing.assert_close(up_and_down("2.5")(lr, restore), expected, atol=0, rtol=0)


@pytest.mark.parametrize(("scale", "built"), [("1.2", 2), ("2.5", 3), ("3.1", 4)])
def test_the_ceiling_of_several_scales_is_used(noise, scale, built):
    torch.manual_seed(0)
    network, inferer = small("mdsr-zhu2022").eval(), up_and_down(scale)
    assert inferer.enlarge(noise(1, 1, 6, 5), network).warnings[0].startswith(f"enlarged by {built}x{built},")


@pytest.mark.parametrize("name", ["edsr-lite-zhu2022", "rdn-zhu2022"])
def test_published_networks_at_two_and_a_half(noise, name):
    torch.manual_seed(0)
    network = small(name, scale=3).eval()
    assert up_and_down(2.5)(noise(1, 1, 9, 7), network).shape == (1, 1, 22, 18)


def test_slices_of_a_volume_on_the_right_grid(made, noise, as_volume, oblique_affine):
    network, lr = made.fixed((2, 2)), as_volume(noise(2, 1, 6, 4, 5), oblique_affine)
    sr = up_and_down("1.5", slice_plane="coronal")(lr, network)
    assert sr.shape == (2, 1, 9, 4, 8)
    alone = up_and_down("1.5")(lr.as_tensor()[:, :, :, 2], network)
    torch.testing.assert_close(sr.as_tensor()[:, :, :, 2], alone, atol=1e-5, rtol=0)
    edge = [-0.5, -0.5, -0.5, 1]
    np.testing.assert_allclose(np.asarray(sr.affine) @ edge, oblique_affine @ edge, atol=1e-6)


def test_a_smooth_picture_stays_where_it_is(made):
    """A network that interpolates linearly, on a ramp, which shows any shift; half an SR voxel would be 0.011."""

    def interpolate(x, inner):
        return F.interpolate(x, scale_factor=3, mode="bilinear", align_corners=False)

    network = made.Wrapped(made.fixed((3, 3)), interpolate)
    ramp = torch.linspace(0, 1, 20)[:, None].expand(1, 1, 20, 20).contiguous()
    came = up_and_down(Fraction("2.3"))(ramp, network)[0, 0, :, 20]
    positions = (torch.arange(46) + 0.5) / 2.3 - 0.5
    torch.testing.assert_close(came[6:-6], positions[6:-6] / 19, atol=1e-3, rtol=0)  # the kernel ripples
