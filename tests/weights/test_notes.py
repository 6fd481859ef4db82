"""The notes beside a weight file."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsr.errors import InputError
from medsr.weights import notes_path, read_notes, start_of


def test_weights_without_notes_start_from_the_interpolated_image(tmp_path: Path) -> None:
    assert read_notes(tmp_path / "model.pt") == {}
    assert start_of(tmp_path / "model.pt") == start_of(None) == "interpolated"


def test_each_weight_file_has_notes_of_its_own(tmp_path: Path) -> None:
    assert notes_path(tmp_path / "model_pham2017.pt") == tmp_path / "model_pham2017.json"
    (tmp_path / "model.json").write_text('{"start": "consistent"}')
    assert start_of(tmp_path / "model.pt") == "consistent"
    assert start_of(tmp_path / "model_pham2017.pt") == "interpolated"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[1]", "expected a JSON object"),
        ('{"start": "blurred"}', "interpolated or the consistent image, got 'blurred'"),
    ],
)
def test_damaged_notes_are_refused(tmp_path: Path, text: str, words: str) -> None:
    """A wrong start would be a worse image with exit status 0."""
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(InputError, match=words):
        start_of(tmp_path / "model.pt")
