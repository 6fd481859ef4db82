"""Safe and strict loading of network weights, including those saved by the programs of the authors."""

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
    """Load the weights of a checkpoint into a network; nothing changes unless all of them fit.

    Checkpoints of this package fit as they are. The keys of a public implementation are renamed by the table
    `PUBLISHED_KEYS` of the network: the first pattern that matches a key is replaced, and an entry whose replacement
    is None is dropped, because it holds no weights or weights that are never used. Wrappers that training programs put
    around a state dict ("params_ema", "state_dict", "module.", ...) are removed.

    Args:
        network: The network whose parameters and buffers are overwritten.
        source: A file written by `torch.save`, which is read without executing any code in it, or its content.

    Raises:
        InputError: If the file does not exist, holds anything but tensors and plain values, or its weights do not fit;
            the message names the first missing, extra or misshapen key.

    Examples:
        >>> import torch
        >>> from medsr.networks import load_checkpoint
        >>> from medsr.networks.registry import small
        >>> trained, fresh = small("recnn-10l"), small("recnn-10l")
        >>> load_checkpoint(fresh, {"state_dict": trained.state_dict()})  # or a path
        >>> all(torch.equal(a, b) for a, b in zip(trained.parameters(), fresh.parameters()))
        True
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
    """Return the content of a file written by `torch.save`: tensors and plain values only; no code is executed.

    Raises:
        InputError: If the file does not exist, is damaged or holds anything else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: check the path, or train the network") from None
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} is not a file of weights alone and was not loaded, because it may hold program code; if you trust "
            "it, load it yourself and save its state dict"
        ) from None
    except Exception:  # whatever a damaged file makes of the unpickler
        raise InputError(f"{path} is not a file of weights, or it is damaged; fetch or copy it again") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, expected a state dict; save that of the network")
    return content


def renamed(weights: Weights, patterns: Any) -> dict[str, torch.Tensor]:
    """Return the weights under our names, by a table of (regular expression, replacement of `re.sub` or None)."""
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
    """Return the state dict within the content that a training program saved."""
    while not any(isinstance(value, torch.Tensor) for value in content.values()):
        inner = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            raise InputError(
                f"{name} holds no state dict, only {', '.join(map(str, content)) or 'nothing'}; "
                "save that of the network"
            )
        content = content[inner]
    weights = {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in weights):
            weights = {key[len(prefix) :]: value for key, value in weights.items()}
    return weights


def _misfit(weights: Weights, own: Weights) -> Union[str, None]:
    """Return the first missing, extra and misshapen key as text, or None if all keys and shapes fit."""
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    extra = [key for key in weights if key not in own]
    misshapen = [key for key in weights if key in own and weights[key].shape != own[key].shape]
    problems = [f"{word} {keys[0]}" for word, keys in (("missing", missing), ("extra", extra)) if keys]
    if misshapen:
        came, expected = tuple(weights[misshapen[0]].shape), tuple(own[misshapen[0]].shape)
        problems.append(f"misshapen {misshapen[0]} {came}, expected {expected}")
    count = len(missing) + len(extra) + len(misshapen)
    return f"{', '.join(problems)} ({count} key(s) in all)" if problems else None
