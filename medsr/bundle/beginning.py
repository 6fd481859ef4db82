"""The beginning of every run of a bundle by MONAI: the user's overrides are checked before anything is built.

MONAI merges overrides into the config before any code of a bundle runs. Without a check a misspelt name would add an
entry that nobody reads, and `--ensemble false` would set the text 'false', which counts as true.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS
from monai.utils import ensure_tuple, set_determinism

from medsr.bundle.entries import SEPARATOR, checked
from medsr.bundle.settings import BOUNDED
from medsr.engines import report_user_errors
from medsr.runtime import keep_freed_memory

_MAIN = ("inference.json", "evaluate.json", "train.json")  # the other files of `configs` override entries of these


def begin(seed: int = 0) -> None:
    """Begin a run of a bundle; a config calls this in the first line of its `initialize`.

    From now on the user's mistakes end the program in one line. The overridden entries are checked and replaced by the
    values that their texts stand for, random generators are seeded, and freed memory is kept for reuse.

    Args:
        seed: The seed of Python, NumPy and torch.

    Raises:
        MedsrError: If an entry does not exist in the config files, or a value is impossible.
    """
    report_user_errors()
    run = _find_run()
    if run is not None:
        _check_overrides(run)
    set_determinism(BOUNDED["seed"].parse("seed", seed))
    keep_freed_memory()


class _Run(NamedTuple):
    """A workflow that is evaluating one of its expressions."""

    parser: ConfigParser
    files: list[Path]
    tracking: Any = None


def _find_run() -> _Run | None:
    """Return the run whose expression called this module, or None.

    MONAI gives an expression no access to its config, and keeps no list of the files that the config was read from.
    So both are taken from the local variables of the calling functions.
    """
    parser: ConfigParser | None = None
    folder: Path | None = None
    frame = sys._getframe(1)
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
        here = frame.f_locals
        if parser is None and isinstance(here.get("self"), ConfigParser):
            parser = here["self"]
        elif isinstance(here.get("self"), ConfigWorkflow):
            folder = Path(here["self"].config_root_path)
        elif frame.f_code.co_name == "create_workflow" and parser is not None:  # the command line calls it too
            return _Run(parser, _named_files(here.get("config_file")), here["_args"].get("tracking"))
    return None if parser is None or folder is None else _Run(parser, _files_of(folder))


def _named_files(given: Any) -> list[Path]:
    if isinstance(given, str) and not Path(given).is_file():
        given = given.split(",")  # MONAI accepts several files separated by commas
    return [Path(file) for file in ensure_tuple(given or ())]


def _files_of(folder: Path) -> list[Path]:
    """Return all configs of a bundle, for a workflow that does not tell which of them it was built from."""
    others = [path.name for path in sorted(folder.glob("*.json")) if path.name not in (*_MAIN, "metadata.json")]
    return [folder / name for name in (*_MAIN, *others) if (folder / name).is_file()]


def _check_overrides(run: _Run) -> None:
    """Check the entries that differ from the config files, and replace texts by the values that they stand for."""
    parser = ConfigParser(ConfigParser.load_config_files([str(path) for path in run.files]))
    parser.resolve_macro_and_relative_ids()  # as MONAI has done with the config of the run
    written: dict[str, Any] = parser.get()
    added = {ConfigParser.meta_key, "save_execute_config", *_tracked(run.tracking or "mlflow")}  # added by MONAI
    given = {key: value for key, value in _differences(written, run.parser.config) if key not in added}
    owner = " with ".join(path.name for path in run.files[:2])
    root = run.files[0].absolute().parent.parent
    values = checked(given, written, owner, root=root, expressions=True)
    changed = {key: value for key, value in values.items() if value is not given[key]}
    if changed:
        run.parser.update(changed)
        run.parser.parse(reset=True)


def _tracked(tracking: Any) -> list[str]:
    """Return the names of the entries that MONAI's experiment tracking adds.

    Args:
        tracking: The tracking settings, as the name of a default, a file or a dictionary.
    """
    settings: Any = DEFAULT_EXP_MGMT_SETTINGS.get(tracking) if isinstance(tracking, str) else None
    return list((settings or ConfigParser.load_config_files(tracking))["configs"])


def _differences(written: Any, running: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of the running config that the written one lacks or has with another value.

    Each is the id and the value of the smallest part that differs.
    """
    for key in running if isinstance(running, dict) else range(len(running)):
        id_, value = f"{place}{SEPARATOR}{key}" if place else str(key), running[key]
        known = not isinstance(written, dict) or key in written
        before = written[key] if known else None
        if known and _are_alike(before, value):
            yield from _differences(before, value, id_)
        elif not known or type(before) is not type(value) or before != value:
            yield id_, value


def _are_alike(before: Any, value: Any) -> bool:
    """Return whether to compare part by part: dictionaries of the same component class, or lists of one length."""
    if isinstance(before, dict) and isinstance(value, dict):
        return before.get("_target_") == value.get("_target_")
    return isinstance(before, list) and isinstance(value, list) and len(before) == len(value)
