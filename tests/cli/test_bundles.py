"""``medsr bundles``: what is installed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


def test_list_says_what_one_chooses_by(medsr_command: Command) -> None:
    done = medsr_command("bundles")
    assert done.status == 0
    assert done.err == ""
    assert any(line.startswith("recnn3d ") for line in done.out.splitlines())
    for line in ("dimensions 3D", "scales", "modality", "licence", "weights", "test"):
        assert f"\n  {line}" in done.out


def test_json(medsr_command: Command) -> None:
    done = medsr_command("bundles", "--json")
    assert done.status == 0
    rows = {row["name"]: row for row in json.loads(done.out)}
    assert {"version", "description", "dimensions", "scales", "modality", "licence", "weights", "test", "path"} <= set(
        rows["recnn3d"]
    )
    assert Path(rows["recnn3d"]["path"]).is_dir()


def test_bundles_of_the_environment_come_first(
    medsr_command: Command, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "mine" / "recnn3d")
    (tmp_path / "mine" / "notes").mkdir()  # no bundle, passed over
    (tmp_path / "mine" / "recnn3d" / "models" / "model.pt").unlink()
    monkeypatch.setenv("MEDSR_BUNDLES", f"{tmp_path / 'absent'}:{tmp_path / 'mine'}:{tiny_bundle.parent}")
    rows = json.loads(medsr_command("bundles", "--json").out)
    assert [row["name"] for row in rows[:2]] == ["recnn3d", "tinysr"]
    assert [row["name"] for row in rows].count("recnn3d") == 1
    assert rows[0]["path"] == str(tmp_path / "mine" / "recnn3d")
    assert rows[0]["weights"].startswith("absent")
    assert rows[1]["weights"] == "present"


def test_broken_metadata_is_one_line(
    medsr_command: Command, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "broken")
    (tmp_path / "broken" / "configs" / "metadata.json").write_text("{")
    monkeypatch.setenv("MEDSR_BUNDLES", str(tmp_path))
    done = medsr_command("bundles")
    assert done.status == 2
    assert done.err.startswith("medsr: error: ")
    assert len(done.err.splitlines()) == 1


def test_none_installed(medsr_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medsr.bundle.catalogue.bundle_directories", lambda: [])
    done = medsr_command("bundles")
    assert done.status == 2
    assert "MEDSR_BUNDLES" in done.err
