"""The settings of bundles: one table and one parser for all interfaces, from `medsr` to `python -m monai.bundle run`.

Heavy modules are imported only when a value is read, so that `medsr upscale --help` can quote the table quickly.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from numbers import Real
from typing import Any

from medsr.errors import InputError, MedsrError

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_NONE = ("none", "null")
SIMULATED = "simulated"  # of a formation: the one that simulated the image
_SHOWN = 60  # the most characters of a value that a message repeats


@dataclass(frozen=True)
class Setting:
    """The kind of a value that a user may set.

    Attributes:
        expected: The words that say what a value must be.
        read: The function that returns the value of a text or a Python object. It raises ValueError or TypeError if
            there is none, or MedsrError with a message of its own.
        help: The words that say what the setting does.
        optional: Whether None, or the text "none", is allowed.
    """

    expected: str
    read: Callable[[Any], Any]
    help: str = ""
    optional: bool = False

    def parse(self, name: str, value: Any) -> Any:
        """Return the value that a text or a Python object stands for.

        Args:
            name: The name of the setting, for messages.
            value: The value as a command line, a form, a file or a program gives it.

        Raises:
            MedsrError: If the value is not of this kind; the message says what was expected and what came.
        """
        if self.optional and (value is None or (isinstance(value, str) and value.strip().lower() in _NONE)):
            return None
        try:
            return self.read(value)
        except MedsrError:
            raise
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"expected {self.expected} for {name}, got {shown(value)}") from None


def shown(value: Any) -> str:
    """Return a user's value as it is repeated in messages: short and on one line."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def switch(help: str = "") -> Setting:
    """Return the kind of a switch: true or false, written as in a shell, in YAML or in Python."""
    return Setting("true or false", _read_switch, help)


def number(least: float = -math.inf, *, above: float = -math.inf, help: str = "", optional: bool = False) -> Setting:
    """Return the kind of a finite number of at least `least`, or above `above`."""

    def read(value: Any) -> Any:
        return _bounded(_read_number(value), least, above)

    return Setting(f"a number{_bound(least, above)}", read, help, optional)


def whole(least: float = -math.inf, *, help: str = "", optional: bool = False) -> Setting:
    """Return the kind of a whole number of at least `least`."""
    return Setting(f"a whole number{_bound(least)}", lambda value: _read_whole(value, least), help, optional)


def whole_per_axis(least: int, *, help: str = "", optional: bool = False) -> Setting:
    """Return the kind of one whole number, or of one per axis."""

    def read(value: Any) -> int | list[int]:
        items = [_read_whole(item, least) for item in _items(value)]
        return items[0] if len(items) == 1 else items

    return Setting(f"a whole number{_bound(least)}, or one per axis", read, help, optional)


def text(expected: str = "text", *, help: str = "", optional: bool = False) -> Setting:
    """Return the kind of a text; a number counts as text, because a command line may turn a name into one."""
    return Setting(expected, _read_text, help, optional)


def _read_switch(value: Any) -> bool:
    word = str(value).strip().lower()
    if (isinstance(value, bool | int | str) or hasattr(value, "item")) and word in (*_TRUE, *_FALSE):
        return word in _TRUE
    raise ValueError(value)


def _read_number(value: Any) -> Any:
    """Return a finite number; whole numbers stay whole, fractions stay fractions."""
    if isinstance(value, str):
        value = _number_of_text(value)
    elif hasattr(value, "item") and getattr(value, "ndim", 0) == 0:  # numpy and torch scalars
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(value)
    return value


def _number_of_text(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return Fraction(word.strip())


def _read_whole(value: Any, least: float) -> int:
    found = _read_number(value)
    if found != int(found):
        raise ValueError(value)
    return int(_bounded(found, least))


def _bounded(value: Any, least: float, above: float = -math.inf) -> Any:
    if value < least or value <= above:
        raise ValueError(value)
    return value


def _bound(least: float, above: float = -math.inf) -> str:
    if above > -math.inf:
        return f" above {above:g}"
    return f" of at least {least:g}" if least > -math.inf else ""


def _items(value: Any) -> list[Any]:
    """Return one value, or several as a list, a tuple, an array or a text ("1 1 3", "1,1,3", "1x1x3", "[1, 1, 3]")."""
    if isinstance(value, str):
        value = [word for word in re.split(r"[\s,x]+", value.strip("[]() ")) if word]
    items = list(value) if hasattr(value, "__len__") and not isinstance(value, dict) else [value]
    if not items:
        raise ValueError(value)
    return items


def _numbers(value: Any) -> Any:
    """Return one number or a list; `medsr.geometry` refuses numbers that are not finite with a better message."""
    items = [item if isinstance(item, float) else _read_number(item) for item in _items(value)]
    return items[0] if len(items) == 1 else items


def _read_scale(value: Any) -> Any:
    from medsr.geometry import as_scale, check_enlarging

    numbers = _numbers(value)
    check_enlarging(as_scale(numbers, 3))
    return numbers


def _read_spacing(value: Any) -> Any:
    from medsr.geometry import scale_for_spacing

    numbers = _numbers(value)
    scale_for_spacing((1e9,) * 3, numbers, (1,) * 3)  # of an image so coarse that every spacing refines it
    return numbers


def _read_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | os.PathLike):
        raise ValueError(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _read_paths(value: Any) -> Any:
    return [_read_text(item) for item in value] if isinstance(value, list | tuple) else _read_text(value)


def _read_names(value: Any) -> list[str]:
    words = re.split(r"[\s,]+", value.strip("[]() ")) if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) and word for word in words) or not words:
        raise ValueError(value)
    return list(words)


def _read_device(value: Any) -> Any:
    from medsr.runtime import choose_device

    return value if hasattr(value, "type") else choose_device(_read_text(value))


def _read_precision(value: Any) -> str:
    from medsr.inferers.forward import autocast_dtype

    autocast_dtype(word := _read_text(value))
    return word


def _read_plane(value: Any) -> str:
    from medsr.geometry import anatomical_axis

    anatomical_axis([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], word := _read_text(value))
    return word


def _read_between_scales(value: Any) -> str:
    from medsr.inferers.between_scales import check_between_scales

    return check_between_scales(_read_text(value), ensemble=False)


def _read_formation(value: Any) -> Any:
    from medsr.formation import parse_formation

    if value != SIMULATED:
        parse_formation(value)
    return value


def _read_panel(value: Any) -> str:
    from medsr.datasets.panels import check_panel

    return check_panel(_read_text(value))


def _read_start(value: Any) -> str:
    from medsr.weights import check_start

    return check_start(_read_text(value))


def _read_extension(value: Any) -> str:
    from medsr.outputs.naming import output_paths

    output_paths("", "", "", word := _read_text(value))
    return word


def _read_training_precision(value: Any) -> str:
    word = _read_text(value)
    return word if word == "auto" else _read_precision(word)


def _read_layout(value: Any) -> str:
    if (word := _read_text(value)) not in ("auto", "contiguous", "channels_last"):
        raise ValueError(value)
    return word


def _read_threads(value: Any) -> int | str:
    return "auto" if value == "auto" else _read_whole(value, 1)


def _read_decay(value: Any) -> Any:
    if not 0 < (found := _read_number(value)) < 1:
        raise ValueError(value)
    return found


_PER_AXIS = "one number or three positive numbers (one per array axis"
_PATH = text("a path")
_PLANE = Setting("axial, coronal or sagittal", _read_plane, "anatomical plane of the slices that a 2D network sees")

# The settings that have one meaning in every bundle, whatever its config says.
SETTINGS: dict[str, Setting] = {
    "scale": Setting(f"{_PER_AXIS}; at least 1 to enlarge)", _read_scale, "one number, or one per array axis", True),
    "spacing": Setting(f"{_PER_AXIS})", _read_spacing, "target voxel size in mm", True),
    "plane": _PLANE,
    "slice_plane": _PLANE,
    "device": Setting("the name of a device", _read_device, "auto, cpu, cuda, cuda:1, mps"),
    "precision": Setting("float32, bfloat16 or float16", _read_precision, "float32, bfloat16 or float16"),
    "layout": Setting("auto, contiguous or channels_last", _read_layout, "memory layout of a training"),
    "threads": Setting("auto or a whole number of at least 1", _read_threads, "CPU threads of a training", True),
    "ema": Setting("a number between 0 and 1", _read_decay, "decay of a moving average of the weights", True),
    "memory_mb": whole(1, help="MiB for activations"),
    "tile_size": whole_per_axis(
        1, help="voxels of the network's input per tile, one number or one per axis, instead of planning", optional=True
    ),
    "compile": switch("run the network through torch.compile: the first image takes longer, further ones less"),
    "between_scales": Setting(
        "refuse or up-and-down",
        _read_between_scales,
        "where a network was not built for the scale: refuse, or up-and-down: enlarge by its next one, then reduce",
    ),
    "ensemble": switch("average over flips of the image and write their standard deviation (..._std)"),
    "formation": Setting(
        "auto, none, or a formation such as kspace or gaussian:fwhm=1.2",
        _read_formation,
        "how the LR image was formed, which the result then obeys: auto (its header, or else an estimate), none, or "
        "in words: kspace, block, gaussian:fwhm=1.2, profile:thickness=0.8, or one per axis as kspace/kspace/profile",
    ),
    "panel": Setting("the name of a panel", _read_panel, optional=True),
    "safe": switch("take the interpolated image where the result looks worse than it"),
    "start": Setting("interpolated or consistent", _read_start),
    "consistency": switch("write |degrade(SR) - LR| (..._consistency)"),
    "bids": switch("BIDS names (..._desc-sr_T1w.nii.gz) and sidecars"),
    "preview": switch("write a PNG"),
    "amp": switch("mixed precision by MONAI, on CUDA only"),
    "series": text("a SeriesInstanceUID", help="SeriesInstanceUID, where DICOM inputs hold several", optional=True),
    "contrasts": Setting("names of contrasts", _read_names, "channels of the network, as words in files' names", True),
    "output_ext": Setting(
        "an extension",
        _read_extension,
        ".nii.gz, .nii, .nrrd, .mha; dicom: a derived series of a DICOM input; png: pictures of pictures",
    ),
    "output_postfix": text(),
    "output_dir": _PATH,
    "ckpt_dir": _PATH,
    "bundle_root": _PATH,
    "dataset_dir": Setting("a path, or a list of paths", _read_paths),
    "weights": replace(_PATH, help="weights of your own training, instead of the bundle's"),
    "initial_weights": text("a path", optional=True),
}

# The precision of a training, if the config says "auto", which measures it when the training starts.
_TRAINING_PRECISION = Setting("auto, float32, bfloat16 or float16", _read_training_precision)

# The numbers of training and evaluation that are impossible below a bound, wherever they stand in a config.
BOUNDED: dict[str, Setting] = {
    **dict.fromkeys(
        ("max_epochs", "batch_size", "steps_per_epoch", "samples_per_epoch", "val_interval", "val_limit", "limit"),
        whole(1),
    ),
    **dict.fromkeys(("channels", "in_channels", "out_channels", "classes", "features", "critic_steps"), whole(1)),
    **dict.fromkeys(("seed", "warm_up", "num_workers"), whole(0)),
    **dict.fromkeys(("patch_size", "minimum_size"), whole_per_axis(1)),
    **dict.fromkeys(
        ("learning_rate", "discriminator_learning_rate", "time_budget_minutes", "gradient_clip"), number(above=0)
    ),
    **dict.fromkeys(("adversarial_weight", "bias_lr_factor"), number(0)),
}


def setting_for(path: Sequence[str], default: Any) -> Setting | None:
    """Return the kind of an entry of a config, by its name or else by its default.

    Args:
        path: The path of the entry, level by level: ("inferer", "tile_size").
        default: The value in the config; if it is None, the user may give None too.

    Returns:
        The kind, or None for entries that this parser leaves to the config: dictionaries, lists, expressions, and
        entries whose default does not tell the kind.
    """
    shared = len(path) == 1 or (len(path) == 2 and path[0] == "inferer")
    found = (SETTINGS.get(path[-1]) if shared else None) or BOUNDED.get(path[-1])
    if found is SETTINGS["precision"] and default == "auto":
        found = _TRAINING_PRECISION
    if found is not None:
        return replace(found, optional=found.optional or default is None)
    if isinstance(default, bool):
        return switch()
    if isinstance(default, int | float):
        return number()
    return Setting("text", _read_text_or_structure) if isinstance(default, str) else None


def _read_text_or_structure(value: Any) -> Any:
    """Return a text; or a dictionary or a list in place of a name, such as a degradation with its arguments."""
    return value if isinstance(value, dict | list | tuple) else _read_text(value)
