"""Short names for the cases of an evaluation, from the files they were read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from medsr.files.suffixes import without_suffix

__all__ = ["case_names"]


def case_names(files: Sequence[str]) -> list[str]:
    """Return a short name for each file: its name without suffix, after as many folders as tell it from the others.

    Files that are truly the same keep the same name.
    """
    distinct = list(dict.fromkeys(files))
    parts = {file: _parts(file) for file in distinct}
    names = {file: _tail(parts[file], 1) for file in distinct}
    for depth in range(2, 1 + max((len(p) for p in parts.values()), default=0)):
        shared = {name for name, count in Counter(names.values()).items() if count > 1}
        if not shared:
            break
        names |= {file: _tail(parts[file], depth) for file, name in names.items() if name in shared}
    repeated = {name for name, count in Counter(names.values()).items() if count > 1}
    whole = {file: _tail((file,), 1) for file in distinct}
    return [whole[file] if names[file] in repeated else names[file] for file in files]  # T1.nii beside T1.nrrd


def _parts(file: str) -> tuple[str, ...]:
    parts = PurePath(file).parts or (file,)
    return (*parts[:-1], without_suffix(parts[-1]))


def _tail(parts: Sequence[str], depth: int) -> str:
    """Return the last parts as a name that fits a table: file systems allow line breaks and undecodable bytes."""
    name = "/".join(parts[-depth:]).encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "_" for c in name)
