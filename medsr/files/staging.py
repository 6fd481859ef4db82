"""Make the files and folders of one case appear together."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medsr.errors import OutputError
from medsr.files.atomic import put_in_place
from medsr.files.leftovers import hidden_name, tidy


@contextmanager
def staged(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield names in a hidden folder to write to, and rename the files when the block ends without an error.

    A run that ends with an error leaves the folder unchanged: there is no picture without its record, and no record of
    an image that did not fit on the disk. A run that is killed leaves the hidden folder, which a later run removes
    (`medsr.files.leftovers`).

    Args:
        files: The final names, all in one folder, in the order in which the files appear. Existing files and folders
            of these names are replaced.

    Yields:
        The names to write to; those that are not written are skipped.

    Raises:
        OutputError: If a file cannot be written or renamed; the message has its final name.
    """
    directory = files[0].parent
    hidden = directory / hidden_name()
    tidy(directory)
    try:
        yield [hidden / file.name for file in files]
        for file in files:
            if (hidden / file.name).exists():
                put_in_place(hidden / file.name, file)
    except OutputError as error:
        raise OutputError(str(error).replace(f"{hidden}{os.sep}", f"{directory}{os.sep}")) from error
    except OSError as error:
        raise OutputError(f"{directory}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
