"""Read what users write about a formation: `auto`, or a name with parameters, for all axes or for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from math import isfinite, log, sqrt
from typing import Any, Literal

from medsr import degradation
from medsr.degradation import Degradation, PerAxisDegradation, SeparableDegradation
from medsr.errors import InputError

AUTO: Literal["auto"] = "auto"
NONE = "none"
FWHM_OF_SIGMA = sqrt(8 * log(2))  # the full width at half maximum of a Gaussian of standard deviation 1

# short word -> registered name
SHORT = {
    "gaussian": "slice-profile",
    "profile": "slice-profile",
    "block": "block-mean",
    "kspace": "kspace-truncation",
}
_HELD = ("name", "version")


def parse_formation(request: str | Mapping[str, Any] | Degradation | None) -> Literal["auto"] | Degradation | None:
    """Return the formation that a user asked for.

    Text is `auto`, `none`, or a name with parameters, as in `kspace:window=hamming,extent=0.8`; with a part for each
    array axis, as in `kspace/kspace/profile:fwhm=0.8`, where `none` stands for an axis that stays as it is. A name is
    that of a registered separable degradation with its parameters, or a short word. All lengths of short words are
    in LR voxels, that is in units of the spacing of the image at hand:

    - `gaussian:fwhm=1.2` or `gaussian:sigma=0.5`: a Gaussian of that width (1 by default). The registered
      `gaussian-blur:sigma=1` is another one, whose sigma is in HR voxels, as in the papers.
    - `profile:fwhm=0.8` or `profile:thickness=0.8`, with `profile=box` or `profile=trapezoid` for another form: a slice
      profile. With both, the FWHM is in units of the thickness.
    - `block`: the mean of the HR voxels in each LR voxel.
    - `kspace`: truncated k-space, with `window=hamming`, `fermi` or `tukey` (and its `taper`), and with `extent`, the
      fraction of the image's Nyquist frequency that was acquired.
    - `none`: nothing is known, and nothing is made consistent with it.

    Args:
        request: The text; the dictionary of a degradation; a degradation; or None, which is `auto`.

    Returns:
        "auto", None for `none`, or the degradation.

    Raises:
        InputError: If a name or a parameter is unknown, or the degradation is not linear and separable.
    """
    if request is None:
        return AUTO
    if not isinstance(request, str | Mapping | Degradation):
        raise InputError(f"expected a formation in words, such as kspace, got {request!r}; write auto or none")
    if not isinstance(request, str):
        return _separable(degradation.as_degradation(request).downsampling)
    text = request.strip()
    if text.lower() == AUTO:
        return AUTO
    if not text:
        raise InputError("expected a formation in words, such as kspace, got an empty text; write auto or none")
    parts = [part.strip() for part in text.split("/")]
    if len(parts) == 1:
        return _one(text)
    if len(parts) > 3:
        raise InputError(f"expected a formation for each of 2 or 3 axes, got {len(parts)} parts in {request!r}")
    return PerAxisDegradation(axes=tuple(_one(part) for part in parts))


def _one(text: str) -> Degradation | None:
    """Return the degradation of one part of a text; None for `none`."""
    word, _, tail = text.partition(":")
    word = word.strip().lower()
    if word == NONE and not tail:
        return None
    name = SHORT.get(word, word)
    known = [known for known in degradation.names() if isinstance(_default(known), SeparableDegradation)]
    if name not in known:
        if name in degradation.names():
            raise InputError(
                f"a formation is linear and separable, but {name!r} is not; write one of {_choices(known)}"
            )
        raise InputError(
            f"expected a formation ({_choices(known)}), got {word!r}{_nearest(word, [AUTO, *SHORT, *known])}"
        )
    found = degradation.get(name, **_parameters(word, name, tail))
    if found.alignment != "half-pixel":
        raise InputError(
            f"formation {word!r} places its LR voxels by the rule {found.alignment!r}, results by 'half-pixel'; write "
            f"{word}:alignment=half-pixel"
        )
    return _separable(found)


def _parameters(word: str, name: str, tail: str) -> dict[str, Any]:
    defaults = {f.name: getattr(_default(name), f.name) for f in fields(_default(name)) if f.name not in _HELD}
    if word == "gaussian":
        del defaults["profile"]  # it is in the word
    extra = ("sigma",) if word == "gaussian" else ()
    found: dict[str, Any] = {}
    for item in (item.strip() for item in tail.split(",") if item.strip()):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise InputError(f"formation {word!r} takes key=value, got {item!r}; write {word}:{item}=...")
        if key not in (*defaults, *extra):
            raise InputError(f"formation {word!r} has no {key!r}{_nearest(key, [*extra, *defaults])}")
        if key in found:
            raise InputError(f"formation {word!r} expected {key} once, got it twice in {tail!r}")
        found[key] = _number(word, key, value) if key in extra else _value(word, key, value, defaults[key])
    if "sigma" in found and word == "gaussian":
        if "fwhm" in found:
            raise InputError("formation 'gaussian' takes a fwhm or a sigma, got both; leave one out")
        found["fwhm"] = FWHM_OF_SIGMA * found.pop("sigma")
    return found


def _value(word: str, key: str, text: str, default: Any) -> Any:
    """Return a value of the type of the default; words stay words, and nothing is evaluated."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise InputError(f"formation {word!r} expected true or false for {key}, got {text!r}")
        return text.lower() == "true"
    if isinstance(default, int | float):
        return _number(word, key, text)
    return None if text.lower() == NONE else text


def _number(word: str, key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise InputError(f"formation {word!r} expected a number for {key}, got {text!r}")
    return value


def _default(name: str) -> Any:
    return degradation.get(name)


def _choices(known: list[str]) -> str:
    return ", ".join([AUTO, NONE, *SHORT, *(name for name in known if name not in SHORT.values())])


def _nearest(word: str, known: list[str]) -> str:
    nearest = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; the nearest is {nearest[0]!r}" if nearest else ""


def _separable(found: Any) -> Degradation:
    if not isinstance(found, SeparableDegradation):
        name = getattr(found, "name", repr(found))
        raise InputError(f"a formation is linear and separable, but {name!r} is not; write kspace, block or profile")
    return found
