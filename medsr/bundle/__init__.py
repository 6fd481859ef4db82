"""Bundles: which there are, what their settings are, and the parts that their configs name."""

from medsr.bundle.catalogue import DEFAULT_BUNDLE, Bundle, bundle_directories, find_bundle, list_bundles
from medsr.bundle.loaded import LoadedBundle, load_bundle, trained_network

__all__ = [
    "DEFAULT_BUNDLE",
    "Bundle",
    "LoadedBundle",
    "bundle_directories",
    "find_bundle",
    "list_bundles",
    "load_bundle",
    "trained_network",
]
