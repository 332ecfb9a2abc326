"""The invariant of masking: any chunking gives what masking the whole text gives, and no more."""

import re

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.masking.rules import MaskTable, compile_rules
from gateway.masking.text import TextMasker

TABLE = msgspec.convert(
    {
        "aws": {
            "kind": "pattern",
            "title": "AWS",
            "begins": ["AKIA", "ASIA"],
            "alphabet": "[0-9A-Z]",
            "pattern": "(?:AKIA|ASIA)[0-9A-Z]{16}",
            "longest": 20,
            "replace": "<aws>",
        },
        "jwt": {
            "kind": "pattern",
            "title": "JWT",
            "begins": ["eyJ"],
            "alphabet": "[A-Za-z0-9_.-]",
            "pattern": r"eyJ[A-Za-z0-9_-]{4,}\.eyJ[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?",
            "longest": 40,
            "replace": "<jwt>",
        },
        "key": {
            "kind": "block",
            "title": "key",
            "begins": ["-----BEGIN "],
            "alphabet": "[-A-Z0-9 ]",
            "pattern": "-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----",
            "longest": 80,
            "until": "PRIVATE KEY-----",
            "replace": "<key>",
        },
        "field": {
            "kind": "field",
            "title": "fields",
            "names": ["password", "secret", "secret_key"],
            "replace": "<field>",
        },
        "email": {
            "kind": "pattern",
            "title": "e-mail",
            "begins": [],
            "needs": "@",
            "alphabet": r"[A-Za-z0-9._%+@\-]",
            "pattern": r"[A-Za-z0-9._%+-]{1,20}@[A-Za-z0-9-]{1,10}\.[a-z]{2,6}",
            "longest": 40,
            "replace": "<email>",
        },
    },
    MaskTable,
)
RULES = list(compile_rules(TABLE).values())

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----"
FRAGMENTS = st.sampled_from(
    [
        "AKIA", "ASIA", "0123456789ABCDEF", "A", "eyJ", "hbGci", ".", "eyJzdWI", "x" * 45,
        "-----BEGIN ", "RSA ", "PRIVATE KEY-----", "-----END ", "-----", "\n", "password", "secret",
        "_key", '"', "'", "\\", ":", "=", "=>", " ", "hunter2", "ada", "@", "acme.com", ", ", "}",
        "é", "\u212a", "Pass", "WORD", "İ", "😀", KEY, "AKIA0123456789ABCDEF", "%", "-",
    ]
)  # fmt: skip
TEXTS = st.lists(st.one_of(FRAGMENTS, st.text(max_size=3)), max_size=14).map("".join)


def mask(text: str) -> str:
    masker = TextMasker(RULES)
    return masker.feed(text) + masker.finish()


def mask_pieces(pieces: list[str]) -> tuple[str, list[str]]:
    masker = TextMasker(RULES)
    released = [masker.feed(piece) for piece in pieces]
    released.append(masker.finish())
    return "".join(released), released


@given(text=TEXTS, data=st.data())
@example(text="password=AKI", data=None)
def test_any_chunking_gives_the_masked_text_and_nothing_more_is_ever_out(
    text: str, data: st.DataObject | None
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8))) if data else [3]
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = mask(text)
    joined, released = mask_pieces(pieces)
    assert joined == whole
    for count in range(len(released)):
        assert whole.startswith("".join(released[:count]))


@given(text=TEXTS)
def test_one_character_at_a_time_gives_the_same(text: str) -> None:
    assert mask_pieces(list(text))[0] == mask(text)


@given(before=TEXTS, after=st.text(max_size=5))
def test_a_whole_secret_never_survives(before: str, after: str) -> None:
    secret = "AKIA0123456789ABCDEF"
    assert secret not in mask(f"{before} {secret} {after}")


def test_every_kind_of_rule_masks_its_example() -> None:
    text = (
        f"key AKIA0123456789ABCDEF, token eyJhbGciOi.eyJzdWIi.c2ln. {KEY} end\n"
        'password: hunter2, "secret": "two \\" words", secret_key=abc123; mail ada@acme.com!'
    )
    assert mask(text) == (
        "key <aws>, token <jwt>. <key> end\n"
        'password: <field>, "secret": "<field>", secret_key=<field>; mail <email>!'
    )


def test_ordinary_text_is_released_at_once() -> None:
    rules = [rule for rule in RULES if rule.name != "email"]
    masker = TextMasker(rules)
    words = re.findall(r"\S+\s*", "def main():\n    return compute(value, 42)  # nothing to see\n")
    assert [masker.feed(word) for word in words] == words
