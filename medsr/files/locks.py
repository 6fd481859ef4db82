"""One process at a time in a folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from medsr.errors import OutputError
from medsr.files.atomic import reason_of
from medsr.files.leftovers import remove_leftovers


class FolderLock:
    """Keep other processes out of a folder, until released or until this process ends, however it ends.

    Args:
        folder: The folder to work in; created by `acquire` if absent.
        refusal: What to tell where another process has it, after the folder's name.
    """

    def __init__(self, folder: Path, refusal: str) -> None:
        self.folder = folder
        self.refusal = refusal
        self._file = folder / ".medsr.lock"
        self._lock = FileLock(self._file, thread_local=False)
        self._created = False

    def acquire(self) -> None:
        """Take the folder, and remove what killed processes left in it.

        Raises:
            OutputError: Another process has it, or it cannot be created.
        """
        self._created = not self.folder.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            raise OutputError(f"{self.folder} {self.refusal}") from None
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be written: {reason_of(error)}") from error
        remove_leftovers(self.folder)

    def release(self) -> None:
        """Let others have the folder, if it was taken; one that was created and is empty is removed."""
        if not self._lock.is_locked:
            return
        self._file.unlink(missing_ok=True)  # before the release: nobody else can have it yet
        self._lock.release()
        if self._created:
            with suppress(OSError):  # something is in it
                self.folder.rmdir()
