"""The invariant of masking: any chunking gives what masking the whole text gives, and no more."""

import random
import re
from collections.abc import Sequence
from functools import partial

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st
from support.shipped import frame_of, shipped, source, value_of

from gateway.masking.rules import MaskTable, Rule, compile_rules
from gateway.masking.specs import read_masks
from gateway.masking.templates import keyed_tagger
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


# --- the shipped rules, with tags -----------------------------------------------------------------

NAMES = sorted(source().masks)
TAGGER = keyed_tagger(lambda: b"a session's key")
SHIPPED = st.lists(st.sampled_from(NAMES), min_size=1, max_size=8, unique=True).map(tuple)

VALUES = [frame_of(name).format(value_of(name)) for name in NAMES]
SHIPPED_TEXTS = st.lists(
    st.one_of(
        st.sampled_from(VALUES),
        st.builds(
            lambda value, start, size: value[start : start + size],
            st.sampled_from(VALUES),
            st.integers(0, 60),
            st.integers(1, 60),
        ),
        FRAGMENTS,
        st.sampled_from(
            ["[masked:jwt#0123abcd]", "[masked:", "%3D", "\\n", "4111", "+49 ", "GB29"]
        ),
        st.text(max_size=3),
    ),
    max_size=10,
).map("".join)


def masked(text: str, rules: Sequence[Rule], size: int = 0) -> tuple[str, list[str]]:
    """Mask `text` in pieces of `size`, 0 for whole; return all that is out after each."""
    masker = TextMasker(rules, TAGGER)
    pieces = [text[i : i + size] for i in range(0, len(text), size)] if size else [text]
    out, seen = "", []
    for piece in pieces:
        out += masker.feed(piece)
        seen.append(out)
    return out + masker.finish(), seen


@given(names=SHIPPED, text=SHIPPED_TEXTS, size=st.integers(1, 40))
def test_shipped_rules_mask_alike_in_any_chunking(
    names: tuple[str, ...], text: str, size: int
) -> None:
    rules = shipped().find_rules(names)
    whole, _ = masked(text, rules)
    joined, seen = masked(text, rules, size)
    assert joined == whole
    assert all(whole.startswith(out) for out in seen)


@given(text=SHIPPED_TEXTS, size=st.integers(1, 9))
def test_all_rules_together_mask_alike_in_any_chunking(text: str, size: int) -> None:
    rules = shipped().find_rules(tuple(NAMES))
    assert masked(text, rules, size)[0] == masked(text, rules)[0]


@given(name=st.sampled_from(NAMES), before=st.text(max_size=8), size=st.integers(0, 9))
def test_no_shipped_value_survives_after_a_space(name: str, before: str, size: int) -> None:
    value = value_of(name)
    text = f"{before} {frame_of(name).format(value)} "
    assert value not in masked(text, shipped().find_rules((name,)), size)[0]


@given(key=st.binary(min_size=1, max_size=8), other=st.binary(min_size=1, max_size=8))
def test_a_value_has_one_tag_in_a_session_and_another_elsewhere(key: bytes, other: bytes) -> None:
    one, two = (
        TextMasker(shipped().find_rules(("jwt",)), keyed_tagger(partial(bytes, k)))
        for k in (key, other)
    )
    value = value_of("jwt")
    first = one.feed(f"{value} {value} ") + one.finish()
    assert len(set(first.split())) == 1
    assert (first == two.feed(f"{value} {value} ") + two.finish()) == (key == other)


# --- hostile text ---------------------------------------------------------------------------------


def hostile(rng: random.Random) -> str:
    """Return a text made to be looked at again and again: beginnings whose ends never come."""
    pieces = [rng.choice([*VALUES, *_BEGINNINGS, "a@", "4", " ", "-----BEGIN PRIVATE KEY-----"])]
    pieces += [rng.choice(_BEGINNINGS) for _ in range(rng.randint(0, 2))]
    return "".join(pieces) * rng.randint(1, 40)


_BEGINNINGS = sorted({word for rule in source().masks.values() for word in rule.get("begins", ())})


def test_hostile_texts_are_masked_alike_in_any_chunking() -> None:
    rng = random.Random(7)
    rules = shipped().find_rules(tuple(NAMES))
    for _ in range(60):
        text = hostile(rng)[:1500]
        assert masked(text, rules, rng.choice([1, 7]))[0] == masked(text, rules)[0]


def test_what_is_held_is_bounded_by_the_longest_match_declared() -> None:
    longest = max(rule.get("longest", 0) for rule in source().masks.values())
    rng = random.Random(8)
    feed = partial(TextMasker, shipped().find_rules(tuple(NAMES)), TAGGER)
    for _ in range(40):
        masker = feed()
        text = hostile(rng) * 20
        for start in range(0, len(text), 50):
            masker.feed(text[start : start + 50])
            assert len(masker._held) <= longest + 50


PATHS: dict[str, object] = {
    "kind": "field",
    "title": "Paths",
    "paths": ["a.b", "b.password"],
    "replace": "[m]",
}
NESTED = st.lists(
    st.sampled_from(
        [
            "a",
            "b",
            "password",
            ":",
            "=",
            " ",
            "\n",
            "  ",
            "{",
            "}",
            "[",
            "]",
            '"',
            "'",
            ".",
            "x",
            ",",
        ]
    ),
    max_size=40,
).map("".join)


@given(text=NESTED, size=st.integers(1, 9), before=st.sampled_from(["", "y" * 4090, "a: {" * 70]))
def test_paths_are_found_alike_in_any_chunking(text: str, size: int, before: str) -> None:
    rules = list(compile_rules(read_masks({"p": PATHS})).values())
    assert masked(before + text, rules, size)[0] == masked(before + text, rules)[0]
