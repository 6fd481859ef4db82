"""Datasets: manifests, the images in a folder, checks of it, and datalists to train and to evaluate from."""

from medsr.datasets.selection import collect, segmentation_items, with_scales

__all__ = ["collect", "segmentation_items", "with_scales"]
