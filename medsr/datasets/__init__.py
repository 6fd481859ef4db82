"""Read manifests of datasets, find and check the images in a folder, and make datalists for training and evaluation."""

from medsr.datasets.panels import with_panel
from medsr.datasets.selection import collect, segmentation_items, with_degradations, with_scales

__all__ = ["collect", "segmentation_items", "with_degradations", "with_panel", "with_scales"]
