"""The console's HTTP API. Who may do what is asked of OPA; reading a record is itself an event."""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import duckdb
import msgspec
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from gateway.approvals import ApprovalRequest, ApprovalStore
from gateway.decisions import describe_principal
from gateway.domain import (
    NOT_JSON,
    AccessInput,
    Fact,
    Failure,
    GatewayError,
    Principal,
    Refusal,
    Strict,
    Unauthenticated,
    Verdict,
)
from gateway.exchange import format_time
from gateway.identity.oidc import TokenIdentity
from gateway.journal import Journal
from gateway.messages.errors import error_body
from gateway.opa import Policy
from gateway.records import Event
from lake.read import LakeReader, Owner, SessionKey

MAX_COMMENT_CHARS = 1000
MAX_REQUEST_BYTES = 64 * 1024
DEFAULT_PAGE = 50

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class VerdictRequest(Strict, frozen=True, kw_only=True):
    """What an approver posts."""

    verdict: str
    comment: str


class _Cursor(Strict, frozen=True, kw_only=True):
    last_at: datetime
    session_id: str
    issuer: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """The API over its adapters."""

    identity: TokenIdentity
    policy: Policy
    journal: Journal
    approvals: ApprovalStore
    sessions: LakeReader
    now_ns: Callable[[], int]
    new_id: Callable[[str], str]

    def build_app(self) -> web.Application:
        """Return the console's web application."""
        app = web.Application(middlewares=[self._answer_errors], client_max_size=MAX_REQUEST_BYTES)
        app.router.add_get("/healthz", _health)
        app.router.add_get("/api/v1/sessions", self.list_sessions)
        app.router.add_get("/api/v1/sessions/{session_id}", self.show_session)
        app.router.add_get("/api/v1/exchanges/{exchange_id}", self.show_exchange)
        app.router.add_get("/api/v1/approvals", self.list_approvals)
        app.router.add_get("/api/v1/approvals/{approval_id}", self.show_approval)
        app.router.add_post("/api/v1/approvals/{approval_id}/verdicts", self.decide_approval)
        return app

    # --- sessions -------------------------------------------------------------------------------

    async def list_sessions(self, request: web.Request) -> web.Response:
        """List sessions, the newest first: one's own, or everyone's with `scope=all`."""
        principal = await self._identify(request)
        scope = _choice(request, "scope", ("own", "all"))
        await self._ask(principal, "sessions.list", kind="sessions", scope=scope)
        owner = Owner(principal.issuer, principal.sub) if scope == "own" else None
        limit = _limit(request)
        page = await self._read(
            lambda: self.sessions.sessions(owner, after=_read_cursor(request), limit=limit)
        )
        self._note(principal, "records.listed", detail={"scope": scope, "count": str(len(page))})
        following = _write_cursor(page[-1].key) if len(page) == limit else None
        return _json({"sessions": page, "next": following, "incomplete": self.sessions.incomplete})

    async def show_session(self, request: web.Request) -> web.Response:
        """Show the exchanges of one session; whose it is says `issuer` and `subject`."""
        principal = await self._identify(request)
        session_id = request.match_info["session_id"]
        owner = Owner(
            request.query.get("issuer", principal.issuer),
            request.query.get("subject", principal.sub),
        )
        await self._ask(principal, "sessions.read", session_id, owner, kind="session")
        found = await self._read(lambda: self.sessions.exchanges(owner, session_id))
        if not found:
            raise _NotFound("There is no such session.")
        self._note(principal, "records.read", session_id=session_id)
        return _json({"exchanges": found, "incomplete": self.sessions.incomplete})

    async def show_exchange(self, request: web.Request) -> web.Response:
        """Show one exchange with its bodies, as recorded."""
        principal = await self._identify(request)
        exchange_id = request.match_info["exchange_id"]
        found = await self._read(lambda: self.sessions.exchange(exchange_id))
        owner = Owner(found.issuer, found.subject) if found else Owner("", "")
        await self._ask(principal, "sessions.read", exchange_id, owner, kind="exchange")
        if found is None:
            raise _NotFound("There is no such exchange.")
        self._note(principal, "records.read", exchange_id=exchange_id)
        return _json(found)

    # --- approvals ------------------------------------------------------------------------------

    async def list_approvals(self, request: web.Request) -> web.Response:
        """List approval requests, the newest first: one's own, or everyone's with `scope=all`."""
        principal = await self._identify(request)
        scope = _choice(request, "scope", ("own", "all"))
        await self._ask(principal, "approvals.list", kind="approvals", scope=scope)
        person = principal.person if scope == "own" else None
        limit = _limit(request)
        return _json({"approvals": await self._read(lambda: self.approvals.newest(person, limit))})

    async def show_approval(self, request: web.Request) -> web.Response:
        """Show one approval request: to its requester, and to who may list all."""
        principal = await self._identify(request)
        found = await self._find_approval(request)
        is_own = found is not None and found.person == principal.person
        await self._ask(
            principal, "approvals.list", kind="approvals", scope="own" if is_own else "all"
        )
        if found is None:
            raise _NotFound("There is no such approval request.")
        return _json(found)

    async def decide_approval(self, request: web.Request) -> web.Response:
        """Approve or deny; each person decides once."""
        principal = await self._identify(request)
        posted = _decode(await request.read(), VerdictRequest)
        found = await self._find_approval(request)
        await self._ask(
            principal,
            "approvals.decide",
            found.id if found else "",
            Owner(found.issuer, found.sub) if found else None,
            found.approvers if found else (),
            kind="approval",
            owner_person=found.person if found else "",
        )
        if found is None:
            raise _NotFound("There is no such approval request.")
        verdict = self._verdict(principal, posted, found)
        self._note(
            principal,
            "approval.verdict",
            exchange_id=found.exchange_id,
            session_id=found.session_id,
            detail={
                "approval_id": found.id,
                "verdict": verdict.verdict,
                "comment": verdict.comment,
            },
        )
        await self.journal.durable()
        await self._read(lambda: self.approvals.add_verdict(found.id, verdict))
        return _json(await self._read(lambda: self.approvals.find(found.id)))

    async def _find_approval(self, request: web.Request) -> ApprovalRequest | None:
        approval_id = request.match_info["approval_id"]
        return await self._read(lambda: self.approvals.find(approval_id))

    def _verdict(
        self, principal: Principal, posted: VerdictRequest, found: ApprovalRequest
    ) -> Verdict:
        if found.state != "pending":
            raise Refusal("approval.expired", "This approval request has expired.", status=409)
        if principal.person in {verdict.person for verdict in found.verdicts}:
            raise Refusal("approval.decided", "You have already decided about this one.")
        if not posted.comment.strip() or len(posted.comment) > MAX_COMMENT_CHARS:
            raise Refusal("approval.comment", "Say why: a comment of up to 1000 characters.")
        if posted.verdict not in {"approve", "deny"}:
            raise Refusal("approval.verdict", "The verdict is `approve` or `deny`.")
        return Verdict(
            verdict="approve" if posted.verdict == "approve" else "deny",
            issuer=principal.issuer,
            sub=principal.sub,
            person=principal.person,
            groups=principal.groups,
            comment=posted.comment.strip(),
            at=format_time(self.now_ns()),
        )

    # --- shared ---------------------------------------------------------------------------------

    async def _identify(self, request: web.Request) -> Principal:
        return await self.identity.identify(
            [(name.lower(), value) for name, value in request.headers.items()]
        )

    async def _ask(
        self,
        principal: Principal,
        action: str,
        resource_id: str = "",
        owner: Owner | None = None,
        approvers: Sequence[str] = (),
        **facts: str,
    ) -> None:
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
            )
        )
        if not answer.allow:
            reason = answer.deny[0]
            self._note(principal, "access.denied", reason=reason.code, detail={"action": action})
            raise Refusal(reason.code, reason.message, status=403)
        _log.info("access_allowed action=%s revision=%s", action, revision)

    def _note(
        self,
        principal: Principal,
        kind: str,
        *,
        reason: str = "",
        exchange_id: str = "",
        session_id: str = "",
        detail: dict[str, str] | None = None,
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

    async def _read(self, function: Callable[[], _T]) -> _T:
        """Run a blocking read off the loop."""
        try:
            return await asyncio.to_thread(function)
        except (duckdb.Error, SQLAlchemyError) as e:
            _log.exception("read_failed")
            raise Failure("records_unavailable", "The records can't be read now.") from e

    @web.middleware
    async def _answer_errors(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except _NotFound as e:
            status, message = 404, str(e)
        except Unauthenticated as e:
            status, message = 401, e.message
        except (Refusal, Failure) as e:
            status, message = e.status, f"{e.message} [{e.code}]"
        except web.HTTPException as e:
            status, message = e.status, e.reason
        request_id = self.new_id("req")
        return web.Response(
            body=error_body(status, message, request_id),
            status=status,
            content_type="application/json",
        )


class _NotFound(GatewayError):
    def __init__(self, message: str) -> None:
        super().__init__("not_found", message)


class _Health(Fact, frozen=True, kw_only=True):
    status: str = "ok"


async def _health(_request: web.Request) -> web.Response:
    return _json(_Health())


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except NOT_JSON as e:
        raise Refusal("request.invalid", f"The request can't be read: {e}.") from e


def _choice(request: web.Request, name: str, choices: tuple[str, ...]) -> str:
    value = request.query.get(name, choices[0])
    if value not in choices:
        raise Refusal("request.invalid", f"{name} is one of {', '.join(choices)}.")
    return value


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(DEFAULT_PAGE))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= 500:
        raise Refusal("request.invalid", "limit is a number from 1 to 500.")
    return int(text)


def _read_cursor(request: web.Request) -> SessionKey | None:
    text = request.query.get("after")
    if not text:
        return None
    try:
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(text), type=_Cursor)
    except (ValueError, msgspec.MsgspecError) as e:
        raise Refusal("request.invalid", "after is the `next` of an earlier page.") from e
    return SessionKey(cursor.last_at, cursor.session_id, cursor.issuer, cursor.subject)


def _write_cursor(key: SessionKey) -> str:
    cursor = _Cursor(**key._asdict())
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode()
