"""Signals over the parts of a prompt: the same whether a part is new or known."""

from typing import Any

import pytest

from gateway.domain import Signal
from gateway.masking.rules import MaskTable
from gateway.messages import facts
from gateway.scans import Part, Scans
from gateway.tables import MAX_CAPTURES, SignalSpec, Tables

SPECS = {
    "prod": SignalSpec(title="t", pattern="prod"),
    "repository": SignalSpec(title="t", pattern=r"repo:(\S+)", captures=True, alphabet="[a-z0-9/]"),
}


def tables(revision: str = "r1") -> Tables:
    return Tables(revision, MaskTable(), SPECS)


def parts(*texts: str) -> list[Part]:
    return [Part(text.encode(), {"role": "user", "content": text}) for text in texts]


def test_signals_of_all_parts_are_united() -> None:
    prompt = parts("prod repo:acme/shop", "repo:acme/web repo:acme/shop", "nothing", "prod")
    assert Scans().find_signals(tables(), prompt) == {
        "prod": Signal(count=2),
        "repository": Signal(count=3, captures=("acme/shop", "acme/web")),
    }


def test_more_captures_than_are_listed_is_said() -> None:
    many = parts(*(f"repo:r{n}" for n in range(MAX_CAPTURES + 1)))
    found = Scans().find_signals(tables(), many)["repository"]
    assert (len(found.captures), found.is_cut) == (MAX_CAPTURES, True)


def test_a_known_part_is_not_looked_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[Any] = []
    real = facts._walk

    def counting(root: Any) -> Any:
        walks.append(root)
        return real(root)

    monkeypatch.setattr(facts, "_walk", counting)
    scans, prompt = Scans(), parts("prod", "repo:a")
    first = [scans.hear(part) for part in prompt], scans.find_signals(tables(), prompt)
    seen = len(walks)
    assert ([scans.hear(part) for part in prompt], scans.find_signals(tables(), prompt)) == first
    assert len(walks) == seen
    scans.find_signals(tables("r2"), prompt)
    assert len(walks) == seen + len(prompt)


def test_a_part_without_a_digest_is_never_known() -> None:
    scans = Scans()
    assert scans.find_signals(tables(), [Part(b"", "prod")]) == {"prod": Signal(count=1)}
    assert scans.find_signals(tables(), [Part(b"", "calm")]) == {}
    assert scans.hear(Part(b"", "prod")).chars == 4
    assert scans.hear(Part(b"", "longer")).chars == 6
