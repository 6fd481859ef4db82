"""Names that modules had before, for configs and scripts which still say them: one table, no files that stay behind."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Only those that a bundle's config, a user's script or a test outside this repository may have named.
FORMER = {
    "medsr.bundles": "medsr.bundle",
    "medsr.data.collection": "medsr.datasets.selection",
    "medsr.data.datalists": "medsr.datasets.datalists",
    "medsr.data.items": "medsr.data.inference_items",
    "medsr.data.manifests": "medsr.datasets.manifest_files",
    "medsr.data.sources": "medsr.data.input_images",
}


class FormerNames(MetaPathFinder, Loader):
    """Let a former name import the module that took its place."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for a former name, None for any other."""
        return ModuleSpec(fullname, self) if fullname in FORMER else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the present module in the place of the one that was asked for."""
        sys.modules[module.__name__] = import_module(FORMER[module.__name__])


def install() -> None:
    """Add the finder, once."""
    if not any(isinstance(finder, FormerNames) for finder in sys.meta_path):
        sys.meta_path.append(FormerNames())
