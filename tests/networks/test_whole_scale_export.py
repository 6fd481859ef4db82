"""Whole scales as plain layers: the same numbers, by the same keys, without arithmetic that TorchScript lacks."""

from __future__ import annotations

import pytest
import torch

from medsr.errors import MedsrError
from medsr.networks import WholeScale, whole_scale
from medsr.networks.registry import small


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("miassr", {"in_channels": 3, "out_channels": 2, "mean": 0.3, "std": 0.2}),
        ("miassr", {"block": "rrdb", "blocks": 1, "positions": "hu2019"}),
        ("meta-srgan", {"anisotropic": True}),
    ],
)
def test_same_numbers_and_keys(name: str, arguments: dict, scale: int) -> None:
    torch.manual_seed(scale)
    network = small(name, **arguments).eval()
    exported = WholeScale(network, scale).eval()
    assert exported.state_dict().keys() == network.state_dict().keys()
    scripted = torch.jit.script(exported)
    for size in ((9, 7), (12, 20)):
        lr = torch.rand(2, network.spec.in_channels, *size)
        with torch.no_grad():
            expected = network(lr, scale)
            torch.testing.assert_close(exported(lr), expected, atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(scripted(lr), expected, atol=1e-6, rtol=1e-6)


def test_refusals() -> None:
    with pytest.raises(MedsrError, match=r"integer scale from 2 to 4, got 2\.5"):
        whole_scale("miassr", 2.5)
    for scale in (5, 1, "2", None, float("nan")):
        with pytest.raises(MedsrError, match=f"got {scale}"):
            whole_scale("miassr", scale)  # type: ignore[arg-type]
    with pytest.raises(MedsrError, match="a head and a body can be exported at an integer scale, got EDSR"):
        whole_scale("edsr-lite-zhu2022", 2)
    with pytest.raises(MedsrError, match="only 2D"):
        WholeScale(small("miassr", spatial_dims=3))
