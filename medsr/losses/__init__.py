"""Losses for super-resolution networks. A loss maps images to one number and never reads a file."""

from medsr.losses.adversarial import (
    ADVERSARIAL,
    WGAN,
    WGANGP,
    AdversarialLoss,
    RelativisticAverageGAN,
    VanillaGAN,
    adversarial_loss,
    gradient_penalty,
)
from medsr.losses.composite import WeightedLoss
from medsr.losses.judge import FeatureNetwork
from medsr.losses.perceptual import PerceptualLoss
from medsr.losses.segmentation import SegmentationPerceptualLoss, multiclass_dice_loss

__all__ = [
    "ADVERSARIAL",
    "WGAN",
    "WGANGP",
    "AdversarialLoss",
    "FeatureNetwork",
    "PerceptualLoss",
    "RelativisticAverageGAN",
    "SegmentationPerceptualLoss",
    "VanillaGAN",
    "WeightedLoss",
    "adversarial_loss",
    "gradient_penalty",
    "multiclass_dice_loss",
]
