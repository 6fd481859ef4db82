"""Finding a bundle and putting it together; weights are loaded whole or not at all."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medsr.bundle import Bundle, find_bundle, list_bundles, load_bundle
from medsr.errors import GridError, InputError
from medsr.weights import load_weights


@pytest.fixture
def copy_of_tiny(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def test_by_name_and_by_folder(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_bundle("recnn3d").name == "recnn3d"
    assert find_bundle(tiny_bundle).name == "tinysr"
    assert find_bundle(str(tiny_bundle)).root == tiny_bundle
    monkeypatch.setenv("MEDSR_BUNDLES", str(tiny_bundle.parent))
    assert find_bundle("tinysr").root == tiny_bundle
    assert next(bundle.name for bundle in list_bundles()) == "tinysr"
    monkeypatch.chdir(tiny_bundle)
    assert Bundle(".").name == "tinysr"


def test_unknown_bundles() -> None:
    with pytest.raises(InputError, match=r"no bundle is called 'nonsense'; installed: .*recnn3d"):
        find_bundle("nonsense")
    with pytest.raises(InputError, match="is not a bundle"):
        find_bundle("./nonsense")


def test_settings_replace_entries(tiny_bundle: Path) -> None:
    loaded = load_bundle(Bundle(tiny_bundle), {"scale": 3, "memory_mb": 7, "inferer#tile_size": 16})
    assert loaded.inferer.scale == 3
    assert loaded.inferer.memory_mb == 7
    assert loaded.inferer.tile_size == 16
    assert not loaded.network.training


def test_unknown_setting(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match=r"no setting 'precission'; it has .*precision"):
        load_bundle(Bundle(tiny_bundle), {"precission": "float32"})


def test_errors_of_a_part_are_not_wrapped(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="a precision is one of"):
        load_bundle(Bundle(tiny_bundle), {"precision": "float8"})
    with pytest.raises(GridError):
        load_bundle(Bundle(tiny_bundle), {"inferer#scale": 2, "spacing": 1.0})


def test_other_errors_stay_what_they_are(copy_of_tiny: Path) -> None:
    path = copy_of_tiny / "configs" / "inference.json"
    content = json.loads(path.read_text())
    content["network_def"]["_target_"] = "medsr.no_such_thing"
    path.write_text(json.dumps(content))
    with pytest.raises(Exception, match="no_such_thing") as caught:
        load_bundle(Bundle(copy_of_tiny))
    assert not isinstance(caught.value, InputError)


def wrong(kind: str, state: dict[str, torch.Tensor]) -> Any:
    first = next(iter(state))
    return {
        "missing": {k: v for k, v in state.items() if k != first},
        "extra": {**state, "more.weight": torch.zeros(1)},
        "misshapen": {**state, first: torch.zeros(1)},
        "list": [1, 2],
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "missing layers"),
        ("extra", r"extra more\.weight"),
        ("misshapen", "misshapen layers"),
        ("list", "holds a list"),
    ],
)
def test_weights_that_do_not_fit(copy_of_tiny: Path, kind: str, words: str) -> None:
    bundle = Bundle(copy_of_tiny)
    torch.save(wrong(kind, torch.load(bundle.weights)), bundle.weights)
    with pytest.raises(InputError, match=words) as caught:
        load_bundle(bundle)
    assert "\n" not in str(caught.value)


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (print, ("code from a weight file ran",))


@pytest.mark.parametrize("content", [b"", b"not weights", pickle.dumps(Evil(), protocol=2)])
def test_weight_files_that_are_none(copy_of_tiny: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = Bundle(copy_of_tiny)
    bundle.weights.write_bytes(content)
    with pytest.raises(InputError, match="is not a file of weights") as caught:
        load_bundle(bundle)
    assert "\n" not in str(caught.value)
    assert "ran" not in capsys.readouterr().out


def test_truncated_weights(copy_of_tiny: Path) -> None:
    bundle = Bundle(copy_of_tiny)
    bundle.weights.write_bytes(bundle.weights.read_bytes()[:200])
    with pytest.raises(InputError, match="is not a file of weights"):
        load_bundle(bundle)


def test_weights_of_the_bundle_are_named_and_their_notes_obeyed(copy_of_tiny: Path) -> None:
    bundle = Bundle(copy_of_tiny)
    published = bundle.weights.with_name("model_paper.pt")
    shutil.copy(bundle.weights, published)
    published.with_suffix(".json").write_text('{"start": "consistent"}')
    assert load_bundle(bundle).inferer.start == "interpolated"
    named = load_bundle(bundle, {"weights": "model_paper.pt"})
    assert named.inferer.start == "consistent"
    assert named.postprocessing.transforms[-1].weights == published
    with pytest.raises(InputError, match=r"model_other.pt is missing"):
        load_bundle(bundle, {"weights": "model_other.pt"})


def test_missing_weights(copy_of_tiny: Path) -> None:
    bundle = Bundle(copy_of_tiny)
    bundle.weights.unlink()
    with pytest.raises(InputError, match=r"is missing; train the bundle"):
        load_bundle(bundle)


def test_weights_are_loaded(tiny_bundle: Path) -> None:
    bundle = Bundle(tiny_bundle)
    state = torch.load(bundle.weights)
    assert all(torch.equal(v, state[k]) for k, v in load_bundle(bundle).network.state_dict().items())
    network = nn.Linear(2, 1)
    with pytest.raises(InputError, match="does not fit"):
        load_weights(network, bundle.weights)
