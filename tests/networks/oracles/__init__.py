"""Each network once more, literally and unfused: an oracle for the tests and the opponent of the benchmark.

Every file of this folder is found by lying here; `formulation_of` in it says which networks it is of. A network need
not have one: its own test then says what it is compared with.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from tests.networks.oracles.registration import FORMULATIONS

for _file in iter_modules(__path__, f"{__name__}."):
    import_module(_file.name)

__all__ = ["FORMULATIONS"]
