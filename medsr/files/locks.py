"""Let only one process at a time use a folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from medsr.errors import OutputError
from medsr.files.atomic import reason_of
from medsr.files.leftovers import remove_leftovers


class FolderLock:
    """A lock that keeps other processes out of a folder until it is released or this process ends.

    Args:
        folder: The folder to lock; `acquire` creates it if absent.
        refusal: The end of the error message, after the folder's name, if another process has the lock.
    """

    def __init__(self, folder: Path, refusal: str) -> None:
        self.folder = folder
        self.refusal = refusal
        self._file = folder / ".medsr.lock"
        self._lock = FileLock(self._file, thread_local=False)
        self._created = False

    def acquire(self) -> None:
        """Lock the folder, and remove the files that killed processes left in it.

        Raises:
            OutputError: If another process has the lock, or the folder cannot be created.
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
        """Release the lock, and remove the folder if `acquire` created it and it is empty."""
        if not self._lock.is_locked:
            return
        self._file.unlink(missing_ok=True)  # before the release, while no other process can have it
        self._lock.release()
        if self._created:
            with suppress(OSError):  # the folder is not empty
                self.folder.rmdir()
