"""Bundles: the installed ones, their settings, and the parts that their configs name.

Modules that load torch are imported on first use, so that listing bundles does not import it.
"""

from typing import TYPE_CHECKING

import lazy_loader

from medsr.bundle.catalogue import DEFAULT_BUNDLE, Bundle, bundle_directories, find_bundle, list_bundles

if TYPE_CHECKING:
    from medsr.bundle.beginning import begin
    from medsr.bundle.evaluation import EvaluationPostprocessing, EvaluationReports
    from medsr.bundle.inference import (
        ImageLoader,
        Inference,
        LabelMapPostprocessing,
        SuperResolutionPostprocessing,
        VolumePreprocessing,
    )
    from medsr.bundle.loaded import LoadedBundle, load_bundle, trained_network
    from medsr.bundle.patch_loader import PatchLoader
    from medsr.bundle.training import (
        AdversarialTraining,
        Training,
        TrainingLoader,
        Validation,
        ValidationDice,
        ValidationPSNR,
    )

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "beginning": ["begin"],
        "evaluation": ["EvaluationPostprocessing", "EvaluationReports"],
        "inference": [
            "ImageLoader",
            "Inference",
            "LabelMapPostprocessing",
            "SuperResolutionPostprocessing",
            "VolumePreprocessing",
        ],
        "loaded": ["LoadedBundle", "load_bundle", "trained_network"],
        "patch_loader": ["PatchLoader"],
        "training": [
            "AdversarialTraining",
            "Training",
            "TrainingLoader",
            "Validation",
            "ValidationDice",
            "ValidationPSNR",
        ],
    },
)

__all__ = [
    "DEFAULT_BUNDLE",
    "AdversarialTraining",
    "Bundle",
    "EvaluationPostprocessing",
    "EvaluationReports",
    "ImageLoader",
    "Inference",
    "LabelMapPostprocessing",
    "LoadedBundle",
    "PatchLoader",
    "SuperResolutionPostprocessing",
    "Training",
    "TrainingLoader",
    "Validation",
    "ValidationDice",
    "ValidationPSNR",
    "VolumePreprocessing",
    "begin",
    "bundle_directories",
    "find_bundle",
    "list_bundles",
    "load_bundle",
    "trained_network",
]
