"""Losses of super-resolution networks: images in, one number out. A loss reads no file."""

from medsr.losses.composite import WeightedLoss
from medsr.losses.segmentation import SegmentationPerceptualLoss, multiclass_dice_loss

__all__ = ["SegmentationPerceptualLoss", "WeightedLoss", "multiclass_dice_loss"]
