"""One table of what a user may set, and what is refused in one line at every door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigWorkflow, create_workflow

from medsr.bundle import Bundle, load_bundle
from medsr.bundle.settings import BOUNDED, SETTINGS, setting_for
from medsr.errors import MedsrError
from medsr.upscaling import upscale

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = ROOT / "bundles"
TRUE = [True, 1, "true", "True", "yes", "ON", "1", np.True_]
FALSE = [False, 0, "false", "False", "no", "off", "0"]


@pytest.fixture
def image(tmp_path: Path, phantom: Callable[..., np.ndarray]) -> Path:
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(phantom((8, 7, 6)), np.diag([1, 1, 2, 1.0])), tmp_path / "in" / "x.nii.gz")
    return tmp_path / "in" / "x.nii.gz"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


# The table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ensemble", "preview", "bids", "consistency", "compile", "amp"])
def test_switches(name: str) -> None:
    assert all(SETTINGS[name].parse(name, value) is True for value in TRUE)
    assert all(SETTINGS[name].parse(name, value) is False for value in FALSE)


@pytest.mark.parametrize(
    ("name", "given_", "value"),
    [
        ("scale", "2", 2),
        ("scale", " 2.5 ", 2.5),
        ("scale", "1x1x2.5", [1, 1, 2.5]),
        ("scale", np.array([1, 2, 3]), [1, 2, 3]),
        ("scale", "9/4", Fraction(9, 4)),
        ("scale", Fraction(9, 4), Fraction(9, 4)),
        ("scale", None, None),
        ("spacing", "[1, 1, 0.5]", [1, 1, 0.5]),
        ("memory_mb", "512", 512),
        ("memory_mb", 512.0, 512),
        ("tile_size", "none", None),
        ("tile_size", (16, 16, 8), [16, 16, 8]),
        ("device", "cpu", torch.device("cpu")),
        ("output_dir", Path("a"), "a"),
        ("output_postfix", 2, "2"),
        ("contrasts", "T1w, FLAIR", ["T1w", "FLAIR"]),
        ("output_ext", "dicom", "dicom"),
        ("between_scales", "up-and-down", "up-and-down"),
    ],
)
def test_values(name: str, given_: Any, value: Any) -> None:
    found = SETTINGS[name].parse(name, given_)
    assert found == value
    assert type(found) is type(value)


@given(
    st.sampled_from([*SETTINGS, *BOUNDED]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.floats() | st.text(), max_size=4),
)
def test_whatever_is_given_is_a_value_or_one_line(name: str, value: Any) -> None:
    message = ""
    try:
        {**BOUNDED, **SETTINGS}[name].parse(name, value)
    except MedsrError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1


def test_kinds_of_a_bundles_own_entries() -> None:
    assert setting_for(["resume"], True).parse("resume", "no") is False  # type: ignore[union-attr]
    assert setting_for(["export_scale"], 2).parse("export_scale", "2.5") == 2.5  # type: ignore[union-attr]
    assert setting_for(["degradation"], "bicubic").parse("d", {"name": "x"}) == {"name": "x"}  # type: ignore[union-attr]
    assert setting_for(["val_limit"], None).parse("val_limit", None) is None  # type: ignore[union-attr]
    assert setting_for(["loss"], {"_target_": "x"}) is None
    assert setting_for(["precision"], "auto").parse("precision", "auto") == "auto"  # type: ignore[union-attr]
    assert setting_for(["threads"], None).parse("threads", "2") == 2  # type: ignore[union-attr]
    assert setting_for(["ema"], None).parse("ema", "0.999") == 0.999  # type: ignore[union-attr]
    with pytest.raises(MedsrError, match="a precision is one of float32, bfloat16, float16, got 'auto'"):
        setting_for(["precision"], "float32").parse("precision", "auto")  # type: ignore[union-attr]
    with pytest.raises(MedsrError, match="expected auto, contiguous or channels_last for layout, got 'nhwc'"):
        setting_for(["layout"], "auto").parse("layout", "nhwc")  # type: ignore[union-attr]
    with pytest.raises(MedsrError, match="expected a number between 0 and 1 for ema, got 1"):
        setting_for(["ema"], None).parse("ema", 1)  # type: ignore[union-attr]
    with pytest.raises(MedsrError, match="expected a whole number of at least 1 for max_epochs, got None"):
        setting_for(["max_epochs"], 3).parse("max_epochs", None)  # type: ignore[union-attr]


# Every door -----------------------------------------------------------------------------------------------------------

# setting of inference, a value that is none, what the line says
BAD: list[tuple[str, Any, str]] = [
    ("scale", 0, "a scale must be positive, got 0"),
    ("scale", -2, "a scale must be positive, got -2"),
    ("scale", 0.5, "at least 1 on every axis"),
    ("scale", "two", "one number or three"),
    ("scale", "nan", "expected"),
    ("spacing", 0, "positive number of mm"),
    ("precision", "float8", "a precision is one of float32, bfloat16, float16, got 'float8'"),
    ("memory_mb", 0, "a whole number of at least 1 for memory_mb, got 0"),
    ("memory_mb", "much", "a whole number of at least 1 for memory_mb, got 'much'"),
    ("tile_size", 0, "a whole number of at least 1, or one per axis for tile_size, got 0"),
    ("between_scales", "sideways", "between_scales is refuse or up-and-down, got 'sideways'"),
    ("formation", "blurr", "expected a formation"),
    ("formation", "block:width=2", "has no 'width'"),
    ("device", "abacus", "device 'abacus' cannot be used here"),
    ("output_ext", ".bmp", "results are written as .nii.gz"),
    ("ensemble", "maybe", "true or false for ensemble, got 'maybe'"),
    ("preview", 2, "true or false for preview, got 2"),
    ("compile", "x", "true or false for compile, got 'x'"),
    ("bids", "never", "true or false for bids, got 'never'"),
]
UNKNOWN = [
    ("ensembel", "has no setting 'ensembel'; it has 'ensemble', the nearest name"),
    ("typo_entry", "has no setting 'typo_entry'; it has "),
    ("initial_weights", "has no setting 'initial_weights'; it has "),
    ("inferer::tile_sise", "has no setting 'inferer::tile_sise'; it has 'inferer::tile_size'"),
    ("network_def#featurs", "has no setting 'network_def::featurs'; it has 'network_def::features'"),
]
BY_COMMAND = {
    "memory_mb": "memory",
    "output_ext": "format",
    "tile_size": "tile-size",
    "formation": "formation",
}
IDS = [f"{name}={value}" for name, value, _ in BAD]


def one_line(text: str, words: str) -> None:
    lines = [line for line in text.splitlines() if line.startswith("medsr: error: ")]
    assert len(lines) == 1, text
    assert words in lines[0]
    assert "Traceback" not in text


def wanted(name: str) -> dict[str, Any]:
    return {} if name in ("scale", "spacing") else {"scale": 2}


@pytest.mark.parametrize(("name", "value", "words"), BAD, ids=IDS)
def test_bad_values_by_python(tiny_bundle: Path, image: Path, name: str, value: Any, words: str) -> None:
    with pytest.raises(MedsrError) as caught:
        upscale(image, tiny_bundle, **{**wanted(name), name: value})
    assert words in str(caught.value)


@pytest.mark.parametrize(("name", "value", "words"), BAD, ids=IDS)
def test_bad_values_by_monai(
    monai_bundle: Callable[..., Any], tiny_bundle: Path, tmp_path: Path, name: str, value: Any, words: str
) -> None:
    config, out = tiny_bundle / "configs" / "inference.json", tmp_path / "out"
    given_ = {**wanted(name), name: value}
    done = monai_bundle("run", config_file=config, dataset_dir=tmp_path / "absent", output_dir=out, **given_)
    assert done.status == 1
    one_line(done.err, words)
    assert not out.exists()


@pytest.mark.parametrize(("name", "value", "words"), BAD, ids=IDS)
def test_bad_values_by_command(
    medsr_command: Callable[..., Any], tiny_bundle: Path, tmp_path: Path, name: str, value: Any, words: str
) -> None:
    option = BY_COMMAND.get(name, name.replace("_", "-"))
    scale = [] if name in ("scale", "spacing") else ["--scale", 2]
    out = tmp_path / "out"
    words = {"two": "'two' is not a number", "nan": "a scale must be a positive number"}.get(
        value, words.split(", got")[0]
    )
    if name in ("ensemble", "preview", "compile", "bids"):
        words = f"argument --{'uncertainty/--ensemble' if name == 'ensemble' else name}: '{value}' is not true or false"
    done = medsr_command(
        "upscale", tmp_path / "absent", "-o", out, *scale, f"--{option}={value}", "--bundle", tiny_bundle
    )
    assert done.status == 2
    assert len(done.err.splitlines()) == 1
    one_line(done.err, words)
    assert not out.exists(), "nothing was made before the settings were known to be good"


@pytest.mark.parametrize(("name", "words"), UNKNOWN)
def test_unknown_names(
    monai_bundle: Callable[..., Any], tiny_bundle: Path, tmp_path: Path, name: str, words: str
) -> None:
    """Before anything is loaded: there are no images, and the weights are no weights."""
    with pytest.raises(MedsrError) as caught:
        load_bundle(Bundle(tiny_bundle), {"weights": str(tmp_path / "none.pt"), name: 3})
    assert words in str(caught.value)
    config, out = tiny_bundle / "configs" / "inference.json", tmp_path / "out"
    done = monai_bundle("run", config_file=config, dataset_dir=tmp_path / "absent", output_dir=out, **{name: 3})
    assert done.status == 1
    one_line(done.err, words)
    assert not out.exists()


@pytest.mark.parametrize("word", FALSE, ids=repr)
def test_false_is_false(monai_bundle: Callable[..., Any], tiny_bundle: Path, image: Path, word: Any) -> None:
    """The text 'false' used to be true."""
    out = image.parent.parent / "out"
    config = {"config_file": tiny_bundle / "configs" / "inference.json", "dataset_dir": image, "output_dir": out}
    done = monai_bundle("run", **config, ensemble=word, preview=word, bids=word, consistency=word, device="cpu")
    assert done.status == 0, done.err
    assert names(out) == {"x_sr.nii.gz", "x_sr.json"}
    plain = load_bundle(Bundle(tiny_bundle), {"device": "cpu"}).run({"image": str(image)}, save=False)["pred"]
    np.testing.assert_array_equal(nib.load(out / "x_sr.nii.gz").get_fdata(dtype=np.float32), plain.numpy()[0])


@pytest.mark.parametrize("switches", [["--ensemble", "false", "--preview", "False", "--bids", "no"], ["--no-preview"]])
def test_false_is_false_by_command(
    medsr_command: Callable[..., Any], tiny_bundle: Path, image: Path, switches: list[str]
) -> None:
    out = image.parent.parent / "out"
    options = ["--scale", 2, "--device", "cpu", "--bundle", tiny_bundle, "--tile-size", "4,4,6", "--compile", "off"]
    done = medsr_command("upscale", image, "-o", out, *options, *switches)
    assert done.status == 0, done.err
    assert names(out) == {"x_sr.nii.gz", "x_sr.json"}
    assert json.loads((out / "x_sr.json").read_text())["tiles"] == 4 * 4 * 2, "of 16 x 14 x 12 voxels"


def test_true_is_true_and_numbers_are_numbers(monai_bundle: Callable[..., Any], tiny_bundle: Path, image: Path) -> None:
    out = image.parent.parent / "out"
    config = {"config_file": tiny_bundle / "configs" / "inference.json", "dataset_dir": image, "output_dir": out}
    done = monai_bundle("run", **config, ensemble="yes", scale="2x1x1", tile_size="none", device="cpu", preview="off")
    assert done.status == 0, done.err
    assert names(out) == {"x_sr.nii.gz", "x_sr.json", "x_sr_std.nii.gz"}
    assert nib.load(out / "x_sr.nii.gz").shape == (16, 7, 6)


# monai.bundle: training, override files, arguments in a file, hosts that start it in a program ------------------------

TRAINING = [
    ("max_epoch", 1, "train.json has no setting 'max_epoch'; it has 'max_epochs', the nearest name"),
    ("train#trainer#max_epoch", 1, "has no setting 'train::trainer::max_epoch'; it has 'train::trainer::max_epochs'"),
    ("train#dataset#cache_rat", 1, "'train::dataset::cache_rate', the nearest"),
    ("trian", 1, "it has 'train'"),
    ("network_def#featurs", 8, "it has 'network_def::features'"),
    ("max_epochs", 0, "a whole number of at least 1 for max_epochs, got 0"),
    ("train#trainer#max_epochs", "many", "a whole number of at least 1 for train::trainer::max_epochs, got 'many'"),
    ("batch_size", 0, "for batch_size, got 0"),
    ("learning_rate", 0, "a number above 0 for learning_rate, got 0"),
    ("learning_rate", "fast", "a number above 0 for learning_rate, got 'fast'"),
    ("patch_size", -3, "for patch_size, got -3"),
    ("resume", "perhaps", "true or false for resume, got 'perhaps'"),
    ("seed", "x", "for seed, got 'x'"),
    ("time_budget_minutes", -1, "for time_budget_minutes, got -1"),
    ("device", "abacus", "device 'abacus' cannot be used here"),
]


@pytest.mark.parametrize(("name", "value", "words"), TRAINING, ids=[f"{n}={v}" for n, v, _ in TRAINING])
def test_bad_settings_of_training(
    monai_bundle: Callable[..., Any], tmp_path: Path, name: str, value: Any, words: str
) -> None:
    config, out = BUNDLES / "recnn3d" / "configs" / "train.json", tmp_path / "out"
    done = monai_bundle("run", config_file=config, dataset_dir=tmp_path / "absent", output_dir=out, **{name: value})
    assert done.status == 1
    one_line(done.err, words)
    assert not out.exists()


OVERRIDES = sorted(path for path in BUNDLES.glob("*/configs/*.json") if path.stem not in ("metadata", "export"))


@pytest.mark.parametrize("path", OVERRIDES, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_every_config_refuses_what_it_does_not_have(
    monai_bundle: Callable[..., Any], tmp_path: Path, path: Path
) -> None:
    """As a user runs it: a file that overrides entries comes after the one that has them."""
    main = path if "initialize" in json.loads(path.read_text()) and "run" in json.loads(path.read_text()) else None
    files = [path] if main else [path.with_name("train.json"), path]
    config = str([str(file) for file in files])
    done = monai_bundle("run", config_file=config, dataset_dir=tmp_path / "absent", typo_entry=3)
    assert done.status == 1
    one_line(done.err, " with ".join(file.name for file in files) + " has no setting 'typo_entry'")


def test_arguments_that_a_component_hands_on(monai_bundle: Callable[..., Any], tmp_path: Path) -> None:
    """An any-scale network hands arguments to its upsampler: those are not listed, and a slip is told nevertheless."""
    config, options = BUNDLES / "miassr" / "configs" / "train.json", {"dataset_dir": tmp_path / "absent"}
    for name in ("network_def#features", "network_def#kernel_size", "network_def#blocks", "train#trainer#decollate"):
        one_line(monai_bundle("run", config_file=config, **options, **{name: 1}).err, "absent does not exist")
    for name in ("network_def#featurs", "train#trainer#max_epoch", "train#trainer#val_intervals"):
        one_line(monai_bundle("run", config_file=config, **options, **{name: 1}).err, "has no setting")


def test_names_of_an_override_file_are_known_with_it_alone(monai_bundle: Callable[..., Any], tmp_path: Path) -> None:
    train = BUNDLES / "miassr" / "configs" / "train.json"
    options = {"dataset_dir": tmp_path / "absent", "adversarial_weight": "0.5"}
    both = monai_bundle("run", config_file=str([str(train), str(train.with_name("adversarial.json"))]), **options)
    one_line(both.err, "absent does not exist")
    alone = monai_bundle("run", config_file=train, **options)
    one_line(alone.err, "train.json has no setting 'adversarial_weight'")


def test_arguments_in_a_file(monai_bundle: Callable[..., Any], tiny_bundle: Path, image: Path, tmp_path: Path) -> None:
    arguments = {"config_file": str(tiny_bundle / "configs" / "inference.json"), "ensemble": "maybe"}
    (tmp_path / "args.json").write_text(json.dumps(arguments))
    options = {"args_file": tmp_path / "args.json", "dataset_dir": image, "bundle_root": tiny_bundle}
    done = monai_bundle("run", **options)
    one_line(done.err, "true or false for ensemble, got 'maybe'")
    out = tmp_path / "out"
    done = monai_bundle("run", **options, output_dir=out, ensemble="no")
    assert done.status == 0, done.err
    assert names(out) == {"x_sr.nii.gz", "x_sr.json", "x_sr.png"}


def test_expressions_references_and_macros_pass(tiny_bundle: Path, image: Path, tmp_path: Path) -> None:
    (tmp_path / "more.json").write_text(json.dumps({"scales": [1, 1, 2]}))
    workflow = create_workflow(
        config_file=str(tiny_bundle / "configs" / "inference.json"),
        workflow_type="inference",
        logging_file=False,
        bundle_root=str(tiny_bundle),
        dataset_dir=str(image),
        scale=f"%{tmp_path / 'more.json'}#scales",
        ensemble="$1 > 2",
        memory_mb="$1024 // 2",
        device="cpu",
    )
    inferer = workflow.inferer
    assert (inferer.scale, inferer.ensemble, inferer.memory_mb) == ([1, 1, 2], False, 512)


def test_workflows_made_without_the_function_are_checked_too(tiny_bundle: Path, image: Path) -> None:
    def made(**settings: Any) -> ConfigWorkflow:
        workflow = ConfigWorkflow(
            config_file=str(tiny_bundle / "configs" / "inference.json"),
            workflow_type="inference",
            logging_file=False,
            bundle_root=str(tiny_bundle),
            dataset_dir=str(image),
            **settings,
        )
        workflow.initialize()
        return workflow

    hook = sys.excepthook
    try:
        assert made(ensemble="off", device="cpu").inferer.ensemble is False
        for settings, words in (({"ensembel": 1}, "it has 'ensemble'"), ({"memory_mb": 0}, "memory_mb, got 0")):
            with pytest.raises(RuntimeError) as caught:
                made(**settings)
            assert words in str(caught.value.__cause__)
    finally:
        sys.excepthook = hook


def test_objects_of_a_program_pass(tmp_path: Path) -> None:
    """MONAI Label gives data, handlers and a device as objects."""
    config = BUNDLES / "recnn3d" / "configs" / "train.json"
    handlers = json.loads(config.read_text())["train"]["handlers"]
    data = [{"image": "a", "label": "b"}]
    hook = sys.excepthook
    try:
        workflow = create_workflow(
            config_file=str(config),
            logging_file=False,
            bundle_root=str(config.parent.parent),
            device=torch.device("cpu"),
            output_dir=str(tmp_path),
            **{
                "train#trainer#max_epochs": 2,
                "train#dataset#data": data,
                "validate#dataset#data": data,
                "train#handlers": [{"_target_": "StatsHandler"}, *handlers],
                "train#dataset#num_workers": 0,
                "network_def#name": "srcnn3d",
            },
        )
    finally:
        sys.excepthook = hook
    assert workflow.parser.get_parsed_content("train::dataset::data") == data
    assert workflow.max_epochs == 2


@pytest.mark.slow
def test_a_real_process_ends_with_one_line(tmp_path: Path) -> None:
    config = BUNDLES / "recnn3d" / "configs" / "train.json"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), "--max_epoch", "1"]
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path)
    assert done.returncode == 1
    one_line(done.stderr, "'max_epochs'")
    assert not list(tmp_path.iterdir())


# Names that mean something to MONAI -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["$x", "@out", "%a", "a#b", "@output_ext", "$1 + 1", "a::b"])
def test_names_are_taken_literally(tiny_bundle: Path, image: Path, name: str) -> None:
    out = image.parent.parent / name
    settings = {"output_dir": str(out), "output_postfix": name, "preview": False, "device": "cpu"}
    load_bundle(Bundle(tiny_bundle), settings).run({"image": str(image), "stem": "x"}, save=True)
    assert names(out) == {f"x_{name}.nii.gz", f"x_{name}.json"}


def test_a_path_is_literal_inside_a_component_too(tiny_bundle: Path) -> None:
    loaded = load_bundle(Bundle(tiny_bundle), {"preprocessing::method": "minmax", "series": "$1.2"})
    assert loaded.preprocessing.transforms[0]._loader.readers[-1].series == "$1.2"
