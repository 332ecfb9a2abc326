"""Approvals: whatever is done in whatever order, each request goes only the ways of the table."""

from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy.pool import StaticPool

from gateway.approval_states import EXPIRING, JOINED, TRANSITIONS, Act
from gateway.approval_store import ApprovalStore
from gateway.domain import Refusal, Verdict
from gateway.state import CHANGES, METADATA

PERSONS = st.sampled_from(["bob", "cid", "dan"])
KEYS = st.sampled_from(["k1", "k2"])
ACTS = st.sampled_from(["approve", "deny", "withdraw", "use", "revoke"])
TTL_S = 10
SECOND = 10**9


def row_of(approval_id: str, key: str, now_ns: int) -> dict[str, Any]:
    empty = ("exchange_id", "session_id", "issuer", "sub", "person", "model", "workflow", "reason")
    lists = ("repositories", "approvers", "demands", "reasons")
    return {
        **dict.fromkeys(empty, ""),
        **{name: [] for name in lists},
        "id": approval_id,
        "key": key,
        "scope": "request",
        "ttl_s": TTL_S,
        "state": "pending",
        "kind": "call",
        "created_at": now_ns,
        "expires_at": now_ns + TTL_S * SECOND,
    }


class Approvals(RuleBasedStateMachine):
    """The store against a model of it: what each request may be, and until when."""

    @initialize()
    def open_store(self) -> None:
        self.engine = sa.create_engine("sqlite://", poolclass=StaticPool)
        METADATA.create_all(self.engine)
        with self.engine.begin() as connection:
            connection.execute(sa.insert(CHANGES).values(kind="approvals", number=0))
        self.now = 1_800_000_000 * SECOND
        self.store = ApprovalStore(self.engine, lambda: self.now)
        self.states: dict[str, str] = {}
        self.ends: dict[str, int] = {}
        self.keys: dict[str, str] = {}
        self.voters: dict[str, set[str]] = {}

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.dispose()

    def model_state(self, approval_id: str) -> str:
        state = self.states[approval_id]
        return "expired" if state in EXPIRING and self.ends[approval_id] <= self.now else state

    def some_id(self, data: Any) -> str | None:
        return data.draw(st.sampled_from(sorted(self.states))) if self.states else None

    @rule(key=KEYS)
    def open_or_join(self, key: str) -> None:
        row = row_of(f"appr_{len(self.states):03}", key, self.now)
        joinable = [
            each
            for each in self.states
            if self.keys[each] == key
            and self.model_state(each) in JOINED
            and self.ends[each] > self.now
        ]
        is_new = self.store.open_or_join(row)
        assert ([row["id"]], False) == (joinable, is_new) if joinable else is_new
        if is_new:
            self.states[row["id"]], self.ends[row["id"]] = "pending", row["expires_at"]
            self.keys[row["id"]], self.voters[row["id"]] = key, set()

    @rule(data=st.data(), act=ACTS)
    def move(self, data: Any, act: Act) -> None:
        approval_id = self.some_id(data)
        if approval_id is None:
            return
        following = TRANSITIONS[self.model_state(approval_id)].get(act)  # type: ignore[index]
        if following is None:
            with pytest.raises(Refusal):
                self.store.move(approval_id, act)
            return
        self.store.move(approval_id, act)
        self.states[approval_id] = following
        if act == "approve":
            self.ends[approval_id] = self.now + TTL_S * SECOND

    @rule(data=st.data(), person=PERSONS, verdict=st.sampled_from(["approve", "deny"]))
    def say(self, data: Any, person: str, verdict: Any) -> None:
        approval_id = self.some_id(data)
        if approval_id is None:
            return
        said = Verdict(
            verdict=verdict, issuer="", sub="", person=person, groups=(), comment="", at=""
        )
        voters = self.voters[approval_id]
        if self.model_state(approval_id) != "pending" or person in voters:
            with pytest.raises(Refusal):
                self.store.add_verdict(approval_id, said)
        else:
            self.store.add_verdict(approval_id, said)
            voters.add(person)

    @rule(seconds=st.integers(0, 2 * TTL_S))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule()
    def expire(self) -> None:
        over = {each for each in self.states if self.model_state(each) == "expired"}
        written = {each for each in over if self.states[each] != "expired"}
        assert set(self.store.expire()) <= written
        for each in written:
            self.states[each] = "expired"

    @invariant()
    def each_is_what_the_table_says(self) -> None:
        if not hasattr(self, "store"):
            return
        found = {each.id: each for each in self.store.newest(None, 500)}
        assert {each: found[each].state for each in found} == {
            each: self.model_state(each) for each in self.states
        }
        for each, request in found.items():
            assert {verdict.person for verdict in request.verdicts} == self.voters[each]

    @invariant()
    def one_request_at_most_waits_or_holds_for_a_call(self) -> None:
        if hasattr(self, "store"):
            live = [self.keys[each.id] for each in self.store.live()]
            assert len(live) == len(set(live))

    @invariant()
    def facts_say_the_same(self) -> None:
        if hasattr(self, "store"):
            for each in self.store.live():
                fact = msgspec.to_builtins(each.as_fact())
                assert (fact["state"], fact["id"]) == (each.state, each.id)


class TestApprovals(Approvals.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_every_state_is_in_the_table_and_time_ends_no_last_one() -> None:
    reached = {state for ways in TRANSITIONS.values() for state in ways.values()}
    assert reached | {"pending"} == set(TRANSITIONS)
    assert EXPIRING == ("pending", "approved")
