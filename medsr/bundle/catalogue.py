"""The installed bundles: where they are, and what their metadata says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from medsr.errors import InputError

DEFAULT_BUNDLE = "recnn3d"  # used by every interface unless the user names another bundle
SEARCH_VARIABLE = "MEDSR_BUNDLES"  # further folders with bundles, separated as in PATH


def bundle_directories() -> list[Path]:
    """Return the folders that are searched for bundles: those of the environment variable, then those of medsr."""
    package = Path(__file__).resolve().parent.parent
    named = [Path(p).expanduser() for p in os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep) if p]
    return [d for d in (*named, package.parent / "bundles", package / "_bundles") if d.is_dir()]


class Bundle:
    """A bundle on disk.

    Args:
        root: The folder with `configs/inference.json` and `configs/metadata.json`.

    Raises:
        InputError: If the folder is not a bundle.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not (self.root / "configs" / "inference.json").is_file():
            raise InputError(
                f"{self.root} is not a bundle: it has no configs/inference.json; name another folder, or a bundle that "
                "`medsr bundles` lists"
            )

    @property
    def name(self) -> str:
        """The name of the bundle's folder, which is also its name in MONAI."""
        return self.root.resolve().name

    @property
    def weights(self) -> Path:
        """The weight file that is used unless the user names another one."""
        return self.root / "models" / "model.pt"

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The contents of `configs/metadata.json`."""
        return self._read("metadata")

    @cached_property
    def inference(self) -> dict[str, Any]:
        """The contents of `configs/inference.json`."""
        return self._read("inference")

    @property
    def enlarges(self) -> bool:
        """Whether the bundle super-resolves; other bundles (segmentation networks) serve losses and evaluations."""
        inferer = self.inference.get("inferer", {})
        return isinstance(inferer, dict) and str(inferer.get("_target_", "")).endswith("SuperResolutionInferer")

    def summary(self) -> dict[str, Any]:
        """Return the facts by which a user chooses a bundle."""
        trained_on = self.metadata.get("trained_on", {})
        return {
            "name": self.name,
            "version": self.metadata.get("version", "?"),
            "description": self.metadata.get("description", ""),
            "dimensions": trained_on.get("dimensions", "?"),
            "scales": trained_on.get("scales", "?"),
            "modality": trained_on.get("modality", "?"),
            "licence": self.metadata.get("licence", "?"),
            "weights": "present" if self.weights.is_file() else "absent (train the bundle)",
            "test": self.metadata.get("test_summary", "not measured"),
            "path": str(self.root),
        }

    def _read(self, name: str) -> dict[str, Any]:
        path = self.root / "configs" / f"{name}.json"
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}; correct the file, or install the bundle again") from None


def list_bundles() -> Iterator[Bundle]:
    """Yield the installed bundles; of two bundles with the same name, the first one that is found."""
    seen: set[str] = set()
    for directory in bundle_directories():
        for root in sorted(directory.iterdir()):
            if (root / "configs" / "inference.json").is_file() and root.name not in seen:
                seen.add(root.name)
                yield Bundle(root)


def find_bundle(name: str | os.PathLike[str]) -> Bundle:
    """Return a bundle by its name or its folder.

    Raises:
        InputError: If there is no such bundle; the message names the installed ones.

    Examples:
        >>> from medsr.bundle import find_bundle
        >>> bundle = find_bundle("recnn3d")
        >>> bundle.name, bundle.enlarges, bundle.metadata["trained_on"]["dimensions"][:2]
        ('recnn3d', True, '3D')
    """
    path = Path(name).expanduser()
    installed = {} if os.sep in str(name) else {bundle.name: bundle for bundle in list_bundles()}
    if str(name) in installed:
        return installed[str(name)]
    if os.sep in str(name) or path.is_dir():
        return Bundle(path)
    raise InputError(
        f"no bundle is called {str(name)!r}; installed: {', '.join(installed) or 'none'}; name one of these or a folder"
    )
