"""What a check is, and what it works with."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from gateway.conformance.caller import Caller
from gateway.conformance.upstream import Upstream


class Unmet(Exception):
    """The gateway does not do what the check demands; says what was seen."""


class Skipped(Exception):
    """The check can't be made with what the runner was given."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Both sides of the tested gateway."""

    caller: Caller
    upstream: Upstream
    model: str
    """One that the token may use."""
    denied_model: str
    """One that it may not."""
    expired_token: str = ""

    def refused(self, token: str = "") -> Caller:
        """Return the caller with another token; without one, it shows none."""
        return Caller(self.caller.base_url, token, self.caller.patience_s)


Run = Callable[[Bench], Coroutine[None, None, str]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One promise of the contract."""

    name: str
    proves: str
    """The promise, in one sentence."""
    run: Run
    """Returns what was seen; raises `Unmet`."""


class Checks(list[Check]):
    """The checks of one part of the contract, in order."""

    def add(self, run: Run) -> Run:
        """Add a function as the check that is named like it; its docstring is the promise."""
        self.append(Check(name=run.__name__, proves=run.__doc__ or "", run=run))
        return run


def demand(condition: object, seen: str) -> None:
    """Raise `Unmet` unless the condition holds."""
    if not condition:
        raise Unmet(seen)


def demand_same(expected: bytes, actual: bytes, what: str) -> None:
    """Raise `Unmet` unless bytes are the same, naming the first that differs."""
    if expected == actual:
        return
    at = next(
        (n for n, (a, b) in enumerate(zip(expected, actual, strict=False)) if a != b),
        min(len(expected), len(actual)),
    )
    raise Unmet(
        f"{what}: {len(actual)} bytes for {len(expected)}, first difference at {at}: "
        f"{actual[at : at + 24]!r} for {expected[at : at + 24]!r}"
    )
