"""Approval requests and verdicts in the state database. OPA alone says what they are worth."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gateway.domain import (
    Approval,
    ApprovalId,
    ApprovalObligation,
    ExchangeId,
    Fact,
    Failure,
    Principal,
    Refusal,
    Request,
    Verdict,
)
from gateway.exchange import format_time
from gateway.state import APPROVALS, VERDICTS, digest_call, shared_key, write

POLL_S = 0.25
"""How often a waiting call looks for verdicts."""

MAX_HELD_BYTES = 256 * 1024 * 1024
"""Of bodies that wait in one worker; about 3,000 of a coding agent's."""

_T = TypeVar("_T")


class ApprovalRequest(Fact, frozen=True, kw_only=True):
    """An approval request as approvers see it."""

    id: ApprovalId
    exchange_id: str
    session_id: str
    issuer: str
    sub: str
    person: str
    model: str
    repositories: tuple[str, ...]
    approvers: tuple[str, ...]
    reasons: tuple[str, ...]
    scope: str
    created_at: str
    expires_at: str
    state: Literal["pending", "expired"]
    verdicts: tuple[Verdict, ...]


class ApprovalStore:
    """The blocking half: short transactions on the state database."""

    def __init__(self, engine: sa.Engine, now_ns: Callable[[], int]) -> None:
        self._engine = engine
        self._now_ns = now_ns

    def open_or_join(self, row: dict[str, Any]) -> bool:
        """Insert `row` unless a live request has its key; sets `row["id"]`, says if inserted."""
        live = sa.select(APPROVALS.c.id).where(
            APPROVALS.c.key == row["key"], APPROVALS.c.expires_at > self._now_ns()
        )
        with write(self._engine) as connection:
            found = connection.execute(live).scalar()
            if found is None:
                connection.execute(sa.insert(APPROVALS).values(**row))
            else:
                row["id"] = found
        return found is None

    def find(self, approval_id: str) -> ApprovalRequest | None:
        """Return one request with its verdicts."""
        found = self._select(APPROVALS.c.id == approval_id)
        return found[0] if found else None

    def newest(self, person: str | None, limit: int) -> Sequence[ApprovalRequest]:
        """Return the newest requests, of one person or of all."""
        return self._select(APPROVALS.c.person == person if person else sa.true(), limit)

    def add_verdict(self, approval_id: str, verdict: Verdict) -> None:
        """Add a verdict; each person has one per request.

        Raises:
            Refusal: this person has already decided.
        """
        row = msgspec.to_builtins(verdict) | {"approval_id": approval_id, "at": self._now_ns()}
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(VERDICTS).values(**row))
        except IntegrityError as e:
            raise Refusal("approval.decided", "You have already decided about this one.") from e

    def _select(self, where: sa.ColumnElement[bool], limit: int = 1) -> list[ApprovalRequest]:
        query = sa.select(APPROVALS).where(where).order_by(APPROVALS.c.created_at.desc())
        with self._engine.connect() as connection:
            rows = [_plain(row) for row in connection.execute(query.limit(limit)).mappings()]
            ids = [row["id"] for row in rows]
            verdicts = connection.execute(
                sa.select(VERDICTS).where(VERDICTS.c.approval_id.in_(ids)).order_by(VERDICTS.c.at)
            ).mappings()
            by_id: dict[str, list[Verdict]] = {}
            for row in verdicts:
                by_id.setdefault(row["approval_id"], []).append(_read_verdict(_plain(row)))
        return [self._read(row, by_id.get(row["id"], [])) for row in rows]

    def _read(self, row: dict[str, Any], verdicts: list[Verdict]) -> ApprovalRequest:
        state = "pending" if row["expires_at"] > self._now_ns() else "expired"
        row |= {
            "created_at": format_time(row["created_at"]),
            "expires_at": format_time(row["expires_at"]),
            "state": state,
            "verdicts": tuple(verdicts),
        }
        return msgspec.convert(row, ApprovalRequest)


def _plain(row: sa.RowMapping) -> dict[str, Any]:
    """Return a row under plain names; the library's own are a subclass that strict types refuse."""
    return {str(name): value for name, value in row.items()}


def _read_verdict(row: dict[str, Any]) -> Verdict:
    return msgspec.convert(row | {"at": format_time(row["at"])}, Verdict)


class ApprovalWaits:
    """The gate's side: opens, joins and waits without blocking the loop."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        now_ns: Callable[[], int],
        new_id: Callable[[], str],
        console_url: str,
    ) -> None:
        self._store = ApprovalStore(engine, now_ns)
        self._now_ns = now_ns
        self._new_id = new_id
        self._console_url = console_url
        self._secret = shared_key(engine, "approval-keys")
        self._held_bytes = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")

    def key_of(
        self,
        principal: Principal,
        request: Request,
        obligation: ApprovalObligation,
        value: Mapping[str, Any],
    ) -> str:
        """Return an HMAC by which re-sends of the same call by the same subject are known.

        The context that was judged counts too: an approver must have seen what is let through.
        """
        context = [
            principal.issuer,
            principal.sub,
            request.route,
            request.workflow and request.workflow.value,
            [fact.value for fact in request.repositories],
            obligation.approvers,
            obligation.reasons,
        ]
        return digest_call(self._secret, context, value)

    @contextmanager
    def holding(self, body_bytes: int) -> Iterator[None]:
        """Count a held body while inside; raises `Failure` when too many bytes are held."""
        if self._held_bytes + body_bytes > MAX_HELD_BYTES:
            raise Failure("approval_capacity", "Too many calls wait for approval here; try later.")
        self._held_bytes += body_bytes
        try:
            yield
        finally:
            self._held_bytes -= body_bytes

    def url_of(self, approval_id: ApprovalId) -> str:
        """Return where an approver finds it."""
        return f"{self._console_url}/api/v1/approvals/{approval_id}"

    async def open_or_join(
        self,
        key: str,
        exchange_id: ExchangeId,
        principal: Principal,
        request: Request,
        obligation: ApprovalObligation,
    ) -> tuple[Approval, bool]:
        """Return the live approval request of `key`, and whether it was opened just now."""
        now_ns = self._now_ns()
        row = {
            "id": self._new_id(),
            "key": key,
            "exchange_id": exchange_id,
            "session_id": request.session.value[:128] if request.session else "",
            "issuer": principal.issuer,
            "sub": principal.sub,
            "person": principal.person,
            "model": request.model[:256],
            "repositories": [fact.value for fact in request.repositories],
            "approvers": list(obligation.approvers),
            "reasons": list(obligation.reasons),
            "scope": obligation.scope,
            "created_at": now_ns,
            "expires_at": now_ns + obligation.ttl_s * 10**9,
        }
        is_new = await self._call(self._store.open_or_join, row)
        return await self._read(ApprovalId(str(row["id"]))), is_new

    async def wait(
        self, approval_id: ApprovalId, seen: int, timeout_s: float, gone: "asyncio.Future[None]"
    ) -> Approval:
        """Return its state once there are more than `seen` verdicts, or at the end of the wait."""
        until = self._now_ns() + int(timeout_s * 10**9)
        approval = await self._read(approval_id)
        while len(approval.verdicts) <= seen and not gone.done():
            left_s = (until - self._now_ns()) / 10**9
            if left_s <= 0:
                break
            await asyncio.wait((gone,), timeout=min(POLL_S, left_s))
            approval = await self._read(approval_id)
        return approval

    async def _read(self, approval_id: ApprovalId) -> Approval:
        found = await self._call(self._store.find, approval_id)
        if found is None:
            return Approval(state="expired", id=approval_id)
        return Approval(
            state=found.state,
            id=found.id,
            scope=found.scope,
            expires_at=found.expires_at,
            verdicts=found.verdicts,
        )

    async def _call(self, function: Callable[..., _T], *args: Any) -> _T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, function, *args)
        except SQLAlchemyError as e:
            raise Failure("state_unavailable", "Approvals can't be looked up now.") from e
