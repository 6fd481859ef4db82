"""Bundles: where they are, what they say about themselves, and how their parts are put together."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, LoadImaged, SaveImaged
from torch import nn

from medsr.engines import user_error
from medsr.errors import InputError
from medsr.inferers import SuperResolutionInferer
from medsr.outputs import SaveImageWithRecordd
from medsr.weights import load_weights

__all__ = [
    "Bundle",
    "LoadedBundle",
    "bundle_directories",
    "find_bundle",
    "list_bundles",
    "load_weights",
    "trained_network",
]

SEARCH_VARIABLE = "MEDSR_BUNDLES"  # further folders with bundles, separated as in PATH


def bundle_directories() -> list[Path]:
    """Folders in which bundles are looked for: those of the environment, then the ones that came with medsr."""
    package = Path(__file__).resolve().parent
    named = [Path(p).expanduser() for p in os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep) if p]
    return [d for d in (*named, package.parent / "bundles", package / "_bundles") if d.is_dir()]


class Bundle:
    """A bundle on disk.

    Args:
        root: folder with `configs/inference.json` and `configs/metadata.json`.

    Raises:
        InputError: the folder is not a bundle.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not (self.root / "configs" / "inference.json").is_file():
            raise InputError(f"{self.root} is not a bundle: it has no configs/inference.json")

    @property
    def name(self) -> str:
        """The folder's name, by which MONAI knows the bundle too."""
        return self.root.resolve().name

    @property
    def weights(self) -> Path:
        """The weight file that is used unless another is asked for."""
        return self.root / "models" / "model.pt"

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Contents of `configs/metadata.json`."""
        return self._read("metadata")

    @cached_property
    def inference(self) -> dict[str, Any]:
        """Contents of `configs/inference.json`."""
        return self._read("inference")

    @property
    def enlarges(self) -> bool:
        """Whether the bundle super-resolves; others (segmentation networks) serve losses and evaluation."""
        inferer = self.inference.get("inferer", {})
        return isinstance(inferer, dict) and str(inferer.get("_target_", "")).endswith("SuperResolutionInferer")

    def _read(self, name: str) -> dict[str, Any]:
        path = self.root / "configs" / f"{name}.json"
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}") from None

    def parser(self, entries: Mapping[str, Any]) -> ConfigParser:
        """`inference.json` with entries replaced or added, its parts to be built one by one."""
        parser = ConfigParser()
        parser.read_config(str(self.root / "configs" / "inference.json"))
        parser.update({**entries, "bundle_root": os.path.abspath(self.root)})
        parser.parse()
        return parser

    def parse(self, settings: Mapping[str, Any] | None = None) -> LoadedBundle:
        """Build the network, its weights loaded, and everything around it.

        Args:
            settings: entries of `inference.json` to replace ("scale", "device", "output_dir", ...).

        Raises:
            InputError: a bundle that does not super-resolve; weights that are missing, changed since their hash was
                recorded, unreadable, or do not fit the network; an unknown setting.
            MedsrError: a setting that its part of the bundle refuses.
        """
        if not self.enlarges:
            raise InputError(f"bundle {self.name} does not enlarge images; choose another, see `medsr bundles`")
        unknown = [key for key in settings or {} if _top(key) not in self.inference]
        if unknown:
            known = ", ".join(key for key, value in self.inference.items() if not isinstance(value, dict | list))
            raise InputError(f"bundle {self.name} has no setting {unknown[0]!r}; it has {known}")
        parser = self.parser(settings or {})
        try:
            network: nn.Module = parser.get_parsed_content("network")
            load_weights(network, Path(parser.get_parsed_content("weights")) if "weights" in parser else self.weights)
            parts = [parser.get_parsed_content(key) for key in ("preprocessing", "inferer", "postprocessing")]
        except Exception as error:  # MONAI wraps what a part of the config raises
            raise user_error(error) or error from None
        return LoadedBundle(network.eval(), *parts)


def trained_network(root: str | Path | None, weights: str = "model.pt", **entries: Any) -> nn.Module | None:
    """The network of a bundle with its weights, in evaluation mode: a judge for losses and metrics.

    Args:
        root: a bundle's folder, or the name of an installed one; None for no network (configs have a part that is
            switched off evaluated all the same).
        weights: file in the bundle's `models`, or the path of another.
        entries: of its `inference.json` to replace, such as the number of classes.

    Raises:
        InputError: no such bundle, or weights that cannot be used.
    """
    if root is None:
        return None
    bundle = find_bundle(root)
    network: nn.Module = bundle.parser(entries).get_parsed_content("network_def")
    named = bundle.root / "models" / weights
    load_weights(network, named if named.is_file() else Path(weights))
    return network.eval()


class LoadedBundle:
    """The parts of a bundle's inference, for images one by one."""

    def __init__(
        self, network: nn.Module, preprocessing: Compose, inferer: SuperResolutionInferer, postprocessing: Compose
    ) -> None:
        self.network = network
        self.preprocessing = preprocessing
        self.inferer = inferer
        self.postprocessing = postprocessing

    def run(self, item: Mapping[str, Any], save: bool) -> dict[str, Any]:
        """Preprocess, enlarge, postprocess one item.

        Args:
            item: `image` is a path, or a MetaTensor (1, X, Y, Z), which is not loaded.
            save: run the bundle's saving transform too.
        """
        data: Any = dict(item)
        in_memory = isinstance(data["image"], torch.Tensor)
        for transform in self.preprocessing.transforms:
            if not (in_memory and isinstance(transform, LoadImaged)):
                data = transform(data)
        for transform in self.postprocessing.transforms:
            if save and isinstance(transform, SaveImageWithRecordd):
                transform.check_source(data["image"])
        data["pred"] = self.inferer(data["image"].unsqueeze(0), self.network)[0]
        for transform in self.postprocessing.transforms:
            if save or not isinstance(transform, SaveImaged):
                data = transform(data)
        return dict(data)


def _top(key: str) -> str:
    """The section of a config entry such as "inferer::tile_size" (or with #, MONAI's older separator)."""
    return key.replace("#", "::").split("::")[0]


def list_bundles() -> Iterator[Bundle]:
    """Installed bundles; of two with one name the first found."""
    seen: set[str] = set()
    for directory in bundle_directories():
        for root in sorted(directory.iterdir()):
            if (root / "configs" / "inference.json").is_file() and root.name not in seen:
                seen.add(root.name)
                yield Bundle(root)


def find_bundle(name: str | Path) -> Bundle:
    """A bundle by its name or folder.

    Raises:
        InputError: there is none; the installed ones are named.
    """
    path = Path(name).expanduser()
    installed = {} if os.sep in str(name) else {bundle.name: bundle for bundle in list_bundles()}
    if str(name) in installed:
        return installed[str(name)]
    if os.sep in str(name) or path.is_dir():
        return Bundle(path)
    raise InputError(f"no bundle is called {str(name)!r}; installed: {', '.join(installed) or 'none'}")
