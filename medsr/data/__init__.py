"""Datasets and files: manifests, datalists, readers and writers."""
