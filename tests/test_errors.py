"""Messages are one line, whatever a file says."""

from __future__ import annotations

import pickle

import pytest

from medsr.errors import GridError, InputError, MedsrError, OutputError


@pytest.mark.parametrize("kind", [MedsrError, InputError, OutputError, GridError])
def test_values_of_files_break_no_line_and_steer_no_terminal(kind: type[MedsrError]) -> None:
    error = kind("a.dcm: got 'RGB\r\n\x1b[2J\u2028\x85é 10 µm  wide'; convert it")
    assert str(error) == "a.dcm: got 'RGB [2J é 10 µm  wide'; convert it"
    assert len(str(error).splitlines()) == 1
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(kind()) == ""
