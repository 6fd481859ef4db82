"""Networks of one scale that learn the difference from the bicubic interpolation."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.inferers import SuperResolutionInferer
from medsr.interpolation import resize
from medsr.networks import PRESETS, Family, create
from medsr.networks.complexity import count_parameters
from medsr.networks.registry import small

OF_ITS_OWN = ("msrresnet",)
SEVERAL = [name for name, preset in PRESETS.items() if small(name).spec.other_scales]
FIXED = {
    preset.network: name
    for name, preset in reversed(PRESETS.items())  # the first preset of each class
    if small(name).spec.family is Family.FIXED and name not in (*OF_ITS_OWN, *SEVERAL)
}


def skipping(name: str, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return small(name, interpolation_skip=True, **arguments).eval()


def zeroed(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        parameter.data.zero_()
    return network


def bicubic(image: torch.Tensor, scale: int) -> torch.Tensor:
    return resize(image, (Fraction(scale),) * (image.ndim - 2), kernel="cubic")


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


@pytest.mark.parametrize("name", FIXED.values())
def test_a_network_of_zeros_interpolates(name: str) -> None:
    network = zeroed(skipping(name))
    x = random(2, 1, 9, 7)
    with torch.no_grad():
        assert difference(network(x), bicubic(x, network.spec.scales[0])) < 2e-6


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("shape", [(8, 5), (1, 3), (2, 1), (4, 6, 3)])
def test_every_scale_size_and_dimension(scale: int, shape: tuple[int, ...]) -> None:
    network = zeroed(skipping("edsr", scale=scale, spatial_dims=len(shape), in_channels=3, out_channels=2))
    x = random(2, 3, *shape)
    with torch.no_grad():
        assert difference(network(x), bicubic(x[:, :2], scale)) < 2e-6
        with torch.autocast("cpu", dtype=torch.bfloat16):
            came = network(x)
    assert difference(came, bicubic(x[:, :2], scale)) < 2e-6, "the image keeps its precision"


def test_it_is_added_to_what_the_published_network_makes() -> None:
    network, x = skipping("edsr-lite-zhu2022"), random(1, 1, 9, 8)
    plain = small("edsr-lite-zhu2022")
    plain.load_state_dict({key.removeprefix("network."): value for key, value in network.state_dict().items()})
    with torch.no_grad():
        assert difference(network(x), plain(x) + bicubic(x, 4)) < 2e-6
    assert count_parameters(network) == count_parameters(plain)
    assert not any("taps" in key for key in network.state_dict())
    assert type(create("edsr-lite-zhu2022")) is PRESETS["edsr-lite-zhu2022"].network, "off by default"


@pytest.mark.parametrize("name", ["edsr-lite-zhu2022", "rdst-e"])
def test_tiles_make_the_whole_image(name: str) -> None:
    network, x = skipping(name), random(1, 1, 37, 29)
    with torch.no_grad():
        whole = SuperResolutionInferer(4, tile_size=1000)(x, network)
        tiled = SuperResolutionInferer(4, tile_size=16)(x, network)
    assert difference(tiled, whole) < 1e-5
    with torch.no_grad():
        assert difference(SuperResolutionInferer(4, tile_size=8)(x, zeroed(network)), bicubic(x, 4)) < 2e-6


def test_the_halo_covers_the_kernel() -> None:
    assert skipping("edsr").spec.halo == small("edsr").spec.halo >= 2
    assert "bicubic interpolation" in skipping("edsr").spec.deviations


@pytest.mark.parametrize("name", ["edsr-lite-zhu2022", "rdst-e"])
def test_torchscript_is_the_same(name: str) -> None:
    network = skipping(name)
    script = torch.jit.script(network)
    with torch.no_grad():
        for size in ((9, 8), (5, 12)):
            assert difference(script(random(2, 1, *size)), network(random(2, 1, *size))) < 1e-5


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")  # torch about itself
def test_onnx_is_the_same() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = skipping("edsr-lite-zhu2022")
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    exported = torch.onnx.export(network, (random(2, 1, 17, 18),), dynamo=True, dynamic_shapes=(free,), verbose=False)
    session = onnxruntime.InferenceSession(exported.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in ((1, 1, 19, 23), (3, 1, 12, 21)):
        x = random(*shape)
        (came,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            assert difference(torch.as_tensor(came), network(x)) < 1e-5


@pytest.mark.parametrize("name", ["recnn-10l", "miassr", *OF_ITS_OWN, *SEVERAL])
def test_networks_without_a_place_for_it_are_refused(name: str) -> None:
    with pytest.raises(MedsrError, match=r"one fixed scale|by its own definition") as error:
        small(name, interpolation_skip=True)
    assert "\n" not in str(error.value)
