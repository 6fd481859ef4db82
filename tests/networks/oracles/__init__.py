"""Literal, unfused implementations of the networks: oracles for the tests and the baseline of the benchmark.

Every file in this folder is found automatically, and its `formulation_of` names its networks. A network may have no
oracle here; its own test then says what it is compared with.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from tests.networks.oracles.registration import FORMULATIONS

for _file in iter_modules(__path__, f"{__name__}."):
    import_module(_file.name)

__all__ = ["FORMULATIONS"]
