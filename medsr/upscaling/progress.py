"""The messages of a run over many images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # these modules load torch, which a subclass does not need
    from medsr.upscaling.planning import Case
    from medsr.upscaling.upscaler import Upscaler


class Progress:
    """A progress that shows nothing; subclasses override the methods whose messages they show."""

    def made_otherwise(self, count: int) -> None:
        """Show how many results exist that another request made, and that are made again."""

    def track(self, upscaler: Upscaler, cases: Sequence[Case]) -> Iterable[Case]:
        """Return the cases to work through, for instance in a progress bar; the bundle is loaded."""
        return cases

    def case(self, image: Path) -> None:
        """Show which case comes next, by its (first) image."""

    def saved(self, results: Sequence[Path]) -> None:
        """Show the results that were written for a case."""

    def failed(self, image: Path, what: str) -> None:
        """Show why a case failed."""
