"""Inferers: from a volume through a network to a volume."""

from medsr.inferers.facts import InferenceFacts
from medsr.inferers.forward import ForwardInferer
from medsr.inferers.guards import Guards, Limits, measure
from medsr.inferers.result import SuperResolution
from medsr.inferers.slices import SliceInferer
from medsr.inferers.super_resolution import SuperResolutionInferer

__all__ = [
    "ForwardInferer",
    "Guards",
    "InferenceFacts",
    "Limits",
    "SliceInferer",
    "SuperResolution",
    "SuperResolutionInferer",
    "measure",
]
