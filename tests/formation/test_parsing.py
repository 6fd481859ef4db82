"""What users write about a formation."""

from __future__ import annotations

import json
import pickle
from fractions import Fraction

import numpy as np
import pytest

from medsr import degradation
from medsr.degradation import PerAxisDegradation
from medsr.errors import InputError
from medsr.formation import Formation, parse_formation

KSPACE = degradation.get("kspace-truncation")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", "auto"),
        (None, "auto"),
        ("none", None),
        (" KSPACE ", KSPACE),
        ("block", degradation.get("block-mean")),
        ("kspace:window=hamming, extent=0.8", degradation.get("kspace-truncation", window="hamming", extent=0.8)),
        ("kspace:window=none", KSPACE),
        ("profile:fwhm=0.8", degradation.get("slice-profile", fwhm=0.8)),
        ("profile:thickness=1.2,profile=box", degradation.get("slice-profile", thickness=1.2, profile="box")),
        ("gaussian-blur:sigma=0.6", degradation.get("gaussian-blur", sigma=0.6)),
        ("decimation:alignment=half-pixel", degradation.get("decimation", alignment="half-pixel")),
        (
            "kspace/none/profile:fwhm=0.8",
            PerAxisDegradation(axes=(KSPACE, None, degradation.get("slice-profile", fwhm=0.8))),
        ),
        ({"name": "block-mean"}, degradation.get("block-mean")),
        (KSPACE, KSPACE),
    ],
)
def test_what_is_understood(text: object, expected: object) -> None:
    assert parse_formation(text) == expected


def test_the_sigma_of_a_gaussian_is_in_lr_voxels() -> None:
    """Of an impulse on a fine grid, the standard deviation after reduction is that of the Gaussian, in LR voxels."""
    found = parse_formation("gaussian:sigma=0.6")
    scale, n = 8, 41
    row = found.matrices((n * scale,), (n,), (Fraction(scale),))[0][n // 2]  # the profile of the middle LR voxel
    where = (np.arange(n * scale) - (n * scale - 1) / 2) / scale
    assert np.sqrt((row * where**2).sum() / row.sum()) == pytest.approx(0.6, rel=0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kspac", "expected a formation .*, got 'kspac'; the nearest is 'kspace'"),
        ("kspace:windo=hamming", "has no 'windo'; the nearest is 'window'"),
        ("gaussian:profile=box", "has no 'profile'"),
        ("kspace:window=foo", "one of None, hamming, fermi, tukey, got 'foo'"),
        ("profile:fwhm=wide", "expected a number for fwhm, got 'wide'"),
        ("profile:fwhm=nan", "expected a number for fwhm, got 'nan'"),
        ("profile:fwhm=-1", "must be positive"),
        ("profile:fwhm", "takes key=value, got 'fwhm'; write profile:fwhm=..."),
        ("gaussian:fwhm=1,sigma=1", "takes a fwhm or a sigma, got both"),
        ("block:fwhm=1,fwhm=2", "expected fwhm once"),
        ("decimation", "write decimation:alignment=half-pixel"),
        ("rician-noise", "linear and separable, but 'rician-noise' is not"),
        ("acquisition-3d", "linear and separable, but 'acquisition-3d' is not"),
        ("kspace/kspace/kspace/kspace", "each of 2 or 3 axes, got 4 parts"),
        ("gaussian:fwhm=__import__('os').getpid()", "expected a number"),
        ("$print(1)", "expected a formation"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("...", r"\.\.\.")) as refused:
        parse_formation(text)
    assert "\n" not in str(refused.value)


def test_a_formation_is_recorded_and_travels() -> None:
    axes = PerAxisDegradation(axes=(KSPACE, None, degradation.get("kspace-truncation", extent=0.5)))
    formation = Formation(axes, "header", ("axis 2: zero-filled",), (1.0, 0.5, 0.5), 0.0123456)
    record = json.loads(json.dumps(formation.to_dict()))
    assert degradation.from_dict(record["degradation"]) == axes
    assert record["origin"] == "header"
    assert record["acquired"] == [1.0, 0.5, 0.5]
    assert record["noise"] == pytest.approx(0.0123, abs=1e-4)
    assert pickle.loads(pickle.dumps(formation)) == formation
    # axis 1 is not enlarged, so nobody is told
    assert formation.warnings((1.0, 1.0, 0.5)) == [
        "the image is zero-filled: its voxels are 0.5 mm, its true resolution 1 mm along axis 2; enlarging it adds "
        "nothing"
    ]


def test_a_formation_is_linear_and_has_a_known_origin() -> None:
    with pytest.raises(InputError, match="needs a linear degradation, got 'acquisition-3d'"):
        Formation(degradation.get("acquisition-3d"), "stated")
    with pytest.raises(InputError, match="one of stated, header"):
        Formation(KSPACE, "guessed")


@pytest.mark.parametrize(("text", "words"), [("", "got an empty text; write auto or none"), ("$x", "got '$x'")])
def test_no_hint_where_nothing_is_near(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_formation(text)
    assert words in str(caught.value)
    assert "nearest" not in str(caught.value)
