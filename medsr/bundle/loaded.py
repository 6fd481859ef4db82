"""A bundle ready to run: its network with weights, and the transforms and inferer around it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, LoadImaged, SaveImaged
from torch import nn

from medsr.bundle.catalogue import Bundle, find_bundle
from medsr.bundle.entries import checked, named_weights
from medsr.engines import user_error
from medsr.errors import InputError
from medsr.inferers import SuperResolutionInferer
from medsr.outputs import SaveImageWithRecordd
from medsr.weights import load_weights


def inference_parser(bundle: Bundle, entries: Mapping[str, Any]) -> ConfigParser:
    """Return the parser of `inference.json` with entries replaced or added; it builds the parts one by one.

    Texts among the entries are taken literally: a folder may be called `$x`, which is an expression in a config.
    Therefore the config refers to such a text by a name of its own, and the parser is told what the name stands for.
    """
    parser = ConfigParser()
    parser.read_config(str(bundle.root / "configs" / "inference.json"))
    entries = {**entries, "bundle_root": os.path.abspath(bundle.root)}
    texts = {key: f"_given_{place}" for place, (key, value) in enumerate(entries.items()) if _holds_text(value)}
    parser.update({key: f"@{texts[key]}" if key in texts else value for key, value in entries.items()})
    parser.parse()
    parser.ref_resolver.resolved_content.update({name: entries[key] for key, name in texts.items()})
    return parser


def _holds_text(value: Any) -> bool:
    """Return whether a value is a text or a list of texts; other lists and dictionaries are parts of a config."""
    return isinstance(value, str) or (isinstance(value, list | tuple) and any(isinstance(v, str) for v in value))


def load_bundle(bundle: Bundle, settings: Mapping[str, Any] | None = None) -> LoadedBundle:
    """Build the network of a bundle with its weights, and the transforms and inferer around it.

    Args:
        bundle: The bundle, which must super-resolve.
        settings: The entries of `inference.json` to replace ("scale", "device", "output_dir", ...); see
            `medsr.bundle.settings`. Texts are taken literally, not as MONAI's expressions.

    Raises:
        InputError: If the bundle does not super-resolve; the weights are missing, changed since their hash was
            recorded, unreadable, or do not fit the network; or a setting is unknown.
        MedsrError: If the value of a setting is impossible.
    """
    entries = checked_settings(bundle, settings or {})
    parser = inference_parser(bundle, entries)
    try:
        network: nn.Module = parser.get_parsed_content("network")
        weights = Path(parser.get_parsed_content("weights")) if "weights" in parser else bundle.weights
        load_weights(network, weights)
        parts = [parser.get_parsed_content(key) for key in ("preprocessing", "inferer", "postprocessing")]
    except Exception as error:  # MONAI wraps what a part of the config raises
        raise user_error(error) or error from None
    return LoadedBundle(network.eval(), *parts)


def checked_settings(bundle: Bundle, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check the settings of a bundle's inference, without loading anything, and return their values.

    Raises:
        InputError: If the bundle does not super-resolve, or a setting is unknown.
        MedsrError: If the value of a setting is impossible.
    """
    if not bundle.enlarges:
        raise InputError(f"bundle {bundle.name} does not enlarge images; choose another, see `medsr bundles`")
    return checked(settings, bundle.inference, f"bundle {bundle.name}", root=bundle.root)


def trained_network(root: str | Path | None, weights: str = "model.pt", **entries: Any) -> nn.Module | None:
    """Return the network of a bundle with its weights, in evaluation mode, for use in losses and metrics.

    Args:
        root: The folder or name of a bundle; None for no network (MONAI evaluates a part of a config even if it is
            switched off).
        weights: The name of a file in the bundle's `models`, or the path of another file.
        entries: The entries of its `inference.json` to replace, such as the number of classes.

    Raises:
        InputError: If there is no such bundle, or the weights cannot be used.
    """
    if root is None:
        return None
    bundle = find_bundle(root)
    network: nn.Module = inference_parser(bundle, entries).get_parsed_content("network_def")
    load_weights(network, named_weights(bundle.root, weights))
    return network.eval()


class LoadedBundle:
    """The parts of a bundle's inference, ready to run on one image at a time."""

    def __init__(
        self, network: nn.Module, preprocessing: Compose, inferer: SuperResolutionInferer, postprocessing: Compose
    ) -> None:
        self.network = network
        self.preprocessing = preprocessing
        self.inferer = inferer
        self.postprocessing = postprocessing

    def run(self, item: Mapping[str, Any], save: bool) -> dict[str, Any]:
        """Preprocess, enlarge and postprocess one item, and return it with the result in `pred`.

        Args:
            item: The item, whose `image` is a path, or a MetaTensor (1, X, Y, Z) that is already in memory.
            save: Whether to run the bundle's saving transform too.
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
