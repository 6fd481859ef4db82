"""Every registered generator through the inferer: tiles make no difference, whichever network it is."""

from __future__ import annotations

import pytest
import torch

from medsr.errors import GridError
from medsr.inferers import SuperResolutionInferer
from medsr.networks import PRESETS, create
from medsr.networks.registry import small


def lively(name: str) -> torch.nn.Module:
    """A small one in which what starts at zero does not stay there."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = small(name)
        for parameter in network.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    return network.eval()


GENERATORS = [name for name in PRESETS if lively(name).spec.family.generates]


@pytest.mark.parametrize("name", GENERATORS)
def test_tiled_is_whole(name, noise):
    network = lively(name)
    spec = network.spec
    size = (61, 45) if spec.spatial_dims == 2 else (14, 11, 9)
    lr, scale = noise(1, spec.in_channels, *size), None if spec.scales else 1.5
    if spec.in_channels > spec.out_channels:
        pytest.skip("takes guidance images, which have their own tests")
    whole = SuperResolutionInferer(scale, tile_size=10**6)(lr, network)
    tiled = SuperResolutionInferer(scale, tile_size=8).enlarge(lr, network)
    assert (tiled.tiles > 1) == (spec.halo is not None)
    assert (tiled.image - whole).abs().max() <= 1e-5 * max(1.0, whole.abs().max().item())
    if spec.scales:
        with torch.no_grad():
            assert (network(lr) - whole).abs().max() <= 1e-5 * max(1.0, whole.abs().max().item())


@pytest.mark.parametrize("name", [name for name in GENERATORS if lively(name).spec.other_scales])
def test_a_network_of_several_scales_takes_the_one_asked_for(name, noise):
    network = lively(name)
    lr = noise(1, 1, 9, 7)
    for scale in (network.spec.scales, *network.spec.other_scales):
        with torch.no_grad():
            expected = network(lr, [float(s) for s in scale])
        came = SuperResolutionInferer(list(scale))(lr, network)
        torch.testing.assert_close(came, expected, atol=1e-5, rtol=0)
    with pytest.raises(GridError, match=r"enlarges by \dx\d or \dx\d.* only, got 5x5"):
        SuperResolutionInferer(5)(lr, network)


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in GENERATORS])
def test_what_makes_no_image_is_refused(name, noise):
    network = create(name) if lively(name).spec.input_sizes else lively(name)
    with pytest.raises(Exception, match="do not enlarge images"):
        SuperResolutionInferer(2)(noise(1, network.spec.in_channels, *[96] * network.spec.spatial_dims), network)
