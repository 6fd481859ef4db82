"""Public implementations against ours: their small state dicts, inputs and outputs, where a folder of them is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from medsr.networks import create, load_checkpoint


@dataclass(frozen=True)
class Case:
    """A file of the folder: the network that must reproduce it, and with which arguments.

    Attributes:
        network: class or preset.
        arguments: what the file's `config` says, in our names.
        scales: by key of the file's inputs, where the network has to be told.
        margin: voxels at the border where ours differs knowingly, or which the published network does not return.
    """

    network: str
    arguments: Mapping[str, Any]
    scales: Mapping[str, list[float]] = field(default_factory=dict)
    margin: int = 0


CASES: dict[str, Case] = {
    "han_dissertation_x4": Case("HAN", {"groups": 10, "blocks": 1, "features": 8, "reduction": 4}),
    "miassr_discriminator_tiny": Case("srgan-discriminator-zhu2022", {"features": 8, "patch_size": 16}),
    "rcan_canonical_x4_3ch": Case("RCAN", {"in_channels": 3, "groups": 2, "blocks": 2, "features": 8, "reduction": 4}),
    "edsr_lite_x4": Case("edsr-lite-zhu2022", {"features": 8, "blocks": 3, "mean": 0.3}),
    "edsr_x2": Case("EDSR", {"features": 8, "blocks": 3, "scale": 2}),
    "mdsr_dissertation": Case(
        "mdsr-zhu2022", {"features": 8, "blocks": 3, "mean": 0.2}, scales={f"x{s}": [float(s)] * 2 for s in (2, 3, 4)}
    ),
    "msrresnet_basicsr_x4": Case("MSRResNet", {"features": 8, "blocks": 2}),
    "srresnet_x2": Case("srresnet-zhu2022", {"features": 8, "blocks": 2, "scale": 2}),
    "recnn_5L_n8": Case("ReCNN", {"depth": 5, "features": 8}),
    "srcnn3d_tiny": Case("SRCNN3D", {"features": (8, 4)}, margin=6),
}


def error(folder: Path, stem: str) -> float:
    """Largest absolute difference between our outputs and the published ones, over all inputs of a file."""
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
        if came.shape != expected.shape:
            raise ValueError(f"{stem}, {key}: expected {tuple(expected.shape)}, got {tuple(came.shape)}")
        worst = max(worst, (came - expected).abs().max().item())
    return worst
