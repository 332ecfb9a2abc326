"""Parts of the rules: checksums, templates and tags, fields, and what swallows a value's rest."""

from typing import Any

import pytest

from gateway.masking.checksums import entropy, iban, luhn
from gateway.masking.rules import BadRule, compile_rules
from gateway.masking.specs import read_masks
from gateway.masking.templates import TAGGED_CHARS, Template, keyed_tagger
from gateway.masking.text import TextMasker

FIELDS: dict[str, Any] = {
    "kind": "field",
    "title": "Fields",
    "names": ["password", "secret_key", "authorization"],
    "replace": "[masked:{rule}#{tag}]",
}
KEY: dict[str, Any] = {
    "kind": "block",
    "title": "Key",
    "begins": ["-----BEGIN KEY-----"],
    "alphabet": "[A-Z -]",
    "pattern": "-----BEGIN KEY-----",
    "longest": 19,
    "until": "-----END KEY-----",
    "replace": "[key]",
}


def mask(rule: dict[str, Any], text: str, size: int = 0) -> str:
    rules = list(compile_rules(read_masks({"a": rule})).values())
    masker = TextMasker(rules)
    pieces = [text[i : i + size] for i in range(0, len(text), size)] if size else [text]
    return "".join(map(masker.feed, pieces)) + masker.finish()


@pytest.mark.parametrize(
    ("text", "length"),
    [
        pytest.param("4111 1111 1111 1111", 19, id="valid"),
        pytest.param("4111 1111 1111 1112", 0, id="one digit off"),
        pytest.param("1411 1111 1111 1111", 0, id="two digits swapped"),
        pytest.param("378282246310005", 15, id="of 15 digits"),
        pytest.param("0", 0, id="too short"),
    ],
)
def test_luhn(text: str, length: int) -> None:
    assert luhn(text) == length


@pytest.mark.parametrize(
    ("text", "length"),
    [
        pytest.param("DE89 3704 0044 0532 0130 00", 27, id="valid"),
        pytest.param("DE89370400440532013000 AND MORE", 22, id="with a tail"),
        pytest.param("DE88 3704 0044 0532 0130 00", 0, id="one digit off"),
        pytest.param("XX89 3704 0044 0532 0130 00", 0, id="no such country"),
        pytest.param("DE89 3704", 0, id="too short"),
        pytest.param("DE89 3704 0044 0532 01-0 00", 0, id="a sign within"),
    ],
)
def test_iban(text: str, length: int) -> None:
    assert iban(text) == length


def test_entropy() -> None:
    assert (entropy("aaaa"), entropy("abab"), entropy("abcd")) == (0, 1, 2)


def test_a_template_is_filled_and_loses_its_tag_with_the_sign_before_it() -> None:
    template = Template("jwt", "[masked:{rule}#{tag}]")
    assert template.fill("x", None) == "[masked:jwt]"
    assert template.fill("x", lambda value: f"<{value}>") == "[masked:jwt#<x>]"
    assert Template("jwt", "{tag}").fill("x", None) == ""


@pytest.mark.parametrize("text", ["{name}", "{rule", 'a"b', "a\\b", "a\nb"])
def test_a_template_with_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadRule, match="mask a: "):
        compile_rules(read_masks({"a": {**FIELDS, "replace": text}}))


def test_a_tag_covers_the_first_characters_of_a_value() -> None:
    tagger = keyed_tagger(lambda: b"key")
    template = Template("a", "{tag}")
    tag = template.fill("x" * TAGGED_CHARS, tagger)
    assert len(tag) == 8
    assert template.fill("x" * (TAGGED_CHARS + 1), tagger) == tag
    assert template.fill("x" * (TAGGED_CHARS - 1), tagger) != tag


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        pytest.param('{"password": "a b"}', '{"password": "[masked:a]"}', id="JSON"),
        pytest.param(
            '{\\"password\\":\\"a b\\"}', '{\\"password\\":\\"[masked:a]\\"}', id="escaped"
        ),
        pytest.param("db_password: abc # x", "db_password: [masked:a] # x", id="YAML"),
        pytest.param("DB_PASSWORD='a b'\n", "DB_PASSWORD='[masked:a]'\n", id="dotenv"),
        pytest.param("?password=abc&b=c", "?password=[masked:a]&b=c", id="query"),
        pytest.param("password := abc;", "password := [masked:a];", id="Go"),
        pytest.param("'password' => 'a',", "'password' => '[masked:a]',", id="PHP"),
        pytest.param("password: a\nb: c", "password: [masked:a]\nb: c", id="next line"),
        pytest.param("no password here: x", "no password here: x", id="prose"),
        pytest.param('password: ""', 'password: ""', id="empty"),
        pytest.param(
            "password: [masked:jwt#0123abcd]", "password: [masked:jwt#0123abcd]", id="masked"
        ),
        pytest.param("password: [masked:jwt]x", "password: [masked:a]]x", id="masked with a rest"),
    ],
)
def test_a_field_is_found_however_it_is_written(text: str, masked: str) -> None:
    for size in range(9):
        assert mask(FIELDS, text, size) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        pytest.param(
            "Authorization: Basic a b\r\nX: y", "Authorization: [masked:a]\r\nX: y", id="header"
        ),
        pytest.param(
            "curl -H 'Authorization: Bearer a' b",
            "curl -H 'Authorization: [masked:a]' b",
            id="curl",
        ),
    ],
)
def test_a_header_goes_to_the_end_of_its_line(text: str, masked: str) -> None:
    for size in range(9):
        assert mask({**FIELDS, "value": "line"}, text, size) == masked


PATHS = {
    "kind": "field",
    "title": "Paths",
    "paths": ["database.password", "a.b.c"],
    "replace": "[m]",
}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        pytest.param(
            '{"database": {"port": {"x": 1}, "password": "s"}, "password": "s"}',
            '{"database": {"port": {"x": 1}, "password": "[m]"}, "password": "s"}',
            id="JSON",
        ),
        pytest.param(
            "database:\n  port: 1\n  password: s\nother:\n  password: s\n",
            "database:\n  port: 1\n  password: [m]\nother:\n  password: s\n",
            id="YAML",
        ),
        pytest.param("x.database.password=s", "x.database.password=[m]", id="properties"),
        pytest.param(
            "[database]\npassword = s\n[x]\npassword = s",
            "[database]\npassword = [m]\n[x]\npassword = s",
            id="TOML",
        ),
        pytest.param(
            "a:\n  b: {c: s, d: 1}\n  c: s\n", "a:\n  b: {c: [m], d: 1}\n  c: s\n", id="mixed"
        ),
        pytest.param(
            "a: {b: {x: [1, {y: 2}], c: s}}", "a: {b: {x: [1, {y: 2}], c: [m]}}", id="deep"
        ),
        pytest.param(
            '{"database": "x", "password": "s"}', '{"database": "x", "password": "s"}', id="beside"
        ),
        pytest.param("database: {db_password: s}", "database: {db_password: s}", id="longer name"),
    ],
)
def test_a_path_masks_a_name_below_its_others_only(text: str, masked: str) -> None:
    for size in range(12):
        assert mask(PATHS, text, size) == masked


RUN = "MIIEpAIBAAKCAQEA7bq3" * 3


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        pytest.param(f"a -----BEGIN KEY-----\n{RUN}\n-----END KEY----- b", "a [key] b", id="whole"),
        pytest.param(f"-----BEGIN KEY-----\n  > {RUN}\n  > {RUN}\n", "[key]", id="cut, quoted"),
        pytest.param(
            f"-----BEGIN KEY-----\nx: y\n\n{RUN}\n{RUN}" + " and so on" * 30,
            "[key]" + " and so on" * 30,
            id="without its end",
        ),
        pytest.param(
            "It begins with -----BEGIN KEY-----, " + "as you know, " * 30,
            "It begins with [key], " + "as you know, " * 30,
            id="only spoken of",
        ),
        pytest.param("-----BEGIN KEY-----\nab\n-----END KEY-----", "[key]", id="short"),
    ],
)
def test_a_key_is_swallowed_to_its_end_and_prose_is_not(text: str, masked: str) -> None:
    for size in (0, 1, 2, 3, 7, 16, 50, 200):
        assert mask(KEY, text, size) == masked


def test_a_masker_holds_until_the_value_ends() -> None:
    rules = list(compile_rules(read_masks({"a": FIELDS})).values())
    masker = TextMasker(rules, str.upper)
    assert [masker.feed(piece) for piece in ("password=", "ab", "cd", " x")] == [
        "",
        "password=",
        "",
        "[masked:a#ABCD] x",
    ]
    assert (masker.is_holding, masker.counts) == (False, {"a": 1})


def test_a_masker_holds_what_takes_the_place_of_a_value_that_may_go_on() -> None:
    masker = TextMasker(list(compile_rules(read_masks({"a": FIELDS})).values()), str.upper)
    assert (masker.feed("password=a"), masker.is_holding) == ("password=", True)
    assert masker.finish() == "[masked:a#A]"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"starts": ["[a-z]+"]}, "starts", id="a start that repeats"),
        pytest.param({"starts": ["[a]{20}"]}, "starts", id="a start that is too long"),
        pytest.param({"begins": ["é"]}, "begins", id="a beginning that is not ASCII"),
        pytest.param({"begins": ["a"], "starts": ["[a]"]}, "", id="two kinds of beginning"),
        pytest.param({"begins": ["a"], "pattern": "(a)(b)"}, "pattern", id="two groups"),
        pytest.param({"begins": ["a"], "check": "sum"}, "check", id="unknown checksum"),
        pytest.param({"begins": ["a"], "names": ["a.b"]}, "", id="unknown field"),
    ],
)
def test_a_rule_says_which_of_its_fields_is_wrong(change: dict[str, Any], field: str) -> None:
    pattern = {
        "kind": "pattern",
        "title": "A",
        "alphabet": "[a-z]",
        "pattern": "a",
        "longest": 9,
        "replace": "[a]",
    }
    with pytest.raises(BadRule) as bad:
        compile_rules(read_masks({"a": pattern | change}))
    assert (bad.value.rule, bad.value.field) == ("mask a", field)
