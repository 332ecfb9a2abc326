"""Leases: whatever workers do, in whatever order, what they spend stays within the limit."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.contract import Limit
from gateway.leases import LEASE_S, Ask, Counter, Purse, Share, answer, open_purse

BUDGET = Limit(
    code="limits.reached",
    message="Enough.",
    unit="tokens",
    limit=100,
    window_s=60,
    cost=1,
    counts=("output_tokens",),
)
PLACES = Limit(
    code="limits.reached",
    message="Enough.",
    unit="concurrent",
    limit=4,
    window_s=5,
    cost=1,
    counts=(),
)
SMALL = msgspec.structs.replace(BUDGET, limit=6, window_s=24)
FEW = msgspec.structs.replace(PLACES, limit=2)
WINDOW_NS = SMALL.window_s * 10**9
SECOND_NS = 10**9


@dataclass
class Call:
    """A call that a worker let through."""

    at_ns: int
    cost: int
    receipt: int
    actual: int
    is_over: bool = False
    has_lapsed: bool = False
    """Whether its worker did not renew while it ran."""


@dataclass
class Worker:
    """A worker with its purse; what it asked is under way until it is delivered or lost."""

    name: str
    purse: Purse
    calls: list[Call] = field(default_factory=list)
    asked: Ask | None = None
    share: Share | None = None
    lease_until_ns: int = 0

    @property
    def running(self) -> list[Call]:
        return [call for call in self.calls if not call.is_over]


class Deployment:
    """Workers over one counter; each step is what the outside may do to them."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.now_ns = 1_800_000_000 * SECOND_NS
        self.counter = Counter()
        self.workers = [self._start(n) for n in range(2)]
        self.ended: list[Call] = []

    def _start(self, number: int) -> Worker:
        return Worker(name=f"{number}@{self.now_ns}", purse=open_purse(self.limit))

    def step(self, action: str, number: int, amount: int) -> None:
        worker = self.workers[number]
        getattr(self, f"_{action}")(worker, number, amount)

    def _advance(self, worker: Worker, number: int, amount: int) -> None:
        self.now_ns += amount * SECOND_NS
        for each in self.workers:
            for call in each.running if each.lease_until_ns <= self.now_ns else ():
                call.has_lapsed = True

    def _call(self, worker: Worker, number: int, amount: int) -> None:
        receipt = worker.purse.take(amount, self.now_ns)
        if receipt is not None:
            worker.calls.append(Call(self.now_ns, amount, receipt, amount))

    def _drain(self, worker: Worker, number: int, amount: int) -> None:
        """Make calls until none fits."""
        before = -1
        while before < len(worker.calls) < 100:
            before = len(worker.calls)
            self._call(worker, number, 1)

    def _end(self, worker: Worker, number: int, amount: int) -> None:
        if worker.running:
            call = worker.running[amount % len(worker.running)]
            call.is_over, call.actual = True, amount
            worker.purse.settle(call.receipt, call.cost, call.actual, self.now_ns)

    def _drop(self, worker: Worker, number: int, amount: int) -> None:
        receipt = worker.purse.take(amount, self.now_ns)
        if receipt is not None:
            worker.purse.put_back(receipt, amount)

    def _ask(self, worker: Worker, number: int, amount: int) -> None:
        if worker.asked is None:
            worker.asked = worker.purse.ask((amount,), self.now_ns)

    def _tick(self, worker: Worker, number: int, amount: int) -> None:
        if worker.asked is None:
            worker.asked = worker.purse.ask((), self.now_ns)
            self._answer(worker, number, amount)
            self._deliver(worker, number, amount)

    def _spend(self, worker: Worker, number: int, amount: int) -> None:
        self._ask(worker, number, amount)
        self._answer(worker, number, amount)
        self._deliver(worker, number, amount)
        self._call(worker, number, amount)

    def _lose_a_tick(self, worker: Worker, number: int, amount: int) -> None:
        """Ask for nothing; the answer is given but never arrives."""
        if worker.asked is None:
            worker.asked = worker.purse.ask((), self.now_ns)
            self._answer(worker, number, amount)
            self._lose(worker, number, amount)

    def _answer(self, worker: Worker, number: int, amount: int) -> None:
        if worker.asked is not None and worker.share is None:
            self.counter, worker.share = answer(
                self.counter, worker.asked, worker.name, self.now_ns
            )

    def _deliver(self, worker: Worker, number: int, amount: int) -> None:
        if worker.asked is not None and worker.share is not None:
            worker.purse.accept(worker.asked, worker.share, self.now_ns)
            worker.lease_until_ns = worker.share.until_ns
            worker.asked = worker.share = None

    def _lose(self, worker: Worker, number: int, amount: int) -> None:
        if worker.asked is not None:
            worker.purse.fail(worker.asked)
            worker.asked = worker.share = None

    def _crash(self, worker: Worker, number: int, amount: int) -> None:
        self.ended += worker.calls
        self.workers[number] = self._start(number)


ACTIONS = (
    *("spend", "drain", "end", "advance", "tick"),
    *("drop", "ask", "answer", "deliver", "lose", "lose_a_tick", "crash"),
)


def steps_of(most: int) -> st.SearchStrategy[list[tuple[str, int, int]]]:
    """Return steps whose amounts are up to `most`: tokens or seconds."""
    step = st.tuples(st.sampled_from(ACTIONS), st.integers(0, 1), st.integers(1, most))
    return st.lists(step, min_size=4, max_size=60)


MANY = settings(max_examples=500)
"""The arithmetic is cheap, and its faults need a few certain steps in a row."""


def script(text: str) -> list[tuple[str, int, int]]:
    """Return steps written as `action worker amount`, with semicolons between."""
    steps = (step.split() for step in text.split(";"))
    return [(action, int(number), int(amount)) for action, number, amount in steps]


LEASED = "ask 0 6; answer 0 6; deliver 0 6"


@MANY
@given(steps=steps_of(6))
@example(steps=script("spend 0 6; advance 0 22; spend 1 6"))
@example(steps=script("advance 0 1; spend 0 6; advance 0 23; spend 1 6"))
@example(
    steps=script(
        "ask 0 6; answer 0 6; advance 0 3; deliver 0 6; drain 0 1; advance 0 23; spend 1 6"
    )
)
@example(steps=script(f"{LEASED}; advance 0 3; drain 0 1; advance 0 23; spend 1 6"))
@example(
    steps=script("spend 0 3; advance 0 3; spend 1 3; end 0 1; tick 0 1; advance 0 23; spend 0 5")
)
@example(steps=script("spend 0 4; end 0 1; lose_a_tick 0 1; tick 0 1; spend 1 6"))
def test_no_stretch_of_a_window_holds_more_than_the_limit_and_what_estimates_lacked(
    steps: list[tuple[str, int, int]],
) -> None:
    deployment = Deployment(SMALL)
    for step in steps:
        deployment.step(*step)
    calls = [c for w in deployment.workers for c in w.calls] + deployment.ended
    lacked = sum(max(0, call.actual - call.cost) for call in calls)
    for first in calls:
        spent = sum(c.actual for c in calls if 0 <= c.at_ns - first.at_ns < WINDOW_NS)
        assert spent <= SMALL.limit + lacked


@MANY
@given(steps=steps_of(20))
@example(steps=script(f"{LEASED}; advance 0 31; spend 1 1; spend 1 1; call 0 1"))
@example(steps=script(f"{LEASED}; lose_a_tick 0 1; spend 1 1; spend 1 1; call 0 1"))
def test_no_more_calls_run_at_once_than_the_limit_and_those_whose_worker_lost_its_lease(
    steps: list[tuple[str, int, int]],
) -> None:
    deployment = Deployment(FEW)
    for action, number, amount in steps:
        deployment.step(action, number, amount)
        running = [call for worker in deployment.workers for call in worker.running]
        assert sum(not call.has_lapsed for call in running) <= FEW.limit


def lease(purse: Purse, counter: Counter, costs: tuple[int, ...], now_ns: int) -> Counter:
    ask = purse.ask(costs, now_ns)
    if ask is None:
        return counter
    counter, share = answer(counter, ask, str(id(purse)), now_ns)
    purse.accept(ask, share, now_ns)
    return counter


NOW_NS = 1_800_000_000 * SECOND_NS


def test_a_limit_is_there_to_its_last_call() -> None:
    one, two, counter = open_purse(BUDGET), open_purse(BUDGET), Counter()
    passed = 0
    for n in range(150):
        purse = (one, two)[n % 2]
        if purse.take(1, NOW_NS) is None:
            counter = lease(purse, counter, (1,), NOW_NS)
            passed += purse.take(1, NOW_NS) is not None
        else:
            passed += 1
    assert passed == BUDGET.limit


def test_a_worker_asks_rarely_while_there_is_much_left() -> None:
    purse, counter, asked = open_purse(BUDGET), Counter(), 0
    for _ in range(50):
        if purse.take(1, NOW_NS) is None:
            asked += 1
            counter = lease(purse, counter, (1,), NOW_NS)
            assert purse.take(1, NOW_NS) is not None
    assert asked == 5


def test_what_nobody_needed_for_a_turn_is_there_for_others() -> None:
    one, two, counter = open_purse(BUDGET), open_purse(BUDGET), Counter()
    counter = lease(one, counter, (1,), NOW_NS)
    assert one.take(1, NOW_NS) is not None
    counter = lease(one, counter, (), NOW_NS)
    counter = lease(one, counter, (), NOW_NS)
    counter = lease(two, counter, (99,), NOW_NS)
    assert two.take(99, NOW_NS) is not None


def test_tokens_that_were_not_used_come_back_and_those_beyond_the_estimate_count() -> None:
    purse, counter = open_purse(BUDGET), Counter()
    counter = lease(purse, counter, (100,), NOW_NS)
    receipt = purse.take(100, NOW_NS)
    assert receipt is not None
    purse.settle(receipt, 100, 30, NOW_NS)
    counter = lease(purse, counter, (70,), NOW_NS)
    receipt = purse.take(70, NOW_NS)
    assert receipt is not None
    purse.settle(receipt, 70, 90, NOW_NS)
    counter = lease(purse, counter, (), NOW_NS)
    assert sum(counter.used.values()) == 120


def test_a_refusal_says_when_enough_of_the_window_is_over() -> None:
    purse, counter = open_purse(BUDGET), Counter()
    later_ns = NOW_NS + 20 * SECOND_NS
    for at_ns, cost in ((NOW_NS, 60), (later_ns, 40)):
        counter = lease(purse, counter, (cost,), at_ns)
        assert purse.take(cost, at_ns) is not None
    counter = lease(purse, counter, (50,), later_ns)
    assert purse.refused_for_s(50, later_ns) == 45
    assert purse.refused_for_s(61, later_ns) == 65
    assert purse.refused_for_s(101, later_ns) == BUDGET.window_s
    assert purse.refused_for_s(50, later_ns + 2 * SECOND_NS) is None
    after_ns = later_ns + 45 * SECOND_NS
    counter = lease(purse, counter, (50,), after_ns)
    assert purse.take(50, after_ns) is not None


def test_the_places_of_a_worker_that_died_are_free_when_its_lease_is_over() -> None:
    dead, other, counter = open_purse(PLACES), open_purse(PLACES), Counter()
    counter = lease(dead, counter, (1, 1, 1, 1), NOW_NS)
    assert [dead.take(1, NOW_NS) for _ in range(4)] == [0, 0, 0, 0]
    counter = lease(other, counter, (1,), NOW_NS)
    assert other.take(1, NOW_NS) is None
    assert other.refused_for_s(1, NOW_NS) == PLACES.window_s
    after_ns = NOW_NS + LEASE_S * SECOND_NS
    counter = lease(other, counter, (1,), after_ns)
    assert other.take(1, after_ns) == 0


def test_a_worker_that_lives_keeps_its_places() -> None:
    living, other, counter = open_purse(PLACES), open_purse(PLACES), Counter()
    counter = lease(living, counter, (1, 1, 1, 1), NOW_NS)
    assert [living.take(1, NOW_NS) for _ in range(4)] == [0, 0, 0, 0]
    for second in range(3 * LEASE_S):
        counter = lease(living, counter, (), NOW_NS + second * SECOND_NS)
    after_ns = NOW_NS + 3 * LEASE_S * SECOND_NS
    counter = lease(other, counter, (1,), after_ns)
    assert other.take(1, after_ns) is None


@pytest.mark.parametrize("limit", [BUDGET, PLACES], ids=["budget", "places"])
def test_a_purse_that_is_over_holds_nothing(limit: Limit) -> None:
    purse, counter = open_purse(limit), Counter()
    counter = lease(purse, counter, (1, 1), NOW_NS)
    receipt: Any = purse.take(1, NOW_NS)
    assert not purse.is_empty()
    purse.settle(receipt, 1, 0, NOW_NS)
    for _ in range(2):
        counter = lease(purse, counter, (), NOW_NS)
    assert purse.is_empty()
    assert (sum(counter.used.values()), counter.places) == (0, {})
