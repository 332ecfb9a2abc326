"""Every mask that is shipped masks what it says, lets ordinary text pass, and can be named."""

import base64
import hashlib
import inspect
import json
import random
import shutil
import uuid
from email import message as email_message
from pathlib import Path
from typing import Any

import pytest
from support.shipped import DEFAULT, OPA, ROOT, frame_of, shipped, source, value_of

from gateway.bundles import BadPolicy, load_tables
from gateway.masking.shown import show_hits
from gateway.masking.templates import keyed_tagger
from gateway.masking.text import TextMasker

NAMES = sorted(source().masks)
TAGGER = keyed_tagger(lambda: b"a session's key")


def mask(text: str, *names: str) -> str:
    masker = TextMasker(shipped().find_rules(names or tuple(NAMES)), TAGGER)
    return masker.feed(text) + masker.finish()


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_masks_its_value_and_nothing_else(name: str) -> None:
    value = value_of(name)
    text = frame_of(name).format(value)
    masked = mask(text, name)
    assert value not in masked
    before, _, after = text.partition(value)
    shown = f"[masked:{name}#{TAGGER(value)}]"
    if name == "credential_headers":
        before, shown = "Authorization: ", f"[masked:{name}#{TAGGER('Bearer ' + value)}]"
    assert masked == before + shown + after


@pytest.mark.parametrize("name", NAMES)
def test_what_was_masked_stays_as_it_is(name: str) -> None:
    masked = mask(frame_of(name).format(value_of(name)))
    assert mask(masked) == masked


@pytest.mark.parametrize("name", [n for n in NAMES if source().masks[n].get("apart")])
def test_a_value_within_a_word_is_none_and_one_after_an_escape_is(name: str) -> None:
    value = value_of(name)
    text = frame_of(name).format(value)
    if text != f"It is {value} there.":
        return
    assert mask(f"x{value}", name) == f"x{value}"
    for before in ("\\n", "%20", "_", "é"):
        assert value not in mask(before + value, name)


def test_the_topics_that_are_on_are_those_of_the_guide() -> None:
    config = json.loads((ROOT / "policies" / "gateway" / "config" / "data.json").read_text())
    assert tuple(config["masking"]) == DEFAULT
    assert not {"email", "iban", "payment_card", "phone"} & {
        rule.name for rule in shipped().find_rules(DEFAULT)
    }


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        shipped().find_rules(("cloud", "nothing"))


def ordinary() -> list[str]:
    rng = random.Random(1)
    noise = [rng.randbytes(48) for _ in range(2000)]
    return [
        *(inspect.getsource(module) for module in (json, random, uuid, email_message, inspect)),
        "\n".join(str(uuid.UUID(bytes=each[:16])) for each in noise),
        "\n".join(hashlib.sha256(each).hexdigest() for each in noise),
        "\n".join(base64.b64encode(each).decode() for each in noise),
        base64.b64encode(b"".join(noise)).decode(),
        "\n".join(base64.urlsafe_b64encode(each).decode() for each in noise),
        "\n".join(f"index {each[:4].hex()}..{each[4:8].hex()} 100644" for each in noise),
    ]


def test_code_hashes_uuids_and_base64_are_not_taken_for_secrets() -> None:
    hits = [hit for text in ordinary() for hit in show_hits(shipped().find_rules(DEFAULT), text)]
    assert hits == []


def test_code_hashes_uuids_and_base64_are_not_taken_for_cards_or_ibans() -> None:
    rules = shipped().find_rules(("iban", "payment_card"))
    hits = [hit for text in ordinary() for hit in show_hits(rules, text)]
    assert len(hits) <= 1


@pytest.mark.parametrize(
    ("change", "line", "why"),
    [
        pytest.param(("A[KS]IA[A-Z0-9]{16}", "A[KS"), 7, "the pattern is not RE2", id="pattern"),
        pytest.param(("longest: 20", "longest: twenty"), 8, "Expected `int`", id="longest"),
        pytest.param(("'[A-Z0-9]'", "'[A-Z0-9]+'"), 6, "one character class", id="alphabet"),
        pytest.param(("{rule}#{tag}", "{value}"), 9, "knows {rule} and {tag} only", id="template"),
        pytest.param(("  kind: pattern", "  kind: guess"), 4, "Invalid value", id="kind"),
        pytest.param(("begins: ['AKIA', 'ASIA']", "apart: both"), 2, "must say", id="no beginning"),
    ],
)
def test_a_rule_that_cant_be_used_is_named_with_file_and_line(
    tmp_path: Path, change: tuple[str, str], line: int, why: str
) -> None:
    policies = tmp_path / "policies"
    shutil.copytree(ROOT / "policies", policies)
    path = policies / "gateway" / "masks" / "cloud" / "data.yaml"
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(BadPolicy) as bad:
        load_tables(OPA, policies)
    said = str(bad.value)
    assert said.startswith(f"{path}:{line}: mask aws_access_key: ")
    assert why in said


def test_a_mask_in_two_topics_makes_the_tables_unusable(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    shutil.copytree(ROOT / "policies", policies)
    rule: Any = source().masks["jwt"] | {"longest": 99}
    (policies / "gateway" / "masks" / "other").mkdir()
    twin = policies / "gateway" / "masks" / "other" / "data.json"
    twin.write_text(json.dumps({"jwt": rule}))
    with pytest.raises(BadPolicy, match=r"tables\.rego:\d+: .*conflict"):
        load_tables(OPA, policies)
