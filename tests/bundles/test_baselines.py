"""One set of configs, one override file per network: each builds its network and keeps all else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from medsr.networks import PRESETS

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "slice_baselines" / "configs"
SHARED = {"train", "inference", "evaluate", "metadata", "multi_gpu_train"}
OVERRIDES = sorted(path.stem for path in CONFIGS.glob("*.json") if path.stem not in SHARED)


def test_networks_of_the_table_are_there() -> None:
    expected = {"edsr", "edsr_lite", "rdn", "rcan", "han", "swinir", "swinir_lite", "convnet_lite", "convnet_large"}
    assert {*expected, "srresnet"} == set(OVERRIDES)


@pytest.mark.parametrize("name", OVERRIDES)
def test_override_names_a_network_and_its_weights(name: str) -> None:
    override = json.loads((CONFIGS / f"{name}.json").read_text())
    assert set(override) == {"method", "weights", "network_def#name"}
    preset = PRESETS[override["network_def#name"]]
    for config in ("train", "inference", "evaluate"):
        parser = ConfigParser()
        parser.read_config([str(CONFIGS / f"{config}.json"), str(CONFIGS / f"{name}.json")])
        with torch.device("meta"):
            network = parser.get_parsed_content("network_def")
        assert type(network) is preset.network
        assert network.spec.scales == (4,) * 2
        if config != "train":
            assert parser["weights"].startswith("$@bundle_root + '/models/model")


@pytest.mark.parametrize("config", ["train", "inference"])
def test_same_data_same_steps_as_rdst(config: str) -> None:
    """What makes a table of comparisons fair: nothing but the network differs."""
    ours = json.loads((CONFIGS / f"{config}.json").read_text())
    rdst = json.loads((CONFIGS.parents[1] / "rdst" / "configs" / f"{config}.json").read_text())
    differing = {key for key in {*ours, *rdst} if ours.get(key) != rdst.get(key)}
    assert differing <= {"network_def", "imports"}
