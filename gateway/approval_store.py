"""Approval requests and verdicts in the state database; blocking, in short transactions."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from gateway.approval_states import EXPIRING, JOINED, Act, State, follow, state_at
from gateway.changes import note_change
from gateway.clock import format_time
from gateway.domain import Approval, ApprovalId, Demand, Fact, Refusal, Verdict
from gateway.state import APPROVALS, VERDICTS, write

TRIES = 3
"""Of opening a request while another worker opens or ends the same one."""


class ApprovalRequest(Fact, frozen=True, kw_only=True):
    """An approval request as approvers see it."""

    id: ApprovalId
    kind: Literal["call", "access", "emergency"]
    exchange_id: str
    session_id: str
    issuer: str
    sub: str
    person: str
    model: str
    repositories: tuple[str, ...]
    workflow: str
    reason: str
    """Why they ask, in the requester's own words."""
    approvers: tuple[str, ...]
    demands: tuple[Demand, ...]
    reasons: tuple[str, ...]
    scope: str
    ttl_s: int
    created_at: str
    expires_at: str
    """When it ends undecided; once approved, when that ends."""
    state: State
    verdicts: tuple[Verdict, ...]

    def as_fact(self) -> Approval:
        """Return it as policies see it."""
        names = set(Approval.__struct_fields__) - {"session"}
        values = {name: getattr(self, name) for name in names}
        return Approval(session=self.session_id, **values)


class ApprovalStore:
    """Approval requests, on the state database."""

    def __init__(self, engine: sa.Engine, now_ns: Callable[[], int]) -> None:
        self._engine = engine
        self._now_ns = now_ns

    def open_or_join(self, row: dict[str, Any]) -> bool:
        """Insert `row` unless a request with its key is there; sets its id, says if inserted.

        Of several that open the same one at once the database lets one; the others join it.
        """
        for _ in range(TRIES - 1):
            try:
                return self._open_or_join(row)
            except IntegrityError:
                continue
        return self._open_or_join(row)

    def _open_or_join(self, row: dict[str, Any]) -> bool:
        same = APPROVALS.c.key == row["key"]
        over = APPROVALS.c.expires_at <= self._now_ns()
        joined = APPROVALS.c.state.in_(JOINED)
        with write(self._engine) as connection:
            ended = sa.update(APPROVALS).where(same, over, joined)
            is_denied = APPROVALS.c.state == "denied"
            connection.execute(ended.where(~is_denied).values(state="expired"))
            # A denial that no longer holds keeps its state and gives up its key.
            connection.execute(ended.where(is_denied).values(key=APPROVALS.c.id))
            found = connection.execute(sa.select(APPROVALS.c.id).where(same, joined)).scalar()
            if found is not None:
                row["id"] = found
                return False
            connection.execute(sa.insert(APPROVALS).values(**row))
            note_change(connection, "approvals")
        return True

    def open(self, row: dict[str, Any]) -> None:
        """Insert a request that no call waits for, under a key of its own."""
        with write(self._engine) as connection:
            connection.execute(sa.insert(APPROVALS).values(**row))
            note_change(connection, "approvals")

    def find(self, approval_id: str) -> ApprovalRequest | None:
        """Return one request with its verdicts."""
        found = self._select(APPROVALS.c.id == approval_id, 1)
        return found[0] if found else None

    def newest(self, person: str | None, limit: int) -> Sequence[ApprovalRequest]:
        """Return the newest requests, of one person or of all."""
        return self._select(APPROVALS.c.person == person if person else sa.true(), limit)

    def live(self) -> Sequence[ApprovalRequest]:
        """Return the requests that are pending or hold."""
        is_live = APPROVALS.c.state.in_(JOINED) & (APPROVALS.c.expires_at > self._now_ns())
        return self._select(is_live, None)

    def add_verdict(self, approval_id: str, verdict: Verdict) -> None:
        """Add a verdict to a pending request, or to emergency access at any time.

        Each person has one.

        Raises:
            Refusal: this person has already decided, or it is pending no more.
        """
        row = msgspec.to_builtins(verdict) | {"approval_id": approval_id, "at": self._now_ns()}
        try:
            with write(self._engine) as connection:
                self._check_open(connection, approval_id, verdict)
                connection.execute(sa.insert(VERDICTS).values(**row))
                note_change(connection, "approvals")
        except IntegrityError as e:
            raise Refusal("approval.decided", "You have already decided about this one.") from e

    def move(self, approval_id: str, act: Act) -> None:
        """Take a request to its next state; an approval holds from now for its `ttl_s`.

        Raises:
            Refusal: the table of states has no such way.
        """
        with write(self._engine) as connection:
            values: dict[str, Any] = {"state": follow(self._lock(connection, approval_id), act)}
            if act == "approve":
                values["expires_at"] = self._now_ns() + APPROVALS.c.ttl_s * 10**9
            is_this = APPROVALS.c.id == approval_id
            connection.execute(sa.update(APPROVALS).where(is_this).values(**values))
            note_change(connection, "approvals")

    def expire(self) -> Sequence[str]:
        """Write down what time has ended; returns the ids, each to one caller only."""
        is_over = APPROVALS.c.state.in_(EXPIRING) & (APPROVALS.c.expires_at <= self._now_ns())
        ended = sa.update(APPROVALS).where(is_over).values(state="expired")
        with write(self._engine) as connection:
            ids = list(connection.execute(ended.returning(APPROVALS.c.id)).scalars())
            if ids:
                note_change(connection, "approvals")
        return ids

    def _check_open(self, connection: sa.Connection, approval_id: str, verdict: Verdict) -> None:
        query = sa.select(APPROVALS.c.kind).where(APPROVALS.c.id == approval_id)
        state = self._lock(connection, approval_id)
        if connection.execute(query).scalar() != "emergency":
            follow(state, verdict.verdict)

    def _lock(self, connection: sa.Connection, approval_id: str) -> State:
        """Return the state that a request has until this transaction ends."""
        query = sa.select(APPROVALS.c.state, APPROVALS.c.expires_at)
        row = connection.execute(
            query.where(APPROVALS.c.id == approval_id).with_for_update()
        ).one_or_none()
        return state_at(row.state, row.expires_at, self._now_ns()) if row else "expired"

    def _select(self, where: sa.ColumnElement[bool], limit: int | None) -> list[ApprovalRequest]:
        chosen = sa.select(APPROVALS).where(where).order_by(APPROVALS.c.created_at.desc())
        chosen = chosen.limit(limit)
        query = (
            sa.select(VERDICTS)
            .where(VERDICTS.c.approval_id.in_(chosen.with_only_columns(APPROVALS.c.id)))
            .order_by(VERDICTS.c.at)
        )
        with self._engine.connect() as connection:
            rows = _plain(connection.execute(chosen).mappings())
            by_id: dict[str, list[Verdict]] = {}
            for row in _plain(connection.execute(query).mappings()):
                by_id.setdefault(row["approval_id"], []).append(_read_verdict(row))
        return [self._read(row, by_id.get(row["id"], [])) for row in rows]

    def _read(self, row: dict[str, Any], verdicts: list[Verdict]) -> ApprovalRequest:
        row |= {
            "created_at": format_time(row["created_at"]),
            "expires_at": format_time(row["expires_at"]),
            "state": state_at(row["state"], row["expires_at"], self._now_ns()),
            "verdicts": tuple(verdicts),
        }
        return msgspec.convert(row, ApprovalRequest)


def _plain(rows: Iterable[sa.RowMapping]) -> list[dict[str, Any]]:
    """Return rows under plain names; the library's own are a subclass that strict types refuse."""
    return [{str(name): value for name, value in row.items()} for row in rows]


def _read_verdict(row: dict[str, Any]) -> Verdict:
    return msgspec.convert(row | {"at": format_time(row["at"])}, Verdict)
