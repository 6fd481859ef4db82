"""Checks that the entries given by a user exist in a bundle's config, also inside its components."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from pydoc import locate
from typing import Any

from ignite.engine import Engine
from monai.bundle import ComponentLocator, ConfigComponent
from torch.utils.data import DataLoader

from medsr.bundle.settings import setting_for
from medsr.errors import InputError
from medsr.networks import NETWORKS, PRESETS, create, whole_scale

SEPARATOR = "::"
_LANGUAGE = ("$", "@", "%")  # the first characters of MONAI's expressions, references and macros
_OF_COMPONENTS = ("_target_", "_disabled_", "_requires_", "_desc_", "_mode_")
_ANYTHING = "$"  # stands for a default that says nothing about the kind of the value
_MISSPELT = 0.85  # the similarity (0 to 1) from which a name counts as misspelt where any name is allowed


def checked(
    given: Mapping[str, Any],
    config: Mapping[str, Any],
    owner: str,
    *,
    root: Path | None = None,
    expressions: bool = False,
) -> dict[str, Any]:
    """Return the user's entries with their texts replaced by values; see `medsr.bundle.settings`.

    Args:
        given: The values by id, such as "scale" or "inferer::tile_size" (or with #, MONAI's older separator).
        config: The config whose entries are overridden.
        owner: The name of the config in messages.
        root: The folder of the bundle, among whose weights a name of `weights` is looked up where it is no file.
        expressions: Whether a text may be an expression, a reference or a macro of MONAI, which stays as it is.

    Raises:
        MedsrError: If the config has no such entry (the message names the nearest), or a value is impossible.
    """
    given = {key.replace("#", SEPARATOR): value for key, value in given.items()}
    result = {}
    for key, value in given.items():
        path = key.split(SEPARATOR)
        default = _default(path, config, given, owner)
        written = expressions and isinstance(value, str) and value.startswith(_LANGUAGE)
        setting = None if written else setting_for(path, default)
        result[key] = value if setting is None else setting.parse(key, value)
        if key == "weights" and not written and root is not None and result[key] is not None:
            result[key] = named_weights(root, result[key])
    return result


def named_weights(root: Path, weights: str) -> str:
    """Return the path of a weight file: the file itself, or else the one of this name in the bundle's `models`."""
    named = root / "models" / weights
    return str(named) if named.is_file() and not Path(weights).is_file() else weights


def _default(path: list[str], config: Mapping[str, Any], given: Mapping[str, Any], owner: str) -> Any:
    """Return the value at a place of the config, with references followed; `_ANYTHING` where any entry is allowed.

    Raises:
        InputError: If there is no such entry.
    """
    node: Any = config
    inside = False  # whether the place is inside a component, where dictionaries are data
    for depth, part in enumerate(path):
        node = _followed(node, config)
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
            continue
        if not isinstance(node, Mapping):
            raise _unknown(path, depth, [], owner)
        inside = inside or "_target_" in node
        if part in node:
            node = node[part]
        elif part in _OF_COMPONENTS:
            return _ANYTHING
        elif "_target_" in node:
            place = SEPARATOR.join(path[:depth])  # the user may name another class or network there at the same time
            target, name = (given.get(f"{place}::{key}", node.get(key)) for key in ("_target_", "name"))
            parameters, takes_more = _parameters(str(target), str(name))
            if part not in parameters:
                if takes_more and not difflib.get_close_matches(part, [*node, *parameters], cutoff=_MISSPELT):
                    return _ANYTHING
                raise _unknown(path, depth, [*node, *parameters], owner)
            node = parameters[part]
        elif inside or not (depth == 0 or _is_section(node)):
            return _ANYTHING
        else:
            raise _unknown(path, depth, node, owner)
    return _followed(node, config)


def _is_section(node: Mapping[str, Any]) -> bool:
    """Return whether a dictionary is not data but holds parts of a workflow (such as `train` and `validate`)."""
    return any(isinstance(value, Mapping) and "_target_" in value for value in node.values())


def _followed(node: Any, config: Mapping[str, Any]) -> Any:
    """Return the value that a plain reference ("@train::dataset") refers to; expressions stay as they are."""
    for _ in range(10):  # longer than any chain of references, unless it is circular
        if not (isinstance(node, str) and node.startswith("@")):
            return node
        target: Any = config
        for part in node[1:].replace("#", SEPARATOR).split(SEPARATOR):
            target = target.get(part, _ANYTHING) if isinstance(target, Mapping) else _ANYTHING
        node = target
    return _ANYTHING


@cache
def _parameters(target: str, name: str) -> tuple[dict[str, Any], bool]:
    """Return the arguments of a component with their defaults, and whether it accepts others too.

    Args:
        target: The dotted path of a class or function, or the name of a class of MONAI.
        name: The name of a network, for a component that makes networks by name.
    """
    if target.startswith(_LANGUAGE):
        return {}, True
    component = ConfigComponent({"_target_": target}, locator=_locator() if "." not in target else None)
    module = component.resolve_module_name()
    found: Any = locate(module) if isinstance(module, str) else module
    if found in (create, whole_scale):
        network = PRESETS[name].network if name in PRESETS else NETWORKS.get(name)
        parameters, takes_more = _signature(network)
        return parameters if found is create else {"scale": 2, **parameters}, takes_more
    return _signature(found)


def _signature(function: Any) -> tuple[dict[str, Any], bool]:
    # Engines and data loaders pass arguments that they do not name on to their base class.
    chain = inspect.isclass(function) and issubclass(function, Engine | DataLoader)
    found: dict[str, Any] = {}
    for part in [c.__init__ for c in function.__mro__ if "__init__" in vars(c)] if chain else [function]:
        try:
            parameters = inspect.signature(part).parameters.values()
        except (TypeError, ValueError):
            return found, True
        found = {p.name: _ANYTHING if p.default is p.empty else p.default for p in parameters} | found
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return found, False
    return found, True


@cache
def _locator() -> ComponentLocator:
    return ComponentLocator()


def _unknown(path: list[str], depth: int, known: Iterable[str], owner: str) -> InputError:
    """Return the error about an entry that does not exist, with the nearest name that does."""
    names = [name for name in known if not name.startswith("_")]
    nearest = difflib.get_close_matches(path[depth], names, n=1, cutoff=0)
    place = SEPARATOR.join(path[:depth])
    has = SEPARATOR.join([*path[:depth], *nearest]) if nearest else f"nothing inside {place!r}"
    hint = f"{has!r}, the nearest name; write that, or leave it out" if nearest else f"{has}; leave it out"
    return InputError(f"{owner} has no setting {SEPARATOR.join(path)!r}; it has {hint}")
