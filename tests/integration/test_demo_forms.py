"""The made-up values of the demo have the forms that they claim to have."""

import ast
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from gateway.demo import specimens
from gateway.demo.specimens import KINDS, sentence, specimen
from gateway.demo.structured import sample


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        pytest.param({"const": 7}, 7, id="constant"),
        pytest.param({"enum": ["a", "b"]}, "a", id="choice"),
        pytest.param({"anyOf": [{"type": "null"}, {"type": "string"}]}, None, id="any of"),
        pytest.param({"type": ["integer", "null"]}, 1, id="list of types"),
        pytest.param({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True],
                     id="array"),
        pytest.param({"type": "array"}, [], id="empty array"),
        pytest.param({"$ref": "#/$defs/x", "$defs": {"x": {"type": "number"}}}, 1.0, id="ref"),
        pytest.param({"$ref": "#/nowhere"}, None, id="dangling reference"),
        pytest.param({"type": "what"}, None, id="unknown type"),
        pytest.param({"properties": {"a": True}}, {"a": None}, id="no schema"),
        pytest.param({"type": "array", "minItems": "x"}, [], id="odd length"),
    ],
)  # fmt: skip
def test_a_sample_satisfies_its_schema(schema: dict[str, Any], value: Any) -> None:
    assert sample(schema) == value


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema = {"properties": {"a": {"$ref": "#"}}}
    assert sample(schema) == {"a": {"a": {"a": {"a": {"a": None}}}}}


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        pytest.param("aws", r"AKIA[A-Z2-7]{16}", id="aws"),
        pytest.param("github", r"ghp_[0-9A-Za-z]{36}", id="github"),
        pytest.param("slack", r"xoxb-[0-9]{12}-[0-9]{12}-[0-9A-Za-z]{24}", id="slack"),
        pytest.param(
            "private-key",
            r"-----BEGIN PRIVATE KEY-----\n([A-Za-z0-9+/=]{1,64}\n)+-----END PRIVATE KEY-----",
            id="private-key",
        ),
        pytest.param("jwt", r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]{43}", id="jwt"),
        pytest.param("field", r"[0-9A-Za-z]{20}", id="field"),
        pytest.param("email", r"[a-z.]+@example\.org", id="email"),
    ],
)
def test_a_specimen_has_the_form_of_its_kind(kind: str, form: str) -> None:
    assert re.fullmatch(form, specimen(kind))
    assert specimen(kind) == specimen(kind)
    assert specimen(kind) in sentence(kind)


def test_the_checksum_of_the_github_token_is_right() -> None:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    body, tail = specimen("github")[4:34], specimen("github")[34:]
    value = 0
    for digit in tail:
        value = value * 62 + digits.index(digit)
    assert value == zlib.crc32(body.encode())


def test_no_specimen_stands_in_the_source() -> None:
    source = Path(specimens.__file__).read_text()
    strings = [n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)]
    assert [kind for kind in KINDS if specimen(kind) in source or specimen(kind) in strings] == []
