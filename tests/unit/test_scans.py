"""Signals over the parts of a prompt: the same whether a part is new or known."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversations import find_beginnings
from gateway.domain import Signal
from gateway.messages import facts
from gateway.scans import Prompt, Scans
from gateway.tables import MAX_CAPTURES, SignalSpec, Tables

SPECS = {
    "prod": SignalSpec(title="t", pattern="prod"),
    "repository": SignalSpec(title="t", pattern=r"repo:(\S+)", captures=True, alphabet="[a-z0-9/]"),
}


def tables(revision: str = "r1") -> Tables:
    return Tables(revision, {}, SPECS)


def prompt(*texts: str, is_known: bool = True) -> Prompt:
    digests = tuple(text.encode() for text in texts) if is_known else ()
    return Prompt(
        messages=tuple({"role": "user", "content": text} for text in texts),
        beginnings=find_beginnings(digests),
        others=((b"system" if is_known else b"", "of the system"), (b"", [])),
    )


def test_signals_of_all_parts_are_united() -> None:
    said = prompt("prod repo:acme/shop", "repo:acme/web repo:acme/shop", "nothing", "prod")
    assert Scans().find_signals(tables(), said) == {
        "prod": Signal(count=2),
        "repository": Signal(count=3, captures=("acme/shop", "acme/web")),
    }


def test_more_captures_than_are_listed_is_said() -> None:
    many = prompt(*(f"repo:r{n}" for n in range(MAX_CAPTURES + 1)))
    found = Scans().find_signals(tables(), many)["repository"]
    assert (len(found.captures), found.is_cut) == (MAX_CAPTURES, True)


def test_a_known_part_is_not_looked_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[Any] = []
    real = facts._walk

    def counting(root: Any) -> Any:
        walks.append(root)
        return real(root)

    monkeypatch.setattr(facts, "_walk", counting)
    scans, first, second = Scans(), prompt("prod"), prompt("prod", "repo:a", "prod repo:b")
    scans.hear(first), scans.find_signals(tables(), first)
    walks.clear()
    assert scans.hear(second).chars == len("prodrepo:aprod repo:bof the system")
    assert len(walks) == 3
    assert scans.find_signals(tables(), second) == {
        "prod": Signal(count=2),
        "repository": Signal(count=2, captures=("a", "b")),
    }
    walks.clear()
    scans.find_signals(tables(), second)
    assert len(walks) == 1
    walks.clear()
    scans.find_signals(tables("r2"), second)
    assert len(walks) == 5


@given(st.lists(st.sampled_from(["prod", "repo:a", "repo:b", "calm"]), max_size=30), st.data())
def test_what_is_known_before_changes_nothing(texts: list[str], data: st.DataObject) -> None:
    scans = Scans()
    for _ in range(3):
        some = texts[: data.draw(st.integers(0, len(texts)))]
        known = scans.hear(prompt(*some)), scans.find_signals(tables(), prompt(*some))
        fresh = Scans()
        new = prompt(*some, is_known=False)
        assert known == (fresh.hear(new), fresh.find_signals(tables(), new))


def test_a_part_without_a_digest_is_never_known() -> None:
    scans = Scans()
    loud, calm = (prompt(text, is_known=False) for text in ("a prod", "calm"))
    assert scans.find_signals(tables(), loud) == {"prod": Signal(count=1)}
    assert scans.find_signals(tables(), calm) == {}
