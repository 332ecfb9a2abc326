"""The tables that a bundle carries for the gateway: masks and signals, compiled; pure."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from gateway.domain import Fact, Signal, Strict
from gateway.masking.rules import Rule, compile_re2, compile_rules
from gateway.masking.specs import BadRule, MaskTable, read_masks

if TYPE_CHECKING:
    import re2

MAX_CAPTURES = 8
MAX_CAPTURE_CHARS = 256
MOST_SELECTIONS = 64
"""Of rules that are kept put together: one per combination that policies ask for."""


class SignalSpec(Strict, frozen=True, kw_only=True):
    """A named pattern that is looked for in each part of a prompt: a message, system, the tools."""

    title: str
    pattern: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    captures: bool = False
    """Whether the first group's matches are facts for policies."""
    alphabet: str = ""
    """The characters a capture may consist of."""


class Source(Strict, frozen=True, kw_only=True):
    """The tables as OPA gives them."""

    masks: dict[str, Any]
    topics: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """Names of masks by what they are about."""
    signals: dict[str, SignalSpec]


class _Bundle(Fact, frozen=True, kw_only=True):
    revision: str


class Provenance(Fact, frozen=True, kw_only=True):
    """What OPA says of the bundle that answered."""

    bundles: dict[str, _Bundle] = msgspec.field(default_factory=dict)

    @property
    def revision(self) -> str:
        """The revision of the gateway's bundle; empty if none is active."""
        bundle = self.bundles.get("gateway")
        return bundle.revision if bundle else ""


class _Reply(Fact, frozen=True, kw_only=True):
    result: Source
    provenance: Provenance


class Tables:
    """Compiled tables of one revision."""

    def __init__(
        self,
        revision: str,
        masks: MaskTable,
        signals: Mapping[str, SignalSpec],
        topics: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.revision = revision
        self.masks: dict[str, Rule] = compile_rules(masks)
        self._topics = topics or {}
        self._rules: dict[tuple[str, ...], tuple[Rule, ...]] = {}
        """What was asked for, by the names it was asked by."""
        self._signals = {name: _compile_signal(name, spec) for name, spec in signals.items()}

    def find_rules(self, names: tuple[str, ...]) -> tuple[Rule, ...]:
        """Return the rules that a policy names, singly or by topic.

        Raises:
            KeyError: there is none of such a name.
        """
        rules = self._rules.get(names)
        if rules is None:
            if len(self._rules) >= MOST_SELECTIONS:
                self._rules.clear()
            found = {
                one: self.masks[one] for name in names for one in self._topics.get(name, (name,))
            }
            rules = self._rules[names] = tuple(found.values())
        return rules

    def find_signals(self, prompt: str) -> dict[str, Signal]:
        """Return the signals that occur in a prompt, with their captures."""
        found = {}
        for name, (pattern, alphabet) in self._signals.items():
            signal = _find(pattern, alphabet, prompt)
            if signal.count:
                found[name] = signal
        return found


def read_tables(reply: bytes) -> Tables:
    """Compile the tables in OPA's reply.

    Raises:
        msgspec.MsgspecError: the reply is not of the declared form.
        BadRule: a pattern does not compile.
    """
    decoded = msgspec.json.decode(reply, type=_Reply)
    if not decoded.provenance.revision:
        raise BadRule("bundle", "none with a revision is active")
    return compile_tables(decoded.provenance.revision, decoded.result)


def compile_tables(revision: str, source: Source) -> Tables:
    """Compile tables; raises `BadRule`."""
    both = source.topics.keys() & source.masks.keys()
    if both:
        raise BadRule(f"mask {min(both)}", "a topic has the same name")
    return Tables(revision, read_masks(source.masks), source.signals, source.topics)


def _compile_signal(name: str, spec: SignalSpec) -> tuple["re2._Regexp", "re2._Regexp | None"]:
    rule = f"signal {name}"
    pattern = compile_re2(rule, spec.pattern)
    alphabet = compile_re2(rule, f"{spec.alphabet}+") if spec.captures else None
    if spec.captures and (pattern.groups < 1 or not spec.alphabet):
        raise BadRule(rule, "captures need a group and an alphabet")
    return pattern, alphabet


def _find(pattern: "re2._Regexp", alphabet: "re2._Regexp | None", prompt: str) -> Signal:
    if alphabet is None:
        return Signal(count=1 if pattern.search(prompt) else 0)
    captures: dict[str, None] = {}
    count = 0
    for match in pattern.finditer(prompt):
        count += 1
        capture = match.group(1) or ""
        if len(capture) <= MAX_CAPTURE_CHARS and alphabet.fullmatch(capture):
            captures[capture] = None
    kept = tuple(captures)[:MAX_CAPTURES]
    return Signal(count=count, captures=kept, is_cut=len(captures) > MAX_CAPTURES)
