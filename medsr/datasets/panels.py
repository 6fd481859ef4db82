"""Panels: fixed, named formations of LR images on which every bundle is evaluated alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from medsr.datasets.selection import with_scales
from medsr.errors import InputError

CASE, FORMATION, DEGRADATION = "panel_case", "formation", "degradation"  # keys of an item
KNOWN, AUTO = "simulated", "auto"  # formations that the inferer is asked for

_NOISE = {"name": "rician-noise", "sigma": 0.02}


@dataclass(frozen=True)
class PanelCase:
    """One formation of a panel.

    Attributes:
        name: The name in tables.
        degradation: The degradation, as `medsr.degradation.as_degradation` reads it.
        across: The scale across the slices of a volume that the formation is for; None is for the panel's own scale.
    """

    name: str
    degradation: Mapping[str, Any]
    across: int | None = None


def _noisy(case: PanelCase) -> PanelCase:
    steps = [dict(case.degradation), _NOISE]
    return PanelCase(f"{case.name}, 2 % noise", {"name": "noisy", "steps": steps}, case.across)


_SHARP = (
    PanelCase("Gaussian, sigma 1", {"name": "gaussian-blur", "sigma": 1.0}),
    PanelCase("Gaussian, sigma 0.6", {"name": "gaussian-blur", "sigma": 0.6}),
    PanelCase("block mean", {"name": "block-mean"}),
    PanelCase("slice profile", {"name": "slice-profile"}),
    PanelCase("k-space", {"name": "kspace-truncation"}),
    PanelCase("k-space, Hamming", {"name": "kspace-truncation", "window": "hamming"}),
    PanelCase("bicubic, antialiased", {"name": "bicubic"}),
)
_ACROSS = tuple(
    PanelCase(f"x{scale} across, {name}", {"name": "slice-profile", **profile}, scale)
    for scale in (3, 5)
    for name, profile in (
        ("FWHM 0.8", {"fwhm": 0.8}),
        ("FWHM 1.0", {"fwhm": 1.0}),
        ("FWHM 1.2", {"fwhm": 1.2}),
        ("gap 0.3", {"thickness": 0.7}),
    )
)

# "acquisition" is version 1; "quick" is a part of it for checks that must not take long.
PANELS: dict[str, tuple[PanelCase, ...]] = {
    "acquisition": (*_SHARP, *map(_noisy, _SHARP), *_ACROSS),
    "quick": (_SHARP[0], _SHARP[2], _SHARP[4], _noisy(_SHARP[2])),
}


def check_panel(name: str) -> str:
    """Return the name of a panel, once it is checked.

    Raises:
        InputError: If there is no such panel; the message names the nearest.
    """
    if name not in PANELS:
        near = get_close_matches(name, PANELS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"a panel is one of {', '.join(PANELS)}, got {name!r}{hint}")
    return name


def with_panel(
    items: Sequence[Mapping[str, Any]], scales: Sequence[Any], panel: str | None, panel_scale: Any
) -> list[dict[str, Any]]:
    """Return every item once for each case of a panel, with the formation known and to be found out.

    Args:
        items: The items of a datalist.
        scales: The scales of an evaluation without a panel.
        panel: The name of the panel; None for no panel, which is `with_scales`.
        panel_scale: The scale of the panel: one number per axis for volumes, one number within the slices for networks
            of slices, which leave out the cases across slices.

    Raises:
        InputError: If there is no such panel.
    """
    if panel is None:
        return with_scales(list(map(dict, items)), scales)
    volumes = isinstance(panel_scale, list | tuple)
    return [
        {
            **item,
            "scale": panel_scale if case.across is None else [1, 1, case.across],
            DEGRADATION: dict(case.degradation),
            CASE: case.name,
            FORMATION: formation,
        }
        for case in PANELS[check_panel(panel)]
        if volumes or case.across is None
        for item in items
        for formation in (KNOWN, AUTO)
    ]
