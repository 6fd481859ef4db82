"""What the package must not contain; docs/security.md says why. Read from the syntax tree, not by words in a line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = sorted([*(REPOSITORY / "medsr").rglob("*.py"), *(REPOSITORY / "deploy").rglob("*.py")])

FORBIDDEN_CALLS = {
    "eval": "runs code",
    "exec": "runs code",
    "compile": "makes code",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "subprocess.getoutput": "runs a shell",
    "subprocess.getstatusoutput": "runs a shell",
    "yaml.load": "may build any object; yaml.safe_load",
    "yaml.unsafe_load": "builds any object",
    "yaml.full_load": "may build any object",
    "tempfile.mktemp": "a name that another may take; mkstemp",
    "torch.hub.load": "fetches and runs code",
    "torch.hub.load_state_dict_from_url": "downloads; medsr.weights.find",
    "urllib.request.urlopen": "uses the network",
    "urllib.request.urlretrieve": "uses the network",
    "torch.package.PackageImporter": "runs code",
    "torch.jit.load": "runs what a file holds",
}
FORBIDDEN_METHODS = {"extractall": "paths of an archive are checked one by one", "unpack_archive": "see extractall"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
# pickle names the error that torch raises where a file would run code; nothing else of it is used.
ALLOWED_OF_PICKLE = {"UnpicklingError"}
NETWORK = {"requests", "urllib.request", "http.client", "httpx", "ftplib", "socket"}
# `leftovers` asks for this computer's name; the node's business is the network.
MAY_IMPORT_NETWORK = ("medsr/files/leftovers.py", "medsr/node/")


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an expression, else nothing."""
    if isinstance(node, ast.Attribute):
        left = dotted(node.value)
        return f"{left}.{node.attr}" if left else ""
    return node.id if isinstance(node, ast.Name) else ""


def full_names(tree: ast.AST) -> dict[str, str]:
    """What imported names stand for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(
                {a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names}
            )
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    return names


def faults(source: str, place: str) -> Iterator[str]:
    """What of the above a source contains."""
    tree = ast.parse(source)
    names = full_names(tree)
    for node in ast.walk(tree):
        where = f"{place}:{getattr(node, 'lineno', 0)}"
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
        for module in modules:
            if module.split(".")[0] in FORBIDDEN_MODULES and not (isinstance(node, ast.Import) and module == "pickle"):
                yield f"{where}: imports {module}"
            if module in NETWORK and not place.startswith(MAY_IMPORT_NETWORK):
                yield f"{where}: imports {module}"
        if isinstance(node, ast.Attribute) and dotted(node.value) == "pickle" and node.attr not in ALLOWED_OF_PICKLE:
            yield f"{where}: uses pickle.{node.attr}"
        if isinstance(node, ast.Call):
            yield from (f"{where}: {fault}" for fault in faults_of_call(node, names))


def faults_of_call(call: ast.Call, names: dict[str, str]) -> Iterator[str]:
    said = dotted(call.func)
    first, _, rest = said.partition(".")
    name = ".".join(part for part in (names.get(first, first), rest) if part)
    options = {keyword.arg: keyword.value for keyword in call.keywords}

    def is_set(option: str, wanted: bool) -> bool:
        value = options.get(option)
        return isinstance(value, ast.Constant) and value.value is wanted

    if name in FORBIDDEN_CALLS:
        yield f"calls {name}: {FORBIDDEN_CALLS[name]}"
    if isinstance(call.func, ast.Attribute) and call.func.attr in FORBIDDEN_METHODS:
        yield f"calls {call.func.attr}: {FORBIDDEN_METHODS[call.func.attr]}"
    if name == "torch.load" and not is_set("weights_only", True):
        yield "calls torch.load without weights_only=True"
    if "shell" in options and not is_set("shell", False):
        yield f"calls {name} with a shell"
    if "allow_pickle" in options and not is_set("allow_pickle", False):
        yield f"calls {name} with allow_pickle"
    if "trust_remote_code" in options:
        yield f"calls {name} with trust_remote_code"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_source(path: Path) -> None:
    place = path.relative_to(REPOSITORY).as_posix()
    assert list(faults(path.read_text(encoding="utf-8"), place)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch; torch.load(p)",
        "import torch; torch.load(p, weights_only=False)",
        "import torch as t; t.load(p, weights_only=flag)",
        "from torch import load; load(p)",
        "import pickle; pickle.loads(b)",
        "from pickle import loads",
        "import cloudpickle",
        "import subprocess; subprocess.run('ls', shell=True)",
        "from subprocess import run; run(c, shell=flag)",
        "import os; os.system('ls')",
        "import yaml; yaml.load(t, Loader=yaml.Loader)",
        "from yaml import load as read; read(t)",
        "import zipfile; zipfile.ZipFile(p).extractall(d)",
        "import numpy as np; np.load(p, allow_pickle=True)",
        "eval(text)",
        "import tempfile; tempfile.mktemp()",
        "import torch; torch.hub.load('a/b', 'c')",
        "import torch; torch.jit.load(p)",
        "import requests",
        "from urllib.request import urlopen",
        "import urllib.request",
    ],
)
def test_the_test_sees(source: str) -> None:
    assert len(list(faults(source, "medsr/x.py"))) >= 1


def test_the_test_lets_pass() -> None:
    source = (
        "import pickle, subprocess, torch, yaml, numpy as np\n"
        "try: torch.load(p, map_location='cpu', weights_only=True)\n"
        "except pickle.UnpicklingError: pass\n"
        "subprocess.run(['ls'], shell=False); yaml.safe_load(t); np.load(p, allow_pickle=False); model.eval()\n"
    )
    assert list(faults(source, "medsr/x.py")) == []
