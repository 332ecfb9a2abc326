"""What was found in prompts: kept by digest, so that only what is new is looked through.

A prompt is looked at part by part: each message, the system prompt, the tools. Signals are found
within a part, never across two. Kept are sums over the beginnings of conversations, so that a turn
costs its new messages. No text is kept; bounded, the oldest goes first.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from gateway.conversations import Beginnings
from gateway.domain import Fact, Signal
from gateway.messages.facts import Said, hear, read_text
from gateway.tables import MAX_CAPTURES, Tables

MOST_SCANS: Final = 50_000
"""Sums kept by a worker; some 300 bytes each."""

Signals = dict[str, Signal]

_V = TypeVar("_V")


class Prompt(Fact, frozen=True, kw_only=True):
    """A prompt in parts, and by what these are known again."""

    messages: tuple[Any, ...] = ()
    """Parsed."""
    beginnings: Beginnings = ()
    """Of the messages; none where they can't be known again."""
    others: tuple[tuple[bytes, Any], ...] = ()
    """System prompt and tools, each with its digest, empty where it is not worth one."""


class Scans:
    """The memory of one worker."""

    def __init__(self) -> None:
        self._said: dict[bytes, Said] = {}
        self._signals: dict[str, dict[bytes, Signals]] = {}
        """By revision of the tables; those of the newest two."""

    def hear(self, prompt: Prompt) -> Said:
        """Return what a prompt says beside its text."""
        return _look_through(self._said, prompt, hear, Said.plus, Said())

    def find_signals(self, tables: Tables, prompt: Prompt) -> Signals:
        """Return the signals that occur in a prompt, with their captures."""
        if tables.revision not in self._signals:
            self._signals = dict(list(self._signals.items())[-1:])
        known = self._signals.setdefault(tables.revision, {})
        return _look_through(
            known, prompt, lambda part: tables.find_signals(read_text(part)), _united, {}
        )


def _look_through(
    known: dict[bytes, _V],
    prompt: Prompt,
    find: Callable[[Any], _V],
    add: Callable[[_V, _V], _V],
    nothing: _V,
) -> _V:
    """Return the sum of what is found in all parts, from what is known of the prompt on."""
    sums = dict(prompt.beginnings)
    start = next((b.turns for b in reversed(prompt.beginnings) if b.digest in known), 0)
    total = known[sums[start]] if start else nothing
    for turn, message in enumerate(prompt.messages[start:], start=start + 1):
        total = add(total, find(message))
        if turn in sums:
            known[sums[turn]] = total
    for digest, part in prompt.others:
        found = known.get(digest) if digest else None
        if found is None:
            found = find(part)
            if digest:
                known[digest] = found
        total = add(total, found)
    while len(known) > MOST_SCANS:
        del known[next(iter(known))]
    return total


def _united(one: Signals, other: Signals) -> Signals:
    if not one or not other:
        return one or other
    both = one.keys() & other.keys()
    return one | other | {name: _sum(one[name], other[name]) for name in both}


def _sum(one: Signal, other: Signal) -> Signal:
    captures = tuple(dict.fromkeys((*one.captures, *other.captures)))
    return Signal(
        count=one.count + other.count,
        captures=captures[:MAX_CAPTURES],
        is_cut=one.is_cut or other.is_cut or len(captures) > MAX_CAPTURES,
    )
