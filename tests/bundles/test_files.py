"""What a bundle is made of: files, names, metadata, and configs that MONAI, its zoo and MONAI Label can read."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import LoadImaged

from medsr.engines import StrictCheckpointLoader

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
FILES = (
    "LICENSE",
    "configs/metadata.json",
    "configs/inference.json",
    "configs/train.json",
    "configs/evaluate.json",
    "configs/multi_gpu_train.json",
    "configs/logging.conf",
    "models/model.pt",
    "models/SHA256SUMS",
    "docs/README.md",
    "docs/data_license.txt",
)
INFERENCE_KEYS = [
    *("imports", "bundle_root", "dataset_dir", "output_dir", "device", "network_def", "network", "preprocessing"),
    *("dataset", "dataloader", "inferer", "postprocessing", "handlers", "evaluator", "initialize", "run"),
]
# What `medsr upscale` and `medsr.upscale` set, so that every bundle is used alike.
SETTINGS = [
    *("scale", "spacing", "precision", "memory_mb", "ensemble", "formation", "safe", "preview", "output_ext"),
    *("output_postfix", "consistency", "bids", "amp", "weights"),
]
LARGEST_FILE = 25 * 2**20


@pytest.mark.parametrize("file", FILES)
def test_required_file(any_bundle: Any, file: str) -> None:
    path = any_bundle.root / file
    assert path.is_file(), f"{path} is missing; a bundle is not complete without it"
    assert path.stat().st_size > 0
    assert path.stat().st_size < LARGEST_FILE


def test_weight_files_and_no_stale_export(any_bundle: Any) -> None:
    # MONAI Label takes the .pt of the shortest name, MONAI Deploy a .ts before the .pt
    files = list(any_bundle.root.rglob("*.pt"))
    assert {path.parent for path in files} == {any_bundle.root / "models"}
    assert min(files, key=lambda path: len(path.name)).name == "model.pt"
    assert all(path.name == "model.pt" or path.name.startswith("model_") for path in files), "model_VARIANT.pt"
    assert all(path.stat().st_size < LARGEST_FILE for path in files)
    assert not [path for suffix in ("ts", "onnx", "pth") for path in any_bundle.root.rglob(f"*.{suffix}")]


def test_recorded_hashes_are_those_of_the_files(any_bundle: Any) -> None:
    """`medsr weights record BUNDLE` writes them; `sha256sum --check` reads them too."""
    lines = (any_bundle.root / "models" / "SHA256SUMS").read_text().splitlines()
    recorded = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = (any_bundle.root / "models").glob("*.pt")
    assert recorded == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_one_config_of_each_kind(any_bundle: Any) -> None:
    names = {path.name for path in (any_bundle.root / "configs").iterdir()}
    assert not [name for name in names if name.endswith((".yaml", ".yml"))], "monai.bundle.load needs JSON"
    assert all(path.suffix != ".py" for path in any_bundle.root.rglob("*")), "bundles hold no logic"


def test_row_in_the_readme(any_bundle: Any) -> None:
    readme = (any_bundle.root.parents[1] / "README.md").read_text()
    assert f"](bundles/{any_bundle.name}/docs/README.md)" in readme


def test_name(any_bundle: Any) -> None:
    name = any_bundle.name.lower()
    assert not any(word in name for word in ("detection", "classification", "deepedit", "deepgrow"))
    assert not re.search(r"_v\d+(\.\d+)*$", name)
    others = [path.name for path in any_bundle.root.parent.iterdir() if path.is_dir() and path != any_bundle.root]
    assert not [other for other in others if name in other.lower() or other.lower() in name]
    assert any_bundle.metadata["name"] == any_bundle.name


def test_licence_texts(any_bundle: Any) -> None:
    assert "Apache License" in (any_bundle.root / "LICENSE").read_text()
    readme = (any_bundle.root / "docs" / "README.md").read_text()
    assert "research use only" in readme.lower()


def test_metadata(any_bundle: Any) -> None:
    metadata = any_bundle.metadata
    assert metadata["schema"] == "https://project-monai.github.io/schema/meta_schema_20240725.json"
    assert metadata["version"] in metadata["changelog"]
    assert next(iter(metadata["changelog"])) == metadata["version"], "the newest version comes first"
    assert "optional_packages_version" not in metadata, "it would replace required_packages_version"
    assert isinstance(metadata["authors"], str)
    assert isinstance(metadata["supported_apps"], dict)
    assert metadata["required_packages_version"]["medsr"]
    assert "research use only" in metadata["intended_use"].lower()
    for entry in ("licence", "data_source", "references", "degradation", "trained_on", "test_summary"):
        assert metadata[entry], entry
    for entry in ("dimensions", "modality", "scales"):
        assert metadata["trained_on"][entry], entry


def test_data_format(bundle: Any) -> None:
    formats = bundle.metadata["network_data_format"]
    assert next(iter(formats["inputs"])) == "image"
    assert next(iter(formats["outputs"])) == "pred"
    for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert tensor["type"] == "image"
        assert tensor["format"] == "magnitude"
        assert tensor["channel_def"] == {"0": "image"}
        assert all(isinstance(value, int | float) for value in tensor["value_range"])
        assert len(tensor["spatial_shape"]) == bundle.spec.spatial_dims
        assert all(re.fullmatch(r"\d+\*n", size) for size in tensor["spatial_shape"])


def test_metadata_says_what_the_network_is(any_bundle: Any) -> None:
    formats = any_bundle.metadata["network_data_format"]
    assert formats["inputs"]["image"]["num_channels"] == any_bundle.spec.in_channels
    assert formats["outputs"]["pred"]["num_channels"] == any_bundle.spec.out_channels
    assert any_bundle.metadata["trained_on"]["dimensions"].startswith(f"{any_bundle.spec.spatial_dims}D")


def test_inference_keys(bundle: Any) -> None:
    config = bundle.config("inference")
    assert [key for key in config if key in INFERENCE_KEYS] == INFERENCE_KEYS, "all of them, in this order"
    assert not [key for key in SETTINGS if key not in config]
    assert config["amp"] is False, "MONAI Label applies no autocast: results would differ"
    assert config["bundle_root"] == "$runtime.bundle_root()", "the folder of the config file, wherever one stands"
    assert "_meta_" not in json.dumps(config), "MONAI Label does not load the metadata"


def test_weights_are_loaded_when_the_run_starts(any_bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a handler that ends in one line, not as the config is parsed: `monai.bundle.load` initializes anywhere."""
    found: list[Any] = []
    monkeypatch.setattr(StrictCheckpointLoader, "attach", lambda self, engine: found.append(self))
    for name in ("inference", "evaluate"):
        config = any_bundle.config(name)
        assert config["weights"] == "$@bundle_root + '/models/model.pt'"
        assert "CheckpointLoader" not in json.dumps(config["initialize"])
        parser = any_bundle.parser(name, weights="mine.pt", dataset={"_target_": "Dataset", "data": []})
        found.clear()
        parser.get_parsed_content("evaluator")
        assert [loader.load_path for loader in found] == ["mine.pt"], "a user's own can be named"
        assert found[0].network is parser.get_parsed_content("network")
    if any_bundle.enlarges:
        saving = any_bundle.parser(weights="mine.pt").get_parsed_content("postprocessing").transforms[-1]
        assert saving.weights == Path("mine.pt"), "the record has the hash of those that were used"


def test_the_three_configs_are_thin(any_bundle: Any) -> None:
    """What bundles share is in the package: a config says only what is its own, and no expression is a program."""
    lines = []
    for name in ("inference", "train", "evaluate"):
        lines += (any_bundle.root / "configs" / f"{name}.json").read_text().splitlines()
    assert len(lines) <= 190, "named parts of medsr.bundle say what bundles share"
    assert max(map(len, lines)) <= 120


def test_bundles_are_put_together_from_the_same_parts(any_bundle: Any) -> None:
    inference, train, evaluate = (any_bundle.config(name) for name in ("inference", "train", "evaluate"))
    assert inference["evaluator"]["_target_"] == evaluate["evaluator"]["_target_"] == "medsr.bundle.Inference"
    assert inference["preprocessing"]["_target_"] == "medsr.bundle.VolumePreprocessing"
    assert train["train"]["trainer"]["_target_"] == "medsr.bundle.Training"
    assert train["train"]["dataloader"]["_target_"] in ("medsr.bundle.TrainingLoader", "medsr.bundle.PatchLoader")
    assert train["validate"]["evaluator"]["_target_"] == "medsr.bundle.Validation"


# Which bundles are variants of one method, and by which entries they may differ.
VARIANTS = {("rdst", "slice_baselines"): {"network_def", "method"}}


@pytest.mark.parametrize("config", ["inference", "train", "evaluate"])
@pytest.mark.parametrize("pair", VARIANTS)
def test_variants_differ_by_their_own_lines_only(pair: tuple[str, str], config: str) -> None:
    one, two = (json.loads((BUNDLES / name / "configs" / f"{config}.json").read_text()) for name in pair)
    assert {key for key in {*one, *two} if one.get(key) != two.get(key)} <= VARIANTS[pair]


def test_training_starts_from_weights_that_are_named(any_bundle: Any) -> None:
    assert any_bundle.config("train")["initial_weights"] is None
    assert any_bundle.config("train")["train"]["trainer"]["initial_weights"] == "@initial_weights"


def test_nothing_that_tools_read_lives_in_initialize(any_bundle: Any) -> None:
    # MONAI Label and MONAI Deploy build these parts and never run `initialize`
    parser = ConfigParser()
    parser.read_config(str(any_bundle.root / "configs" / "inference.json"))
    parser["bundle_root"] = str(any_bundle.root)
    parser["initialize"] = []
    for key in ("network_def", "preprocessing", "inferer", "postprocessing"):
        assert parser.get_parsed_content(key) is not None


def names_of(transforms: Any) -> list[str]:
    return [type(transform).__name__ for transform in transforms]


def test_preprocessing_keeps_the_native_grid(any_bundle: Any) -> None:
    transforms = any_bundle.parser().get_parsed_content("preprocessing").transforms
    names = names_of(transforms)
    assert isinstance(transforms[0], LoadImaged), "hosts that load images themselves recognise it"
    assert [type(reader).__name__ for reader in transforms[0]._loader.readers][-1] == "VolumeReader", "tried first"
    assert "NormalizeIntensityRecordedd" in names, "the window is recorded before it is applied"
    moving = {"Spacingd", "Orientationd", "Resized", "Zoomd", "Invertd", "ScaleIntensityd", "CropForegroundd"}
    assert not moving & set(names)


def test_inferer_is_explicit(bundle: Any) -> None:
    inferer = bundle.config("inference")["inferer"]
    assert inferer["_target_"] == "medsr.inferers.SuperResolutionInferer"
    assert "buffer_steps" not in inferer


def test_postprocessing_ends_on_the_sr_grid(bundle: Any) -> None:
    transforms = bundle.parser().get_parsed_content("postprocessing").transforms
    assert names_of(transforms)[-3:] == ["RestoreIntensityd", "SetSuperResolutionGridd", "SaveImageWithRecordd"]


def test_training_config(any_bundle: Any) -> None:
    config = any_bundle.config("train")
    assert config["train"]["dataset"]["data"], "MONAI Label replaces it by {image, label} items"
    assert isinstance(config["train"]["handlers"], list)
    assert config["train"]["inferer"]
    assert config["train"]["trainer"]["max_epochs"] == "@max_epochs"
    assert "models" not in config["ckpt_dir"] + config["output_dir"], "training never overwrites published weights"
    (metric,) = config["validate"]["key_metric"]
    assert metric in ("psnr", "ssim", "dice"), "MONAI keeps the epoch with the largest key metric"


def test_multi_gpu_config_fits_the_training_config(any_bundle: Any) -> None:
    train, parallel = any_bundle.config("train"), any_bundle.config("multi_gpu_train")
    parser = ConfigParser()
    parser.read_config([str(any_bundle.root / "configs" / f"{name}.json") for name in ("train", "multi_gpu_train")])
    for key in parallel:
        assert key.split("#")[0] in {*train, "device", "backend", "finalize"}, f"{key} is of no section"
    assert parser.get("finalize") == ["$engines.stop_processes()"], "or a rank may abort at the end"


def test_weights_fit_exactly(any_bundle: Any) -> None:
    assert all(isinstance(value, torch.Tensor) for value in any_bundle.weights.values())
    network = any_bundle.parser().get_parsed_content("network_def")
    result = network.load_state_dict(any_bundle.weights, strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys
    assert all(torch.isfinite(value).all() for value in any_bundle.weights.values())
    assert not [key for key in any_bundle.weights if key.startswith("module.")]


def test_configs_build_one_network(any_bundle: Any) -> None:
    definitions = [any_bundle.config(name)["network_def"] for name in ("inference", "train", "evaluate")]
    assert definitions[0] == definitions[1] == definitions[2]


def test_licence_of_the_data_is_stated(any_bundle: Any) -> None:
    text = Path(any_bundle.root / "docs" / "data_license.txt").read_text()
    assert len(text.split()) > 20
