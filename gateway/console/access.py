"""What every act on the control plane takes: who asks, what policy says, an event, a read."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import duckdb
import msgspec
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from gateway.clock import format_time
from gateway.contract import AccessAnswer, AccessInput
from gateway.decisions import describe_principal
from gateway.domain import Approval, Failure, Principal, Refusal
from gateway.identity.oidc import TokenIdentity
from gateway.journal import Journal
from gateway.opa import Policy
from gateway.records import Event
from lake.bodies import BrokenBody
from lake.shown import Owner

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Identifies, asks policy, notes what was done; knows no route."""

    identity: TokenIdentity
    policy: Policy
    journal: Journal
    now_ns: Callable[[], int]
    new_id: Callable[[str], str]

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.fromtimestamp(self.now_ns() / 1e9, UTC)

    async def identify(self, request: web.Request) -> Principal:
        """Return who asks."""
        return await self.identity.identify(
            [(name.lower(), value) for name, value in request.headers.items()]
        )

    async def ask(
        self,
        principal: Principal,
        action: str,
        resource_id: str = "",
        owner: Owner | None = None,
        approvers: Sequence[str] = (),
        approval: Approval | None = None,
        **facts: str,
    ) -> AccessAnswer:
        """Ask policy whether `principal` may do `action`; raises `Refusal` if not."""
        resource = {"id": resource_id, **facts}
        if owner is not None:
            resource |= {"owner_issuer": owner.issuer, "owner_sub": owner.subject}
        answer, revision = await self.policy.decide_access(
            AccessInput(
                now=format_time(self.now_ns()),
                principal=describe_principal(principal, self.now_ns() // 10**9),
                action=action,
                resource=resource,
                approvers=tuple(approvers),
                approval=approval,
            )
        )
        if not answer.allow:
            reason = answer.deny[0]
            self.note(principal, "access.denied", reason=reason.code, detail={"action": action})
            raise Refusal(reason.code, reason.message, status=403)
        _log.info("access_allowed action=%s revision=%s", action, revision)
        return answer

    def note(
        self,
        principal: Principal,
        kind: str,
        *,
        reason: str = "",
        exchange_id: str = "",
        session_id: str = "",
        detail: Mapping[str, str] | None = None,
    ) -> None:
        """Write an audit event; without it nothing is shown or done."""
        self.journal.append(
            Event(
                event_id=self.new_id("evt"),
                at_ns=self.now_ns(),
                kind=kind,
                issuer=principal.issuer,
                sub=principal.sub,
                person=principal.person,
                exchange_id=exchange_id,
                session_id=session_id,
                reason=reason,
                detail_json=msgspec.json.encode(detail or {}).decode(),
            )
        )

    def note_expiry(self, approval_id: str) -> None:
        """Write the event of an approval request that time has ended; nobody did it."""
        self.journal.append(
            Event(
                event_id=self.new_id("evt"),
                at_ns=self.now_ns(),
                kind="approval.expired",
                detail_json=msgspec.json.encode({"approval_id": approval_id}).decode(),
            )
        )

    async def read(self, function: Callable[[], _T]) -> _T:
        """Run a blocking read off the loop."""
        try:
            return await asyncio.to_thread(function)
        except (duckdb.Error, SQLAlchemyError, BrokenBody) as e:
            _log.exception("read_failed")
            raise Failure("records_unavailable", "The records can't be read now.") from e
