"""The beginning of every run of a bundle by MONAI: what the user overrode is checked before anything is built.

MONAI merges overrides into the config before any code of a bundle runs: a misspelt name adds an entry that nobody
reads, and `--ensemble false` sets the text 'false', which is true.
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
    """Begin a run: for the first line of a config's `initialize`.

    The user's mistakes end the program in one line from now on. Entries that were overridden are checked, and put in
    place as the values that they stand for; random generators are seeded; freed memory is kept.

    Args:
        seed: The seed of Python, NumPy and torch.

    Raises:
        MedsrError: If there is an entry that the config files do not have, or a value that makes no sense.
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
    """Return the run whose expression called us, None if none did.

    MONAI gives an expression no handle to the config that it stands in, and keeps no list of the files which that was
    read from. So they are looked for where they are: in the local variables of the calling functions.
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
        elif frame.f_code.co_name == "create_workflow" and parser is not None:  # of the command line too
            return _Run(parser, _named_files(here.get("config_file")), here["_args"].get("tracking"))
    return None if parser is None or folder is None else _Run(parser, _files_of(folder))


def _named_files(given: Any) -> list[Path]:
    if isinstance(given, str) and not Path(given).is_file():
        given = given.split(",")  # as MONAI does
    return [Path(file) for file in ensure_tuple(given or ())]


def _files_of(folder: Path) -> list[Path]:
    """Return every config of a bundle, for a workflow that does not tell which of them it was made of."""
    others = [path.name for path in sorted(folder.glob("*.json")) if path.name not in (*_MAIN, "metadata.json")]
    return [folder / name for name in (*_MAIN, *others) if (folder / name).is_file()]


def _check_overrides(run: _Run) -> None:
    """Check what differs from the config files, and replace texts by the values that they stand for."""
    parser = ConfigParser(ConfigParser.load_config_files([str(path) for path in run.files]))
    parser.resolve_macro_and_relative_ids()  # as in the running one
    written: dict[str, Any] = parser.get()
    added = {ConfigParser.meta_key, "save_execute_config", *_tracked(run.tracking or "mlflow")}  # by MONAI itself
    given = {key: value for key, value in _differences(written, run.parser.config) if key not in added}
    owner = " with ".join(path.name for path in run.files[:2])
    values = checked(given, written, owner, expressions=True)
    changed = {key: value for key, value in values.items() if value is not given[key]}
    if changed:
        run.parser.update(changed)
        run.parser.parse(reset=True)


def _tracked(tracking: Any) -> list[str]:
    """Entries that MONAI's tracking of experiments adds, by the name, file or dictionary of its settings."""
    settings: Any = DEFAULT_EXP_MGMT_SETTINGS.get(tracking) if isinstance(tracking, str) else None
    return list((settings or ConfigParser.load_config_files(tracking))["configs"])


def _differences(written: Any, running: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Entries by id, as small as may be, of one config that another has not, or has otherwise."""
    for key in running if isinstance(running, dict) else range(len(running)):
        id_, value = f"{place}{SEPARATOR}{key}" if place else str(key), running[key]
        known = not isinstance(written, dict) or key in written
        before = written[key] if known else None
        if known and _are_alike(before, value):
            yield from _differences(before, value, id_)
        elif not known or type(before) is not type(value) or before != value:
            yield id_, value


def _are_alike(before: Any, value: Any) -> bool:
    """Return whether to look into both: dictionaries of one class of component, or lists of one length."""
    if isinstance(before, dict) and isinstance(value, dict):
        return before.get("_target_") == value.get("_target_")
    return isinstance(before, list) and isinstance(value, list) and len(before) == len(value)
