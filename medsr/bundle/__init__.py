"""Bundles: which there are, what their settings are, and the parts that their configs name.

What loads torch is imported on first use, so that the names of bundles cost no import of it.
"""

from typing import TYPE_CHECKING

import lazy_loader

from medsr.bundle.catalogue import DEFAULT_BUNDLE, Bundle, bundle_directories, find_bundle, list_bundles

if TYPE_CHECKING:
    from medsr.bundle.loaded import LoadedBundle, load_bundle, trained_network

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"loaded": ["LoadedBundle", "load_bundle", "trained_network"]}
)

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
