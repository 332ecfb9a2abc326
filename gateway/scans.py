"""What was found in parts of prompts: kept by digest, so that only new ones are looked through.

A prompt is looked at part by part: the system prompt, each message, the tools. Signals are found
within a part, never across two. No text is kept; bounded, the oldest goes first.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeVar

from gateway.domain import Signal
from gateway.messages.facts import Said, hear, read_text
from gateway.tables import MAX_CAPTURES, Tables

MOST_SCANS: Final = 50_000
"""Of messages, kept by a worker; some 300 bytes each."""

Signals = dict[str, Signal]

_K = TypeVar("_K")
_V = TypeVar("_V")


class Part(NamedTuple):
    """A part of a prompt."""

    digest: bytes
    """By which it is known again; empty where it is not worth it."""
    value: Any
    """Parsed."""


class Scans:
    """The memory of one worker."""

    def __init__(self) -> None:
        self._said: OrderedDict[bytes, Said] = OrderedDict()
        self._signals: OrderedDict[tuple[str, bytes], Signals] = OrderedDict()

    def hear(self, part: Part) -> Said:
        """Return what a part says beside its text."""
        known = self._said.get(part.digest) if part.digest else None
        if known is None:
            known = hear(part.value)
            _keep(self._said, part.digest, known)
        return known

    def find_signals(self, tables: Tables, parts: Iterable[Part]) -> Signals:
        """Return the signals that occur in a prompt, with their captures."""
        found: Signals = {}
        for part in parts:
            for name, signal in self._signals_of(tables, part).items():
                found[name] = _united(found[name], signal) if name in found else signal
        return found

    def _signals_of(self, tables: Tables, part: Part) -> Signals:
        key = (tables.revision, part.digest)
        known = self._signals.get(key) if part.digest else None
        if known is None:
            known = tables.find_signals(read_text(part.value))
            _keep(self._signals, key, known)
        return known


def _keep(memory: OrderedDict[_K, _V], key: _K, value: _V) -> None:
    memory[key] = value
    if len(memory) > MOST_SCANS:
        memory.popitem(last=False)


def _united(one: Signal, other: Signal) -> Signal:
    captures = tuple(dict.fromkeys((*one.captures, *other.captures)))
    return Signal(
        count=one.count + other.count,
        captures=captures[:MAX_CAPTURES],
        is_cut=one.is_cut or other.is_cut or len(captures) > MAX_CAPTURES,
    )
