"""One list: what is exported, registered, documented and tested is what `methods.py` names, no more and no less."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest
import torch

import medsr.networks
from medsr.networks import NETWORKS, PRESETS
from medsr.networks.complexity import count_parameters
from medsr.networks.descriptions import describe
from medsr.networks.methods import METHODS
from medsr.networks.registry import create, small
from medsr.networks.table import document
from tests.networks.oracles import FORMULATIONS

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "medsr" / "networks"
PAGE = (REPOSITORY / "docs" / "networks.md").read_text()
FIRST = {preset.network.__name__: name for name, preset in reversed(PRESETS.items())}  # preset of each class


def test_every_file_with_presets_is_a_method():
    with_presets = {path.stem for path in FOLDER.glob("*.py") if re.search(r"^PRESETS\b", path.read_text(), re.M)}
    assert with_presets - {"registry"} == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_line_of_a_method_names_its_networks(method):
    """In the order of their first presets, and before whatever else is exported."""
    classes = [name for name, network in NETWORKS.items() if network.__module__ == f"medsr.networks.{method}"]
    assert sorted(METHODS[method][: len(classes)]) == sorted(classes)
    for name in METHODS[method]:
        assert getattr(medsr.networks, name).__module__ == f"medsr.networks.{method}"
        assert name in medsr.networks.__all__
        assert name in dir(medsr.networks)


def test_exports_are_what_they_say():
    for name in medsr.networks.__all__:
        assert not isinstance(getattr(medsr.networks, name), type(medsr)), f"{name} is a module"
    assert len(set(medsr.networks.__all__)) == len(medsr.networks.__all__)


@pytest.mark.parametrize("method", METHODS)
def test_methods_do_not_know_one_another(method):
    """What several are built of lies in `blocks`."""
    imported = set()
    for node in ast.walk(ast.parse((FOLDER / f"{method}.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    assert not imported & {f"medsr.networks.{other}" for other in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_compared_with_something(method):
    """With a plain formulation among the oracles, or with what its own test names."""
    without = {name for name, network in NETWORKS.items() if network.__module__ == f"medsr.networks.{method}"}
    without -= set(FORMULATIONS)
    test = Path(__file__).parent / f"test_{method}.py"
    assert not without or re.search(r"^Compared with .+", test.read_text(), re.M), (
        f"{', '.join(without)}: add an oracle, or a line 'Compared with ...' to the docstring of {test.name}"
    )


def test_oracles_are_of_networks():
    assert set(FORMULATIONS) <= set(NETWORKS)


def test_networks_are_pickled_whole():
    """As loaders with workers and distributed training do; classes are found again by where they are defined."""
    network = small("edsr").eval()
    other = pickle.loads(pickle.dumps(network))
    x = torch.rand(1, 1, 5, 6)
    with torch.no_grad():
        assert torch.equal(other(x), network(x))


def rows_of(page: str) -> list[str]:
    """The rows of a table without the blanks that align them."""
    return [re.sub(r" +", " ", line) for line in page.splitlines() if line.startswith("| ")]


def test_documentation_lists_what_is_registered():
    assert [row.split("|")[1].strip() for row in rows_of(PAGE)] == ["network", *PRESETS]


@pytest.mark.parametrize("name", PRESETS)
def test_documentation_has_the_network_as_it_is(name):
    with torch.device("meta"):
        parameters = count_parameters(create(name))
    (row,) = [row for row in rows_of(PAGE) if row.startswith(f"| {name} ")]
    assert f" {parameters:,} " in row


@pytest.mark.parametrize("name", FIRST.values(), ids=FIRST)
def test_documentation_is_what_the_command_writes(name):
    page = document([describe(name)])
    heading, row = rows_of(page)
    assert heading == rows_of(PAGE)[0]
    assert row in rows_of(PAGE)
    assert page[: page.index("|")] == PAGE[: PAGE.index("|")]
    assert all(remark in PAGE.splitlines() for remark in page.splitlines() if remark.startswith("- "))
