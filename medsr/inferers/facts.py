"""The facts about the super-resolution of one image, which the inferer keeps in the `meta` of the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from medsr.carried import Carried
from medsr.errors import InputError
from medsr.formation import Formation
from medsr.geometry import Scale
from medsr.inferers.guards import Guards

FACTS = "super_resolution"  # the key in `meta`


@dataclass(frozen=True, eq=False)
class InferenceFacts(Carried):
    """The facts about how an image was super-resolved.

    Attributes:
        scale: The exact scale per spatial axis.
        tiles: The number of tiles that the network ran on.
        seconds: The wall time in seconds; the time of a batch is divided equally among its images.
        warnings: The messages that a user should see.
        deviation: The standard deviation over the flips ensemble, (C, *SR spatial), in the units that the network sees;
            None without an ensemble.
        request: The requested `scale` and `spacing`.
        settings: The options that change voxels: `precision`, `ensemble`, `start`, `safe`, `formation` as it was asked
            for, and `between_scales` where it is not the default.
        formation: The formation of the LR image, with which the result is consistent; None if none is obeyed.
        guards: What users look at in the result; None if the image was returned unchanged.
    """

    scale: Scale
    tiles: int
    seconds: float
    warnings: tuple[str, ...]
    deviation: torch.Tensor | None
    request: Mapping[str, Any]
    settings: Mapping[str, Any]
    formation: Formation | None = None
    guards: Guards | None = None

    @staticmethod
    def of(image: torch.Tensor) -> InferenceFacts:
        """Return the facts that came with an SR image.

        Raises:
            InputError: If the image carries no facts, or those of a batch.
        """
        facts = getattr(image, "meta", {}).get(FACTS)
        if isinstance(facts, InferenceFacts):
            return facts
        if isinstance(facts, list):
            raise InputError(
                f"expected the result of one image, got one of a batch of {len(facts)} with the facts of them all; "
                "use monai.data.decollate_batch on batches that monai.data.list_data_collate made"
            )
        raise InputError(
            "expected the result of a SuperResolutionInferer, got an image without its facts: the inferer has not run, "
            "or a transform after it has dropped the image's meta"
        )
