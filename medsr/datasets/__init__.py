"""Datasets: manifests, the cases in a folder, checks of it, and datalists to train and to evaluate from."""
