"""Shares of limits: what all workers have in common, and what one worker may spend of it; pure.

A limit of requests or tokens is counted in parts of its window. A worker leases a slice of what the
last `PARTS` whole parts and the running one leave, and spends it within the part it was leased in.
So whatever the workers do, and in whatever order, what they spend in any stretch of time as long as
the window is within the limit. A limit of concurrent calls is leased in places, for `LEASE_S`.
"""

from typing import TYPE_CHECKING, Protocol

import msgspec

from gateway.contract import Limit
from gateway.domain import Fact

if TYPE_CHECKING:
    from collections.abc import Mapping

PARTS = 12
"""In which a window is counted; a caller at its limit gets at least 12/13 of it."""
SHARE = 8
"""A slice is what is wanted now and an eighth of what is left: the last of it go one by one."""
LEASE_S = 30
"""How long places are held for a worker that does not renew."""
FRESH_S = 1.0
"""How long a refusal stands without asking again."""


class Places(Fact, frozen=True, kw_only=True):
    """Places for calls under way that one worker has leased."""

    count: int
    until_ns: int


class Counter(Fact, frozen=True, kw_only=True):
    """What all workers share of one limit."""

    used: dict[int, int] = msgspec.field(default_factory=dict)
    """Leased or spent, by the number of the part since the epoch."""
    places: dict[str, Places] = msgspec.field(default_factory=dict)
    """By worker."""


class Ask(Fact, frozen=True, kw_only=True):
    """What a worker asks of a counter and tells it, in one transaction."""

    limit: Limit
    costs: tuple[int, ...] = ()
    """Of the calls that wait."""
    changes: dict[int, int] = msgspec.field(default_factory=dict)
    """By part: what was not spent after all (negative), or was spent beyond what was leased."""
    running: int = 0
    """Concurrent calls under way at this worker."""


class Share(Fact, frozen=True, kw_only=True):
    """A counter's answer."""

    granted: int = 0
    part: int = 0
    """In which it must be spent."""
    used: dict[int, int] = msgspec.field(default_factory=dict)
    """The counter's, with what was granted."""
    until_ns: int = 0
    """Of places."""


def part_ns(limit: Limit) -> int:
    """Return how long a part of the limit's window is."""
    return limit.window_s * 10**9 // PARTS


def answer(counter: Counter, ask: Ask, worker: str, now_ns: int) -> tuple[Counter, Share]:
    """Return the counter after an ask, and what the worker may spend."""
    if ask.limit.unit == "concurrent":
        return _lease_places(counter, ask, worker, now_ns)
    return _lease_budget(counter, ask, now_ns)


def expires_ns(counter: Counter, limit: Limit) -> int:
    """Return when nothing in a counter matters any more."""
    parts = [(part + PARTS + 1) * part_ns(limit) for part in counter.used]
    return max([*parts, *(places.until_ns for places in counter.places.values())], default=0)


def in_use(counter: Counter, window_s: int, now_ns: int) -> int:
    """Return what of a limit is leased or spent."""
    oldest = now_ns // (window_s * 10**9 // PARTS) - PARTS
    places = (held.count for held in counter.places.values() if held.until_ns > now_ns)
    return sum(n for part, n in counter.used.items() if part >= oldest) + sum(places)


def _lease_budget(counter: Counter, ask: Ask, now_ns: int) -> tuple[Counter, Share]:
    part = now_ns // part_ns(ask.limit)
    used = {p: n for p, n in counter.used.items() if p >= part - PARTS}
    for p, change in ask.changes.items():
        if p >= part - PARTS:
            used[p] = max(0, used.get(p, 0) + change)
    left = ask.limit.limit - sum(used.values())
    granted = 0
    for cost in ask.costs:
        granted += cost if granted + cost <= left else 0
    if granted:
        granted += (left - granted) // SHARE
        used[part] = used.get(part, 0) + granted
    return Counter(used=used), Share(granted=granted, part=part, used=used)


def _lease_places(counter: Counter, ask: Ask, worker: str, now_ns: int) -> tuple[Counter, Share]:
    """Grant places; those of calls under way are never taken away."""
    places = {
        holder: held
        for holder, held in counter.places.items()
        if holder != worker and held.until_ns > now_ns
    }
    free = ask.limit.limit - sum(held.count for held in places.values())
    granted = max(min(ask.running + len(ask.costs), free), ask.running)
    until_ns = now_ns + LEASE_S * 10**9
    if granted:
        places[worker] = Places(count=granted, until_ns=until_ns)
    return Counter(places=places), Share(granted=granted, until_ns=until_ns)


class Purse(Protocol):
    """What one worker may spend of one limit."""

    limit: Limit
    """As policy said it last."""

    def take(self, cost: int, now_ns: int, /) -> int | None:
        """Spend; returns a receipt, or None where it does not suffice."""

    def put_back(self, receipt: int, cost: int, /) -> None:
        """Take back what was taken just now: the call is not carried out."""

    def settle(self, receipt: int, cost: int, actual: int, now_ns: int, /) -> None:
        """Take in what a call that is over has really used."""

    def refused_for_s(self, cost: int, now_ns: int, /) -> int | None:
        """Return after how many seconds a cost may fit; None where the counter must be asked."""

    def ask(self, costs: tuple[int, ...], now_ns: int, /) -> Ask | None:
        """Return what to ask of the counter, if anything."""

    def accept(self, ask: Ask, share: Share, now_ns: int, /) -> None:
        """Take in the answer to an ask."""

    def fail(self, ask: Ask, /) -> None:
        """Take in that nobody knows whether an ask was answered."""

    def is_empty(self) -> bool:
        """Return whether nothing would be lost with it."""


class _BudgetPurse:
    """A slice of the budget of one part; a receipt is the part that was charged."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._part = 0
        self._left = 0
        self._is_used = False
        """Whether anything was taken since the last ask."""
        self._changes: dict[int, int] = {}
        self._seen: tuple[int, Mapping[int, int]] = (0, {})
        """What the counter said last, and when."""

    def take(self, cost: int, now_ns: int) -> int | None:
        self._turn(now_ns)
        if cost > self._left:
            return None
        self._left -= cost
        self._is_used = True
        return self._part

    def put_back(self, receipt: int, cost: int) -> None:
        if receipt == self._part:
            self._left += cost
        else:
            self._change(receipt, -cost)

    def settle(self, receipt: int, cost: int, actual: int, now_ns: int) -> None:
        self._turn(now_ns)
        self._change(receipt if actual < cost else self._part, actual - cost)

    def refused_for_s(self, cost: int, now_ns: int) -> int | None:
        at_ns, used = self._seen
        part = now_ns // part_ns(self.limit)
        counted = {p: n for p, n in used.items() if p >= part - PARTS}
        if self._changes or (part == self._part and cost <= self._left):
            return None
        missing = cost - (self.limit.limit - sum(counted.values()))
        if missing <= 0 or not 0 <= now_ns - at_ns < FRESH_S * 10**9:
            return None
        for p in sorted(counted):
            missing -= counted[p]
            if missing <= 0:
                return _seconds((p + PARTS + 1) * part_ns(self.limit) - now_ns)
        return self.limit.window_s

    def ask(self, costs: tuple[int, ...], now_ns: int) -> Ask | None:
        self._turn(now_ns)
        if not self._is_used and not costs:
            self._give_back(self._left)
        self._is_used = False
        changes, self._changes = self._changes, {}
        if not costs and not changes:
            return None
        return Ask(limit=self.limit, costs=costs, changes=changes)

    def accept(self, _ask: Ask, share: Share, now_ns: int) -> None:
        self._turn(now_ns)
        self._seen = (now_ns, share.used)
        if share.part == self._part:
            self._left += share.granted
        else:
            self._change(share.part, -share.granted)

    def fail(self, ask: Ask) -> None:
        """Tell again what was spent; what was given back might be counted twice, so it is not."""
        for part, change in ask.changes.items():
            self._change(part, max(0, change))

    def is_empty(self) -> bool:
        return not self._left and not self._changes

    def _turn(self, now_ns: int) -> None:
        """Give back what was leased in another part than this one."""
        part = now_ns // part_ns(self.limit)
        if part != self._part:
            self._give_back(self._left)
            self._part = part

    def _give_back(self, amount: int) -> None:
        self._left -= amount
        self._change(self._part, -amount)

    def _change(self, part: int, change: int) -> None:
        if change:
            self._changes[part] = self._changes.get(part, 0) + change


class _PlacesPurse:
    """Places for calls under way."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._running = 0
        self._places = 0
        self._until_ns = 0
        self._refused_ns = 0

    def take(self, _cost: int, now_ns: int) -> int | None:
        if self._running >= self._places or now_ns >= self._until_ns:
            return None
        self._running += 1
        return 0

    def put_back(self, _receipt: int, _cost: int) -> None:
        self._running -= 1

    def settle(self, _receipt: int, _cost: int, _actual: int, _now_ns: int) -> None:
        self._running -= 1

    def refused_for_s(self, _cost: int, now_ns: int) -> int | None:
        is_fresh = 0 <= now_ns - self._refused_ns < FRESH_S * 10**9
        return self.limit.window_s if is_fresh and self._running >= self._places else None

    def ask(self, costs: tuple[int, ...], now_ns: int) -> Ask | None:
        """Ask for more, for another `LEASE_S`, or to give back; idle places are free at once."""
        is_aging = self._until_ns - now_ns < LEASE_S * 10**9 // 2
        if not costs and self._running == self._places and not (self._running and is_aging):
            return None
        self._places = self._running
        return Ask(limit=self.limit, costs=costs, running=self._running)

    def accept(self, ask: Ask, share: Share, now_ns: int) -> None:
        self._places, self._until_ns = share.granted, share.until_ns
        if share.granted < ask.running + len(ask.costs):
            self._refused_ns = now_ns

    def fail(self, _ask: Ask) -> None:
        """Keep what runs; whatever was granted lapses by itself."""

    def is_empty(self) -> bool:
        return not self._running and not self._places


def open_purse(limit: Limit) -> Purse:
    """Return an empty purse for a limit."""
    return _PlacesPurse(limit) if limit.unit == "concurrent" else _BudgetPurse(limit)


def _seconds(span_ns: int) -> int:
    """Return whole seconds, at least one, that are no shorter."""
    return max(1, -(-span_ns // 10**9))
