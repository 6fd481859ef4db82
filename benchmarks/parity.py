"""A comparison with public implementations, by their small state dicts, inputs and outputs in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medsr.networks import create, load_checkpoint


@dataclass(frozen=True)
class Case:
    """A file of the folder, with the network and the arguments that must reproduce it.

    Attributes:
        network: The class or preset.
        arguments: The arguments in the file's `config`, under our names.
        scales: The scale by key of the file's inputs, if the network must be told.
        cropped: Whether the published program makes int(n * s) voxels, fewer than the grid rule, from the same first
            one.
        margin: The voxels at the border where ours differs on purpose, or that the published network does not return.
    """

    network: str
    arguments: Mapping[str, Any]
    scales: Mapping[str, list[float]] = field(default_factory=dict)
    cropped: bool = False
    margin: int = 0


class FiveConvolutions(nn.Sequential):
    """The encoder of the published U-Net with five convolutions instead of a ResNet."""

    in_channels, channels = 3, (8, 12, 16, 24)

    def __init__(self) -> None:
        layers = []
        for before, after, stride in ((3, 8, 2), (8, 8, 1), (8, 12, 2), (12, 16, 2), (16, 24, 2)):
            convolution = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
            layers.append(nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU()))
        super().__init__(*layers)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the features that the decoder takes, finest first."""
        features = []
        for layer in self:
            x = layer(x)
            features.append(x)
        return features[1:]


_SWINIR = {"features": 12, "heads": 2, "window": 4}

CASES: dict[str, Case] = {
    "rdst": Case("RDST", {"features": 12, "growth": 6, "blocks": 2, "heads": 2, "window": 4}),
    "swinir_direct_x4_1ch": Case("SwinIR", {**_SWINIR, "depths": (2, 2), "upsampler": "pixelshuffledirect"}),
    "swinir_nearestconv_x4_1ch_3conv": Case(
        "SwinIR", {**_SWINIR, "depths": (2,), "upsampler": "nearest+conv", "resi_connection": "3conv"}
    ),
    "convnet_x4": Case("ConvNetSR", {"features": 8, "blocks": 3}),
    "rdn_canonical_x2_3ch": Case(
        "RDN", {"in_channels": 3, "scale": 2, "features": 8, "blocks": 3, "layers": 3, "growth": 4}
    ),
    "rdn_x4": Case("rdn-zhu2022", {"features": 8, "blocks": 3, "layers": 3, "growth": 4}),
    "rrdbnet_canonical_x4": Case("RRDBNet", {"features": 8, "blocks": 2, "growth": 4}),
    "esrgan_dissertation_x4": Case("esrgan-zhu2022", {"features": 8, "blocks": 2, "growth": 4}),
    "srdensenet_all_x4": Case(
        "srdensenet-zhu2022", {"features": 4, "width": 16, "blocks": 2, "layers": 3, "growth": 4}
    ),
    "dynamic_unet_tiny_blur_weightnorm": Case("ResNetUNet", {"encoder": FiveConvolutions()}),
    "han_dissertation_x4": Case("HAN", {"groups": 10, "blocks": 1, "features": 8, "reduction": 4}),
    "miassr_discriminator_tiny": Case("srgan-discriminator-zhu2022", {"features": 8, "patch_size": 16}),
    "rcan_canonical_x4_3ch": Case("RCAN", {"in_channels": 3, "groups": 2, "blocks": 2, "features": 8, "reduction": 4}),
    "edsr_lite_x4": Case("edsr-lite-zhu2022", {"features": 8, "blocks": 3, "mean": 0.3}),
    "edsr_x2": Case("EDSR", {"features": 8, "blocks": 3, "scale": 2}),
    "mdsr_dissertation": Case(
        "mdsr-zhu2022", {"features": 8, "blocks": 3, "mean": 0.2}, scales={f"x{s}": [float(s)] * 2 for s in (2, 3, 4)}
    ),
    "miassr": Case(
        "miassr",
        {"features": 8, "blocks": 2, "mean": 0.25, "positions": "hu2019"},
        scales={f"x{s}": [s] * 2 for s in (1.5, 2.0, 2.3, 4.0)},
        cropped=True,
    ),
    "msrresnet_basicsr_x4": Case("MSRResNet", {"features": 8, "blocks": 2}),
    "srresnet_x2": Case("srresnet-zhu2022", {"features": 8, "blocks": 2, "scale": 2}),
    "recnn_5L_n8": Case("ReCNN", {"depth": 5, "features": 8}),
    "srcnn3d_tiny": Case("SRCNN3D", {"features": (8, 4)}, margin=6),
}


def error(folder: Path, stem: str) -> float:
    """Return the largest absolute difference between our outputs and the published ones, over all inputs of a file."""
    case, published = CASES[stem], torch.load(folder / f"{stem}.pt", weights_only=True)
    network = create(case.network, **case.arguments).eval()
    load_checkpoint(network, published["state_dict"])
    worst = 0.0
    for key, expected in published["output"].items():
        given, scale = published["input"][key], case.scales.get(key)
        with torch.no_grad():
            came = network(given[0] if isinstance(given, list) else given, *([scale] if scale else []))
        if case.margin:
            came = came[(..., *[slice(case.margin, -case.margin)] * (came.ndim - 2))]
        if case.cropped:
            came = came[(..., *map(slice, expected.shape[2:]))]
        if came.shape != expected.shape:
            raise ValueError(f"{stem}, {key}: expected {tuple(expected.shape)}, got {tuple(came.shape)}")
        worst = max(worst, (came - expected).abs().max().item())
    return worst
