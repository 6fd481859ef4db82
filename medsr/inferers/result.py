"""What an inferer returns for a batch: the images, and what was found out about each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from monai.data import MetaTensor

from medsr.geometry import Scale
from medsr.inferers.facts import InferenceFacts
from medsr.inferers.formed import Formed
from medsr.inferers.guards import Guards


@dataclass
class ImageFindings:
    """What was found out about one image of a batch.

    Attributes:
        formed: Its formation and what obeying it did; None where it is not obeyed.
        guards: What users look at; None if the image was returned unchanged.
        warnings: The messages that a user should see.
    """

    formed: Formed | None = None
    guards: Guards | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass
class SuperResolution:
    """The result of an inferer for a batch.

    Attributes:
        image: The SR images, (B, C, *spatial) float32.
        deviation: The standard deviation over the flips ensemble, same size; None without an ensemble.
        scale: The exact scale per spatial axis.
        tiles: The number of tiles that the network ran on.
        seconds: The wall time in seconds.
        warnings: The messages that a user should see about all images.
        findings: What was found out about each image.
    """

    image: torch.Tensor
    deviation: torch.Tensor | None
    scale: Scale
    tiles: int
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    findings: list[ImageFindings] = field(default_factory=list)

    def facts(self, request: Mapping[str, Any], settings: Mapping[str, Any]) -> list[InferenceFacts]:
        """Return the facts of each image.

        Args:
            request: The requested `scale` and `spacing`.
            settings: The options that change voxels.
        """
        plain = self.deviation.as_tensor() if isinstance(self.deviation, MetaTensor) else self.deviation
        return [
            InferenceFacts(
                self.scale,
                self.tiles,
                self.seconds / len(self.findings),
                (*self.warnings, *found.warnings),
                None if plain is None else plain[k],
                request,
                settings,
                None if found.formed is None else found.formed.formation,
                found.guards,
            )
            for k, found in enumerate(self.findings)
        ]
