"""Find the files that are the contrasts (channels) of one image, and their order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from medsr.data.input_images import InputImage
from medsr.errors import InputError
from medsr.files.suffixes import split_suffix

_LOGGER = logging.getLogger(__name__)


class _File(Protocol):
    @property
    def path(self) -> Path | str: ...


File = TypeVar("File", bound=_File)


def in_order(cases: Iterable[Mapping[str, File]], names: Sequence[str], advice: str) -> list[list[File]]:
    """Return the files of each case in the order of the contrasts.

    Args:
        cases: The files of each case by contrast; files of other contrasts are ignored.
        names: The names of the contrasts.
        advice: The end of the error message, which says what to do if a file is missing.

    Raises:
        InputError: If a case lacks one of the contrasts.
    """
    found = []
    for case in cases:
        missing = [name for name in names if name not in case]
        if missing:
            beside = next(iter(case.values())).path
            raise InputError(f"expected {' and '.join(missing)} beside {beside}, found none; {advice}")
        found.append([case[name] for name in names])
    return found


def contrast_groups(images: Sequence[InputImage], contrasts: Sequence[str]) -> list[list[InputImage]]:
    """Return the images of each case, in the order of the contrasts.

    Images of one folder whose names differ only in the contrast are one case: sub-01_T1w.nii.gz and
    sub-01_FLAIR.nii.gz. The contrast is a whole word between underscores, the last one if there are two. Images
    whose names contain none of the contrasts are ignored with a warning.

    Args:
        images: The images of all cases.
        contrasts: The names of the contrasts, as they stand in the names of the files.

    Raises:
        InputError: If there are fewer than two contrasts, a contrast is named twice, a case lacks one of them, or there
            is no case.
    """
    names = [contrasts] if isinstance(contrasts, str) else [str(name) for name in contrasts]
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError(f"expected two or more different contrasts, such as T1w and FLAIR, got {', '.join(names)}")
    cases: dict[tuple[Path, tuple[str, ...]], dict[str, InputImage]] = {}
    for image in images:
        words = (image.path.name if image.path.is_dir() else split_suffix(image.path)[0]).split("_")
        places = [place for place, word in enumerate(words) if word in names]
        if not places:
            _LOGGER.warning("%s: ignored, because its name contains none of %s", image.path, ", ".join(names))
            continue
        place = places[-1]
        others = (*words[:place], "", *words[place + 1 :])
        cases.setdefault((image.path.parent, others), {})[words[place]] = image
    if not cases:
        raise InputError(
            f"expected images named by contrast, such as case_{names[0]}.nii.gz and case_{names[1]}.nii.gz, got "
            f"{images[0].path.name}; rename them, or name the contrasts as the files do"
        )
    return in_order(cases.values(), names, "complete the case or remove it")
