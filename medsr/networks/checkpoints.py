"""Load the weights of a network, also those that its authors' programs saved, safely and strictly."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

import torch
from torch import nn

from medsr.errors import InputError

Weights = Mapping[str, torch.Tensor]

_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "network", "generator", "model", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "generator.")


def load_checkpoint(network: nn.Module, source: Union[str, Path, Mapping[str, Any]]) -> None:
    """Fill a network with the weights of a checkpoint; nothing changes unless all of them fit.

    Checkpoints of this package fit as they are. Those of a public implementation are renamed by the network's
    own table, `PUBLISHED_KEYS`: for every key the first pattern that matches is replaced; entries whose
    replacement is None are dropped, because they hold no weights or none that are ever used. Wrappers that
    training programs put around a state dict ("params_ema", "state_dict", "module.", ...) are taken off.

    Args:
        network: whose parameters and buffers are overwritten.
        source: a file written by `torch.save`, read without executing anything in it, or what it would hold.

    Raises:
        InputError: no such file, one that holds anything but tensors and plain values, or weights that do not
            fit, with the first missing, unexpected or misshapen key.
    """
    name = "the state dict" if isinstance(source, Mapping) else Path(source).name
    content = source if isinstance(source, Mapping) else read_checkpoint(Path(source))
    given, own = _unwrapped(content, name), network.state_dict()
    weights = given if _misfit(given, own) is None else renamed(given, getattr(network, "PUBLISHED_KEYS", ()))
    misfit = _misfit(weights, own)
    if misfit is not None:
        raise InputError(
            f"{name} does not fit {type(network).__name__}: {misfit}; build the network with the arguments that the "
            "weights were trained with, or choose their file"
        )
    network.load_state_dict(weights)


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """What a file written by `torch.save` holds: tensors and plain values only, nothing is executed.

    Raises:
        InputError: no such file, damaged, or holding anything else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: check the path, or train the network") from None
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} is not a file of weights alone, and was not loaded: it may hold program code; where you trust "
            "it, load it yourself and save its state dict"
        ) from None
    except Exception:  # whatever a damaged file makes of the unpickler
        raise InputError(f"{path} is not a file of weights, or is damaged; fetch or copy it again") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, expected a state dict")
    return content


def renamed(weights: Weights, patterns: Any) -> dict[str, torch.Tensor]:
    """Weights under our names, by a table of (regular expression, replacement as of `re.sub`, or None)."""
    result = {}
    for key, value in weights.items():
        for pattern, replacement in patterns:
            if re.search(pattern, key):
                if replacement is not None:
                    result[re.sub(pattern, replacement, key)] = value
                break
        else:
            result[key] = value
    return result


def _unwrapped(content: Mapping[str, Any], name: str) -> dict[str, torch.Tensor]:
    """The state dict within what a training program saved."""
    while not any(isinstance(value, torch.Tensor) for value in content.values()):
        inner = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            raise InputError(f"{name} holds no state dict, only {', '.join(map(str, content)) or 'nothing'}")
        content = content[inner]
    weights = {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in weights):
            weights = {key[len(prefix) :]: value for key, value in weights.items()}
    return weights


def _misfit(weights: Weights, own: Weights) -> Union[str, None]:
    """What is wrong with the keys and shapes, the first of each kind, or None."""
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    extra = [key for key in weights if key not in own]
    misshapen = [key for key in weights if key in own and weights[key].shape != own[key].shape]
    problems = [f"{word} {keys[0]}" for word, keys in (("missing", missing), ("extra", extra)) if keys]
    if misshapen:
        came, expected = tuple(weights[misshapen[0]].shape), tuple(own[misshapen[0]].shape)
        problems.append(f"misshapen {misshapen[0]} {came}, expected {expected}")
    count = len(missing) + len(extra) + len(misshapen)
    return f"{', '.join(problems)} ({count} key(s) in all)" if problems else None
