"""The messages of a run over many images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a watcher may be defined without waiting for torch
    from medsr.upscaling.planning import Case
    from medsr.upscaling.upscaler import Upscaler


class Progress:
    """Show nothing; a subclass overrides the messages that it wants to show."""

    def made_otherwise(self, count: int) -> None:
        """Hear how many results are there, but were not made as asked now, and are made again."""

    def track(self, upscaler: Upscaler, cases: Sequence[Case]) -> Iterable[Case]:
        """Return the cases to work through, such as in a progress bar; the bundle is ready."""
        return cases

    def case(self, image: Path) -> None:
        """Hear which case comes next, by its (first) image."""

    def saved(self, results: Sequence[Path]) -> None:
        """Hear what was written of a case."""

    def failed(self, image: Path, what: str) -> None:
        """Hear what was wrong with a case."""
