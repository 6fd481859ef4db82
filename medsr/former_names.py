"""Former names of modules and arguments, which configs and scripts may still use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# Only names that a bundle's config, a user's script or a test outside this repository may use.
FORMER = {
    "medsr.bundles": "medsr.bundle",
    "medsr.data.collection": "medsr.datasets.selection",
    "medsr.data.datalists": "medsr.datasets.datalists",
    "medsr.data.items": "medsr.data.inference_items",
    "medsr.data.manifests": "medsr.datasets.manifest_files",
    "medsr.data.sources": "medsr.data.input_images",
}


class FormerNames(MetaPathFinder, Loader):
    """A finder that lets a former name import the module that took its place."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for a former name, None for any other."""
        return ModuleSpec(fullname, self) if fullname in FORMER else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the present module in the place of the former one."""
        sys.modules[module.__name__] = import_module(FORMER[module.__name__])


def install() -> None:
    """Add the finder, once."""
    if not any(isinstance(finder, FormerNames) for finder in sys.meta_path):
        sys.meta_path.append(FormerNames())


def former_arguments(**present: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that lets a function take arguments by their former names.

    Args:
        present: The present name of each argument, by its former name.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for former, name in present.items():
                if former in kwargs:
                    if name in kwargs:
                        raise TypeError(f"{name} was given twice, also by its former name {former}; give it once")
                    kwargs[name] = kwargs.pop(former)
            return function(*args, **kwargs)

        return call

    return decorate
