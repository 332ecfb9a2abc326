"""What an exchange's record says of masking: which rules were in force, and what each did where.

An auditor sees from it that masking was applied; no value is in it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from gateway.domain import Fact
from lake.shown import ExchangeDetail

_DIRECTIONS = {"request": "to the model", "record": "to the record"}
"""By how a place begins; all others are places in the answer."""
_DONE = {
    "echo_allow": "let pass: the caller's own",
    "echo_mask": "replaced: the caller's own",
    "echo_refuse": "stopped the answer: the caller's own",
}
"""By how a place ends."""


class MaskRow(NamedTuple):
    """What one rule did in one place."""

    rule: str
    times: int
    direction: str
    place: str
    done: str


class _Masking(Fact, frozen=True, kw_only=True):
    request: Sequence[str] = ()
    record: Sequence[str] = ()
    response: Sequence[str] = ()
    echo: str = ""


class _Result(Fact, frozen=True, kw_only=True):
    masking: _Masking = _Masking()


class _Decision(Fact, frozen=True, kw_only=True):
    result: _Result = _Result()


def mask_rows(found: ExchangeDetail) -> list[MaskRow]:
    """Return what each rule did, by direction and place."""
    return [
        _row(mask.rule, mask.place, mask.count)
        for mask in sorted(found.masks_applied, key=lambda mask: (mask.place, mask.rule))
    ]


def _row(rule: str, where: str, count: int) -> MaskRow:
    head, _, tail = where.partition(".")
    if head in _DIRECTIONS:
        return MaskRow(rule, count, _DIRECTIONS[head], tail, "replaced")
    return MaskRow(rule, count, "to the caller", head, _DONE.get(tail, "replaced"))


def masks_in_force(found: ExchangeDetail) -> str:
    """Return which rules the last decision put in force, by direction; empty without a decision."""
    decisions = msgspec.json.decode(found.decisions_json, type=list[_Decision])
    if not decisions:
        return ""
    masking = decisions[-1].result.masking
    parts = [
        f"{direction}: {', '.join(names) or 'none'}"
        for direction, names in (
            ("to the caller", masking.response),
            ("to the model", masking.request),
            ("to the record", masking.record),
        )
    ]
    return "; ".join([*parts, f"echo: {masking.echo}"])
