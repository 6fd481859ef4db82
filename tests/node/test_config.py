"""What a node is told: files, options, and what is refused in one line."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medsr.node.config import Destination, Limits, read_config

GOOD = {"queue": "/var/q", "destination": "PACS@pacs.local:104", "callers": ["MR1"], "scale": 2}


def written(folder: Path, text: str) -> Path:
    (folder / "node.yaml").write_text(text)
    return folder / "node.yaml"


def test_yaml_and_options(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        queue: /var/q
        destination: {ae_title: PACS, host: "::1", port: 104}
        callers: [MR1, CT 2]
        scale: [1, 1, 2.5]
        limits: {queue_series: 7}
        """,
    )
    config = read_config(file, {"spacing": 1.0, "port": 104, "host": None})
    assert config.destination == Destination("PACS", "::1", 104)
    assert config.callers == ("MR1", "CT 2")
    assert config.limits == Limits(queue_series=7)
    assert (config.scale, config.spacing) == (None, 1.0), "the option takes the place of the other entry too"
    assert (config.host, config.port, config.ae_title) == ("127.0.0.1", 104, "MEDSR")
    assert read_config(file, {"destination": "B@[fe80::1]:11112"}).destination == Destination("B", "fe80::1", 11112)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"queue": None}, "queue is missing"),
        ({"destination": "PACS"}, "expected AE_TITLE@HOST:PORT, got 'PACS'"),
        ({"destination": {"ae_title": "PACS", "port": 104}}, "destination: host is missing"),
        ({"destination": {"ae_title": "PACS", "host": "x", "port": "104"}}, "port: expected a whole number, got '104'"),
        ({"callers": []}, "expected AE titles that may send, got none; name them"),
        ({"callers": "MR1"}, "callers: expected a list of AE titles"),
        ({"callers": ["SEVENTEEN LETTERS"]}, "expected an AE title of 1 to 16"),
        ({"ae_title": "A\\B"}, "expected an AE title"),
        ({"port": 70000}, "expected a port from 1 to 65535, got 70000"),
        ({"scale": None}, "either scale or spacing, got none"),
        ({"spacing": 1}, "either scale or spacing, got both"),
        ({"scale": [2, -1, 2]}, "scale: expected numbers above 0"),
        ({"quiet_seconds": -1}, "quiet_seconds: expected a finite number of at least 0, got -1"),
        ({"attempts": 2.5}, "attempts: expected a whole number, got 2.5"),
        ({"limits": {"queue_bytes": 0}}, "queue_bytes: expected a finite number above 0, got 0"),
        ({"limits": {"bytes": 1}}, "there is no entry 'bytes'; use one of queue_bytes"),
        ({"colour": "red"}, "there is no entry 'colour'; use one of queue, destination, callers"),
        ({"calers": ["MR1"]}, "did you mean callers?"),
        ({"scale": 0}, "scale: expected numbers above 0"),
        ({"scale": 0.5}, "at least 1 on every axis"),
        ({"scale": "two"}, "expected one number or three"),
        ({"precision": "float8"}, "a precision is one of float32, bfloat16, float16, got 'float8'"),
        ({"memory_mb": 0}, "a whole number of at least 1 for memory_mb, got 0"),
        ({"tile_size": 0}, "a whole number of at least 1, or one per axis for tile_size, got 0"),
        ({"between_scales": "sideways"}, "between_scales is refuse or up-and-down, got 'sideways'"),
        ({"bundle": "nobody"}, "no bundle is called 'nobody'"),
        ({"device": "abacus"}, "device 'abacus' cannot be used here"),
    ],
)
def test_refused_in_one_line(medsr_command: Callable[..., Any], tmp_path: Path, changes: Any, words: str) -> None:
    content = {**GOOD, "queue": str(tmp_path / "q"), **changes}
    file = written(tmp_path, json.dumps({key: value for key, value in content.items() if value is not None}))
    done = medsr_command("dicom-node", "--config", file)
    assert done.status == 2
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("medsr: error: ")
    assert words in lines[0]


@pytest.mark.parametrize("text", ["a: [", "- a", "", "\x00", None])
def test_files_that_are_none(medsr_command: Callable[..., Any], tmp_path: Path, text: str | None) -> None:
    file = written(tmp_path, text) if text is not None else tmp_path / "none.yaml"
    done = medsr_command("dicom-node", "--config", file)
    assert done.status == 2
    assert len(done.err.splitlines()) == 1
    assert str(file) in done.err


def test_a_port_in_use(medsr_command: Callable[..., Any], tmp_path: Path, tiny_bundle: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        words = ["--queue", tmp_path / "q", "--destination", "PACS@localhost:104", "--allow-any-caller", "--scale", 2]
        done = medsr_command("dicom-node", *words, "--bundle", tiny_bundle, "--port", port, "--device", "cpu")
    assert done.status == 2
    line = done.err.splitlines()[-1]
    assert f"cannot listen on 127.0.0.1:{port}: " in line
    assert line.endswith("; choose another host or port")


def test_help_is_light() -> None:
    code = (
        "import sys, medsr.cli\n"
        "try:\n    medsr.cli.main(['dicom-node', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'pynetdicom', 'tenacity') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--allow-any-caller" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
