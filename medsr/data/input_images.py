"""Find the images in the files, folders and lists that a user names, and name their results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medsr.data.dicom.archives import is_archive
from medsr.data.folders import dicom_folders, is_dicom_file, stack_slices, visible
from medsr.errors import InputError
from medsr.files.suffixes import IMAGE_SUFFIXES, PICTURE, split_suffix


@dataclass(frozen=True)
class InputImage:
    """An image to read.

    Attributes:
        path: A file, an archive of DICOM images, or a folder that holds one DICOM series or one stack of pictures.
        stem: The name of the case and its results, unique among the images found together.
        is_dicom: Whether it is DICOM.
        is_picture: Whether it is a picture or a stack of pictures.
    """

    path: Path
    stem: str
    is_dicom: bool = False
    is_picture: bool = False


_Found = tuple[Path, Literal["volume", "dicom", "picture"]]


def find_images(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, series: str | None = None
) -> list[InputImage]:
    """Find the images in a list of inputs.

    An input is one of these:

    - an image file;
    - a folder: its image files are read (not those of its subfolders), and each folder with DICOM files, at any depth,
      is one image;
    - a ``.zip`` of DICOM files, which is one image and is ignored inside a folder;
    - a ``.txt`` file with one such path per line, relative to its own folder. Empty lines and lines that begin with #
      are ignored.

    Hidden files are ignored, and a file that is named twice counts once.

    A picture (.png, .tif, .tiff) that is named itself is an image. A folder of pictures is one image, a stack of
    slices, if it holds neither volumes nor DICOM; otherwise its pictures (for example previews of results) are ignored.

    If a series is chosen, a named folder that holds DICOM files at any depth (a study) is one image.

    The name of the result is the file name without suffix, or the folder's name. If two images would get the same
    name, the names of their parent folders are put before it ("sub-01_T1", "sub-02_T1").

    Args:
        inputs: One path or several.
        series: The SeriesInstanceUID that will be read from every input.

    Returns:
        The images, in the order of the inputs; the content of a folder is in natural order ("2" before "10").

    Raises:
        InputError: If a path does not exist or is not an image, no image is found, or two images of one folder
            differ in the suffix only.
    """
    named = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    found: dict[Path, _Found] = {}
    for name in named:
        for path, kind in _expand(Path(name).expanduser(), series):
            found.setdefault(path.resolve(), (path, kind))  # a file and a link to it are one image
    if not found:
        raise InputError("expected at least one input image, got an empty list; name a file or a folder")
    stems = _unique_stems([Path(os.path.abspath(path)) for path, _ in found.values()])
    return [
        InputImage(path, stem, kind == "dicom", kind == "picture")
        for (path, kind), stem in zip(found.values(), stems, strict=True)
    ]


def _expand(path: Path, series: str | None, depth: int = 0) -> list[_Found]:
    """Return the images in one input; `depth` is 1 for a line of a list."""
    if path.is_dir():
        return [(path, "dicom")] if series and dicom_folders(path) else _expand_folder(path)
    if not path.exists():
        raise InputError(f"{path}: expected an image file, a folder or a list, got nothing there; check the path")
    if path.suffix.lower() == ".txt":
        if depth:
            raise InputError(f"{path}: expected images in a list, got another list; put its lines into one list")
        return _expand_list(path, series)
    if path.name.lower().endswith(IMAGE_SUFFIXES):
        return [(path, "volume")]
    if path.name.lower().endswith(PICTURE):
        return [(path, "picture")]
    if is_archive(path) or is_dicom_file(path):
        return [(path, "dicom")]
    raise InputError(
        f"{path}: expected {', '.join(IMAGE_SUFFIXES + PICTURE)}, DICOM (also in a .zip) or a .txt list, got "
        "another kind of file; convert it"
    )


def _expand_folder(folder: Path) -> list[_Found]:
    try:
        entries = visible(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}; check its permissions") from error
    images: list[_Found] = [(e, "volume") for e in entries if e.is_file() and e.name.lower().endswith(IMAGE_SUFFIXES)]
    images += [(sub, "dicom") for sub in dicom_folders(folder)]
    if not images and stack_slices(folder):
        images = [(folder, "picture")]
    if not images:
        raise InputError(
            f"{folder}: expected images ({', '.join(IMAGE_SUFFIXES)}) or slices ({', '.join(PICTURE)}) in this folder, "
            f"or DICOM files in it or below, got {'other files' if entries else 'an empty folder'}; check the path"
        )
    return images


def _expand_list(path: Path, series: str | None) -> list[_Found]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a text file with one path a line, got {error}; check it") from error
    images: list[_Found] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            images += _expand(path.parent / Path(line.strip()).expanduser(), series, depth=1)
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
    if not images:
        raise InputError(f"{path}: expected one image path a line, got no line with one; fill the list")
    return images


def _unique_stems(paths: list[Path]) -> list[str]:
    """Return a name for each image, with as many parent folders in front as are needed to make it unique.

    Names that differ in case only count as equal, because some file systems do not distinguish them.
    """
    base = [path.name if path.is_dir() else split_suffix(path)[0] for path in paths]
    depth = [0] * len(paths)
    while True:
        stems = [
            "_".join([*path.parts[1:-1][len(path.parts) - 2 - n :], name])
            for path, name, n in zip(paths, base, depth, strict=True)
        ]
        count = Counter(stem.casefold() for stem in stems)
        clashing = [k for k, stem in enumerate(stems) if count[stem.casefold()] > 1]
        if not clashing:
            return stems
        grown = [k for k in clashing if depth[k] < len(paths[k].parts) - 2]
        if not grown:
            first = clashing[0]
            second = next(k for k in clashing[1:] if stems[k].casefold() == stems[first].casefold())
            raise InputError(
                f"{paths[second]}: expected a name of its own for the result, got '{base[first]}' as for "
                f"{paths[first]}; rename one of them or run them apart"
            )
        for k in grown:
            depth[k] += 1
