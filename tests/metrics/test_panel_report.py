"""The panel: gains against plain arithmetic, and its tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor, decollate_batch, list_data_collate

from medsr.datasets import with_panel
from medsr.datasets.panels import PANELS, check_panel
from medsr.errors import InputError
from medsr.geometry import as_scale
from medsr.inferers import SuperResolutionInferer
from medsr.interpolation import resize
from medsr.metrics import PanelReport, PanelRow, panel_table, summarise_panel
from medsr.networks import create
from medsr.transforms import InterpolateToReferenced, SimulateLowResolutiond


def row(case: str, formation: str, image: str, gain: float, over: float = 0.0) -> PanelRow:
    return PanelRow(case, formation, image, 30.0 + gain, gain, over, 1.1, 0.01)


def test_every_item_is_there_for_each_formation_known_and_auto() -> None:
    items = with_panel([{"label": "a"}, {"label": "b"}], [3], "acquisition", [2, 2, 2])
    assert len(items) == 2 * 2 * (7 + 7 + 8)
    assert {str(item["scale"]) for item in items} == {"[2, 2, 2]", "[1, 1, 3]", "[1, 1, 5]"}
    assert [item["formation"] for item in items[:2]] == ["simulated", "auto"]
    slices = with_panel([{"label": "a"}], [3], "acquisition", 4)
    assert {item["scale"] for item in slices} == {4}
    assert len(slices) == 2 * 14
    assert with_panel([{"label": "a"}], [2, 3], None, 4) == [{"label": "a", "scale": 2}, {"label": "a", "scale": 3}]


def test_an_unknown_panel_is_refused_with_the_nearest() -> None:
    assert check_panel("quick") == "quick"
    with pytest.raises(InputError, match="did you mean acquisition"):
        check_panel("aquisition")


def test_means_and_worst_of_each_case() -> None:
    rows = [row("k", "known", "a", 1.0, 0.5), row("k", "known", "b", 3.0, -0.5), row("k", "auto", "a", -1.0)]
    known, auto = summarise_panel(rows)
    assert (known["images"], known["gain"], known["worst"]) == (2, 2.0, 1.0)
    assert (known["gain_over_consistent"], known["worst_over_consistent"]) == (0.0, -0.5)
    assert auto["worst"] == -1.0
    assert known["noise_gain"] == pytest.approx(1.1)
    assert "| k | +2.00 (+1.00) | +0.00 (-0.50) | -1.00 (-1.00) | +0.00 (+0.00) |" in panel_table([known, auto])


def test_a_panel_of_simulated_images(tmp_path: Path) -> None:
    """Every number of the table by numpy alone, from the images themselves."""
    torch.manual_seed(0)
    network, values = create("recnn-10l", depth=3, features=4), torch.rand(1, 16, 16, 16)
    items = with_panel([{}], [2], "quick", [2, 2, 2])
    inferer = SuperResolutionInferer(formation="auto")
    batches = []
    for entry in items:
        hr = MetaTensor(values.clone(), affine=torch.eye(4), meta={"filename_or_obj": "/data/head.nii.gz"})
        item = SimulateLowResolutiond(seed=0)({"label": hr, **entry})
        item = InterpolateToReferenced("image", output_suffix="_interpolated")(item)
        batch = list_data_collate([item])
        batches.append((batch, inferer(batch["image"], network, scale=[2, 2, 2])))

    def step(engine: Engine, pair) -> list[dict]:
        engine.state.batch = decollate_batch(pair[0])
        return [{"pred": pred} for pred in decollate_batch(pair[1])]

    engine = Engine(step)
    PanelReport(tmp_path).attach(engine)
    engine.run(batches)
    assert {path.name for path in tmp_path.iterdir()} == {"panel.csv", "panel.json", "panel.md", "panel.png"}
    rows = list(csv.DictReader((tmp_path / "panel.csv").open()))
    assert len(rows) == len(items) == 2 * len(PANELS["quick"])
    for (batch, pred), found in zip(batches, rows, strict=True):
        hr, sr, lr = values[0].numpy(), pred.numpy()[0, 0], batch["image"].as_tensor()
        plain = resize(lr, as_scale(2, 3)).numpy()[0, 0]
        gain = 10 * np.log10(((plain - hr) ** 2).mean() / ((sr - hr) ** 2).mean())
        assert float(found["gain"]) == pytest.approx(gain, abs=2e-3)
        assert float(found["psnr"]) == pytest.approx(10 * np.log10(np.ptp(hr) ** 2 / ((sr - hr) ** 2).mean()), abs=2e-3)
    worst = json.loads((tmp_path / "panel.json").read_text())["worst"]
    assert worst["gain"] == pytest.approx(min(float(r["gain"]) for r in rows), abs=1e-3)
    assert worst["image"] == "head"


def test_a_formation_must_be_obeyed(tmp_path: Path) -> None:
    item = SimulateLowResolutiond(degradation="block-mean", scale=2)(
        {"label": MetaTensor(torch.rand(1, 8, 8, 8), affine=torch.eye(4))}
    )
    item |= {"panel_case": "k-space", "formation": "simulated", "image_interpolated": item["label"]}
    item["image"].meta.pop("formation", None)
    pred = SuperResolutionInferer(2)(
        list_data_collate([{"image": item["image"]}])["image"], create("recnn-10l", depth=3)
    )
    engine = SimpleNamespace(state=SimpleNamespace(batch=[item], output=[{"pred": decollate_batch(pred)[0]}]))
    with pytest.raises(InputError, match="obey a formation"):
        PanelReport(tmp_path)._collect(engine)
