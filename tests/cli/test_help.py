"""Help texts come at once: nothing that loads torch is imported for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from medsr.bundle import DEFAULT_BUNDLE


@pytest.mark.parametrize("command", ["", "upscale", "weights", "bundles", "networks", "compare", "data"])
def test_help_is_light(command: str) -> None:
    code = (
        "import sys, medsr.cli\n"
        f"try:\n    medsr.cli.main([*{command.split()!r}, '--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "print([name for name in ('torch', 'monai', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"usage: medsr {command}".strip() in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
    if command == "upscale":
        assert f"(default: {DEFAULT_BUNDLE})" in " ".join(done.stdout.split())
