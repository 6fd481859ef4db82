"""What a client may ask for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsr.errors import MedsrError
from medsr.label.parameters import PARAMETERS, LabelRequest, parse_request


@pytest.mark.parametrize("value", [2.5, "2.5", " 2.5 ", [2.5], "[2.5]"])
def test_one_number(value: Any) -> None:
    assert parse_request({"scale": value}).settings == {"scale": 2.5}


@pytest.mark.parametrize("value", [[1, 1, 3], (1, 1, 3), "1 1 3", "1,1,3", "[1, 1, 3]", "1x1x3"])
def test_three_numbers(value: Any) -> None:
    assert parse_request({"spacing": value}).settings == {"spacing": [1.0, 1.0, 3.0], "scale": None}


def test_words_of_a_form() -> None:
    request = parse_request({"consistency": "no", "uncertainty": "yes", "tile_size": "32", "between_scales": "refuse"})
    assert (request.consistency, request.uncertainty) == (False, True)
    assert request.settings == {"tile_size": 32, "between_scales": "refuse"}


def test_form_with_empty_fields_asks_for_nothing() -> None:
    form = {"device": ["cpu"], "scale": "", "spacing": None, "consistency": False, "uncertainty": "false"}
    assert parse_request(form) == LabelRequest(device="cpu")


def test_what_the_host_adds_is_passed_over() -> None:
    added = {"model": "m", "image": "i", "description": "d", "save_label": True, "label_tag": "t", "logging": "INFO"}
    assert parse_request(added) == LabelRequest()


def test_all_of_it() -> None:
    params = {"scale": 2, "formation": "block", "memory_mb": 512, "precision": "bfloat16", "series": "1.2.840.1"}
    request = parse_request({**params, "consistency": "True", "uncertainty": True, "result_extension": "NRRD"})
    assert request.settings == params
    assert request.consistency
    assert request.uncertainty
    assert request.extension == ".nrrd"


@pytest.mark.parametrize(
    ("name", "extension"),
    [("a.nii", ".nii"), ("a.b.nii.gz", ".nii.gz"), ("a.mha", ".mha"), ("a.mgz", ".nii.gz"), ("series", ".nii.gz")],
)
def test_extension_follows_the_input(name: str, extension: str) -> None:
    assert parse_request({}).extension_for(name) == extension
    assert parse_request({"result_extension": "dicom"}).extension_for(name) == "dicom"


@pytest.mark.parametrize("dtype", ["uint8", "int16", "bool", "float64", "float16", "complex64"])
def test_casts_are_refused(dtype: str) -> None:
    with pytest.raises(MedsrError, match=f"results are float32, got result_dtype {dtype}.*leave result_dtype out"):
        parse_request({"result_dtype": dtype})
    assert parse_request({"result_dtype": "float32"}) == LabelRequest()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"scale": [1, 2]}, "one number or three"),
        ({"scale": True}, "one number or three"),
        ({"spacing": float("nan")}, "one number or three"),
        ({"spacing": {"x": 1}}, "one number or three"),
        ({"scale": 2, "spacing": 1}, "got both"),
        ({"output_dir": "/etc"}, "no parameter 'output_dir'; known are scale, spacing"),
        ({"inferer::max_voxels": 1}, "no parameter"),
        ({"formation": "blocks"}, "a formation such as kspace"),
        ({"memory_mb": 1.5}, "whole number"),
        ({"series": "a/b"}, "short word"),
        ({"precision": "x" * 1000}, "short word"),
        ({"consistency": 1}, "true or false"),
        ({"result_extension": ".dcm"}, "results are written as"),
        ({"result_extension": "png"}, "results are written as"),
        ({"result_dtype": "nothing"}, "result_dtype such as float32"),
        ({"device": 1}, "name of a device"),
        ({"scale": 0}, "one number or three positive numbers"),
        ({"scale": 0.5}, "at least 1 to enlarge"),
        ({"spacing": "0 1 1"}, "one number or three positive numbers"),
        ({"memory_mb": 0}, "at least 1 for memory_mb, got 0"),
        ({"tile_size": "0"}, "at least 1, or one per axis for tile_size, got '0'"),
        ({"between_scales": "sideways"}, "refuse or up-and-down for between_scales, got 'sideways'"),
        ({"precision": "float8"}, "float32, bfloat16 or float16 for precision, got 'float8'"),
        ({"uncertainty": "maybe"}, "true or false for uncertainty, got 'maybe'"),
        ({"compile": True}, "no parameter 'compile'"),
        ({"uncertanty": True}, "did you mean uncertainty"),
    ],
)
def test_wrong_values(params: dict[str, Any], words: str) -> None:
    with pytest.raises(MedsrError, match=words) as error:
        parse_request(params)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(PARAMETERS) | st.text(), VALUES, max_size=4))
def test_whatever_is_sent_is_a_request_or_one_line(params: dict[str, Any]) -> None:
    message = ""
    try:
        parse_request(params)
    except MedsrError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
