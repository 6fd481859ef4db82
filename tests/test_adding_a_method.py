"""Adding a method takes the five touches that CONTRIBUTING.md names, and no other: done here, in a copy.

The method is ESPCN (Shi et al. 2016), small and real; the package itself does not have it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
METHOD = "espcn"
COPIED = ("medsr", "tests", "docs", "data_manifests", "README.md", "CONTRIBUTING.md", "pyproject.toml")
BUNDLES = ("rdst", "segmentation_unet")  # what the new bundle is made from, and what its configs may name

NETWORK = '''"""ESPCN: convolutions on the LR grid, and one sub-pixel convolution (Shi et al. 2016)."""

from typing import Optional

import torch
from torch import nn

from medsr.networks.blocks.residual import check_sizes, convolution
from medsr.networks.blocks.upsamplers import PixelShuffle
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class ESPCN(nn.Module):
    """Two convolutions with tanh, then one whose channels become pixels (Shi et al. 2016, section 3, equations 1 to 4).

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        scale: The scale.
        features: The numbers of features n1 and n2.
        spatial_dims: The number of spatial axes, 2 or 3.
    """

    SMALL = {"features": (6, 4)}

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        scale: int = 4,
        features: tuple[int, int] = (64, 32),
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        out = in_channels if out_channels is None else out_channels
        check_sizes("ESPCN", spatial_dims, in_channels, out, scale=scale, features=min(features))
        self.conv1 = convolution(spatial_dims, in_channels, features[0], 5)
        self.conv2 = convolution(spatial_dims, features[0], features[1], 3)
        self.conv3 = convolution(spatial_dims, features[1], out * scale**spatial_dims, 3)
        self.shuffle = PixelShuffle(spatial_dims, scale)
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out,
            scales=(scale,) * spatial_dims,
            halo=4,
            bytes_per_voxel=4 * (sum(features) + 2 * out * scale**spatial_dims),
            paper="Shi et al. 2016, section 3",
        )

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Enlarge an image (B, in_channels, *spatial); the scale is built in."""
        return self.shuffle(self.conv3(torch.tanh(self.conv2(torch.tanh(self.conv1(lr))))))


PRESETS = {"espcn": Preset(ESPCN, {}, 24_752)}
'''

TEST = '''"""ESPCN as Shi et al. 2016 describe it.

Compared with torch's own pixel shuffle and convolutions, written out.
"""

import torch
from torch.nn import functional as F

from medsr.networks import ESPCN


def test_agrees_with_torch():
    network, x = ESPCN(scale=3), torch.randn(2, 1, 7, 6)
    y = x
    for layer in (network.conv1, network.conv2):
        y = torch.tanh(F.conv2d(y, layer.weight, layer.bias, padding="same"))
    y = F.pixel_shuffle(F.conv2d(y, network.conv3.weight, network.conv3.bias, padding="same"), 3)
    torch.testing.assert_close(network(x), y)
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which the five steps have been done."""
    root = tmp_path_factory.mktemp("repository")
    for name in COPIED:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, root / name)
    for name in BUNDLES:
        shutil.copytree(REPOSITORY / "bundles" / name, root / "bundles" / name)
    before = content(root)
    add_the_network(root)
    add_the_registry_line(root)
    add_the_bundle(root)
    (root / "tests" / "networks" / f"test_{METHOD}.py").write_text(TEST)
    add_the_rows(root)
    after = content(root)
    touched = {path for path in after if after[path] != before.get(path)}
    (root / "touched.json").write_text(json.dumps(sorted(touched)))
    assert not set(before) - set(after), "nothing is removed"
    return root


def content(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root), "MEDSR_TEST_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(
        [sys.executable, *words], cwd=root, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done


def add_the_network(root: Path) -> None:
    (root / "medsr" / "networks" / f"{METHOD}.py").write_text(NETWORK)


def add_the_registry_line(root: Path) -> None:
    path = root / "medsr" / "networks" / "methods.py"
    text = path.read_text()
    path.write_text(text.replace('    "han": ', f'    "{METHOD}": ("ESPCN",),\n    "han": '))


def add_the_bundle(root: Path) -> None:
    """Copy the bundle of the same kind, say what is this method's own, train (here: not), record the hashes."""
    bundle = root / "bundles" / METHOD
    shutil.copytree(root / "bundles" / "rdst", bundle, ignore=shutil.ignore_patterns("models", "finetune.json"))
    for path in (bundle / "configs").glob("*.json"):
        path.write_text(path.read_text().replace('"rdst-e"', f'"{METHOD}"').replace('"rdst"', f'"{METHOD}"'))
    (bundle / "models").mkdir()
    weights = (
        "import torch; from medsr.networks import create; torch.manual_seed(0); "
        f"torch.save(create('{METHOD}', scale=4).state_dict(), 'bundles/{METHOD}/models/model.pt')"
    )
    run(root, "-c", weights)
    run(root, "-m", "medsr.cli", "weights", "record", f"bundles/{METHOD}")


def add_the_rows(root: Path) -> None:
    readme = root / "README.md"
    row = next(line for line in readme.read_text().splitlines() if line.startswith("| [`rdst`]"))
    readme.write_text(readme.read_text().replace(row, f"{row}\n{row.replace('rdst', METHOD)}"))
    (root / "docs" / "networks.md").write_text(run(root, "-m", "medsr.cli", "networks", "--format", "markdown").stdout)


def steps() -> list[str]:
    """The numbered steps of CONTRIBUTING.md."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    section = text[text.index("## Adding a method") :]
    section = section[: section.index("\n## ", 1)]
    return re.split(r"^\d\. ", section, flags=re.M)[1:]


@pytest.mark.slow
def test_what_was_touched_is_what_the_steps_name(copy: Path) -> None:
    named = [re.findall(r"`([\w./<>]+)`", step) for step in steps()]
    assert len(named) == 5
    places = [place.replace("<method>", METHOD) for paths in named for place in paths if "/" in place or "." in place]
    touched = json.loads((copy / "touched.json").read_text())
    for path in touched:
        assert any(path == place or (place.endswith("/") and path.startswith(place)) for place in places), path
    for paths in named:
        own = [place.replace("<method>", METHOD) for place in paths]
        assert any(path == place or path.startswith(place) for path in touched for place in own), paths


@pytest.mark.slow
def test_everything_passes_with_the_new_method(copy: Path) -> None:
    selected = f"{METHOD} or ESPCN or documentation_lists or presets_is_a_method or exports_are"
    networks = [f"tests/networks/{name}.py" for name in ("test_registered", "test_methods", f"test_{METHOD}")]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = run(copy, "-m", "pytest", *options, "-k", selected, *networks)
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 20
    battery = ["test_files", "test_network", "test_inference", "test_training"]
    done = run(copy, "-m", "pytest", *options, "-k", METHOD, *(f"tests/bundles/{name}.py" for name in battery))
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 60


@pytest.mark.slow
def test_the_style_and_the_direction_of_imports_hold(copy: Path) -> None:
    run(copy, "-m", "ruff", "check", f"medsr/networks/{METHOD}.py", f"tests/networks/test_{METHOD}.py")
    run(copy, "-c", "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())")
