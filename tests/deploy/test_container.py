"""The container recipe: its facts, and the command line run as it would run in there. The image is not built here."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = REPOSITORY / "deploy" / "container" / "Dockerfile"


class Instruction(NamedTuple):
    name: str
    value: str
    stage: int


def instructions() -> list[Instruction]:
    """Of the recipe, comments dropped and lines joined."""
    text = "\n".join(line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#"))
    found, stage = [], -1
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip():
            name, value = line.split(maxsplit=1)
            stage += name == "FROM"
            found.append(Instruction(name, value, stage))
    return found


def values(name: str, stage: int | None = None) -> list[str]:
    return [i.value for i in instructions() if i.name == name and stage in (None, i.stage)]


def environment() -> dict[str, str]:
    """Of the image that runs."""
    return dict(word.split("=", 1) for value in values("ENV", 1) for word in shlex.split(value))


def test_linter() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    config = DOCKERFILE.with_name("hadolint.yaml")
    done = subprocess.run([hadolint, "--config", config, DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_two_stages_of_one_pinned_image() -> None:
    (default,) = [v.partition("=")[2] for v in values("ARG", -1)]
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", default)
    assert values("FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"], "a venv is not moved between Pythons"


def test_runs_as_nobody_special() -> None:
    assert values("USER", 1) == ["10001:10001"], "numeric: an orchestrator can tell that it is not root"
    last = instructions()[-1]
    assert [i.name for i in instructions() if i.stage == 1][-4:] == ["USER", "HEALTHCHECK", "ENTRYPOINT", "CMD"]
    assert json.loads(values("ENTRYPOINT")[0]) == ["/opt/medsr/bin/medsr"], "no shell in between"
    assert json.loads(last.value) == ["--help"]
    assert not values("RUN", 1), "the image that runs is put together, not changed"


def test_nothing_is_fetched_but_by_pip() -> None:
    for command in values("RUN"):
        assert not re.search(r"\b(curl|wget|git|apt|apt-get|sudo|chmod)\b", command)
        for part in command.split("&&"):
            if "pip install" in part and "${TORCH_INDEX}" not in part:
                assert "--index-url" not in part
    assert not values("ADD")
    assert "PIP_CONSTRAINT=/source/constraints.txt" in values("ENV", 0)[0]


def test_versions_are_those_of_the_project() -> None:
    torch = next(v.partition("=")[2] for v in values("ARG", 0) if v.startswith("TORCH="))
    assert f"torch=={torch}\n" in (REPOSITORY / "constraints.txt").read_text()
    assert f"TORCH := torch=={torch}\n" in (REPOSITORY / "Makefile").read_text()
    extras = re.search(r'pip install "\.\[([a-z,]+)\]"', " ".join(values("RUN", 0)))
    assert extras is not None
    project = (REPOSITORY / "pyproject.toml").read_text()
    for extra in extras[1].split(","):
        assert re.search(rf"^{extra} = \[", project, flags=re.MULTILINE), extra


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out of the build: the last pattern that matches it, or a folder of it."""
    parts = path.split("/")
    prefixes = ["/".join(parts[: k + 1]) for k in range(len(parts))]
    result = False
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        names = parts if pattern.startswith("**/") else prefixes
        if any(fnmatch.fnmatchcase(name, pattern.removeprefix("**/")) for name in names):
            result = not line.startswith("!")
    return result


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    copied = [value.split() for value in values("COPY") if not value.startswith("--from")]
    sources = [word for words in copied for word in words[:-1]]
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert not ignored(source), source
    # what the build backend reads
    assert {"pyproject.toml", "README.md", "LICENSE", "medsr", "bundles", "data_manifests"} <= set(sources)
    for path in ("bundles/recnn3d/models/model.pt", "bundles/recnn3d/models/SHA256SUMS", "medsr/cli/__init__.py"):
        assert not ignored(path)
    for path in (".git/config", ".venv/bin/python", "demo_output/lr/a.nii.gz", "bundles/recnn3d/runs/model.pt"):
        assert ignored(path), path
    assert ignored("medsr/__pycache__")


def test_all_that_is_written_goes_to_tmp() -> None:
    made = environment()
    assert {key for key, value in made.items() if value.startswith("/tmp")} == {
        "HOME",
        "MPLCONFIGDIR",
        "XDG_CACHE_HOME",
    }
    assert made["PYTHONDONTWRITEBYTECODE"] == "1"


@pytest.fixture
def contained(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python with the recipe's environment: read-only root and input, empty /tmp, no network, uid 10001."""
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    begin = ["unshare", "-rmn", "sh", Path(__file__).with_name("container_emulation.sh"), tmp_path / "in"]
    begin += [tmp_path / "out", "env", "-i"]
    if shutil.which("unshare") is None or subprocess.run([*begin, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    if any(Path(folder).resolve().is_relative_to("/tmp") for folder in (REPOSITORY, sys.prefix)):
        pytest.skip("this checkout lies below /tmp, which the container has for itself")
    made = {**environment(), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "MEDSR_BUNDLES": "/media/in"}
    words = [f"{key}={value}" for key, value in made.items()]

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*begin, *words, sys.executable, *arguments]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)

    return run


def test_command_line_as_in_the_container(
    contained: Callable[..., subprocess.CompletedProcess[str]],
    tiny_bundle: Path,
    phantom: Callable[..., np.ndarray],
    tmp_path: Path,
) -> None:
    probe = (
        "import os, socket; print(os.getuid())\n"
        "for path in ('/x', '/data/x', '/media/in/x', os.path.expanduser('~/x')):\n"
        "    try: open(path, 'w'); print('written', path)\n"
        "    except OSError: pass\n"
        "try: socket.create_connection(('192.0.2.1', 9), 1)\n"
        "except OSError as error: print(error.strerror)\n"
    )
    done = contained("-c", probe)
    assert done.stdout.splitlines() == ["10001", "written /tmp/x", "Network is unreachable"], done.stderr

    shutil.copytree(tiny_bundle, tmp_path / "in" / "tinysr")
    nib.save(nib.Nifti1Image(phantom((9, 8, 7)), np.eye(4)), tmp_path / "in" / "a.nii.gz")
    request = ("/media/in/a.nii.gz", "--scale", "2", "--bundle", "tinysr", "-o", "/media/out")
    done = contained("-m", "medsr.cli", "upscale", *request)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "/media/out/a_sr.nii.gz\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_sr.json", "a_sr.nii.gz", "a_sr.png"]
    assert "Traceback" not in done.stderr
    assert "matplotlib" not in done.stderr, "it has a folder for its fonts"
    assert nib.load(tmp_path / "out" / "a_sr.nii.gz").shape == (18, 16, 14)
