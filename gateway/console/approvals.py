"""Approval requests: see who waits for what, and decide. Who may is asked of policy."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from gateway.approval_states import Act, follow
from gateway.approval_store import ApprovalRequest, ApprovalStore
from gateway.clock import format_time
from gateway.console.access import Access
from gateway.console.http import (
    NotFound,
    answer_json,
    decode,
    read_choice,
    read_limit,
    read_query,
)
from gateway.console.queries import LIMIT, SCOPE
from gateway.console.routes import Route, names, text
from gateway.contract import AccessAnswer
from gateway.domain import Fact, Failure, Principal, Refusal, Strict, Verdict
from lake.shown import Owner

MAX_COMMENT_CHARS = 1000
EXPIRE_S = 10.0
"""How often ended requests are written down; an expiry holds before that."""
_LIST = (SCOPE, LIMIT)
_APPROVAL = text("approval_id", "Id of the approval request.", "path")


class VerdictRequest(Strict, frozen=True, kw_only=True):
    """What an approver posts."""

    verdict: str
    """`approve` or `deny`."""
    comment: str
    """Why; it is recorded."""


class EndRequest(Strict, frozen=True, kw_only=True):
    """What is posted to withdraw or to revoke."""

    comment: str
    """Why; it is recorded."""


class ApprovalPage(Fact, frozen=True, kw_only=True):
    """The newest approval requests."""

    approvals: Sequence[ApprovalRequest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvals:
    """The routes over approval requests."""

    access: Access
    store: ApprovalStore

    def routes(self) -> tuple[Route, ...]:
        """Return what is served here."""
        return (
            Route(
                method="GET",
                path="/api/v1/approvals",
                handler=self.list_approvals,
                summary="List approval requests, the newest first.",
                answer=ApprovalPage,
                parameters=_LIST,
            ),
            Route(
                method="GET",
                path="/api/v1/approvals/{approval_id}",
                handler=self.show_approval,
                summary="Show an approval request, to its requester and to who may list all.",
                answer=ApprovalRequest,
                parameters=(_APPROVAL,),
            ),
            Route(
                method="POST",
                path="/api/v1/approvals/{approval_id}/verdicts",
                handler=self.decide_approval,
                summary="Approve or deny; each person decides once.",
                answer=ApprovalRequest,
                parameters=(_APPROVAL,),
                posted=VerdictRequest,
            ),
            Route(
                method="POST",
                path="/api/v1/approvals/{approval_id}/withdraw",
                handler=self.withdraw_approval,
                summary="Withdraw one's own request while nobody has decided.",
                answer=ApprovalRequest,
                parameters=(_APPROVAL,),
                posted=EndRequest,
            ),
            Route(
                method="POST",
                path="/api/v1/approvals/{approval_id}/revoke",
                handler=self.revoke_approval,
                summary="End an approval before its time: one's own, or as one who decides.",
                answer=ApprovalRequest,
                parameters=(_APPROVAL,),
                posted=EndRequest,
            ),
        )

    async def list_approvals(self, request: web.Request) -> web.Response:
        """List approval requests, the newest first: one's own, or everyone's with `scope=all`."""
        principal = await self.access.identify(request)
        query = read_query(request, names(_LIST))
        scope = read_choice(query, "scope", SCOPE.schema["enum"])
        await self.access.ask(principal, "approvals.list", kind="approvals", scope=scope)
        person = principal.person if scope == "own" else None
        limit = read_limit(query)
        newest = await self.access.read(lambda: self.store.newest(person, limit))
        return answer_json(ApprovalPage(approvals=newest))

    async def show_approval(self, request: web.Request) -> web.Response:
        """Show one approval request: to its requester, and to who may list all."""
        principal = await self.access.identify(request)
        found = await self._find_approval(request)
        is_own = found is not None and found.person == principal.person
        await self.access.ask(
            principal, "approvals.list", kind="approvals", scope="own" if is_own else "all"
        )
        if found is None:
            raise NotFound("There is no such approval request.")
        return answer_json(found)

    async def decide_approval(self, request: web.Request) -> web.Response:
        """Approve or deny; each person decides once. Policy says what the verdicts come to."""
        principal = await self.access.identify(request)
        posted = decode(await request.read(), VerdictRequest)
        found = await self._ask(principal, "approvals.decide", request)
        verdict = self._verdict(principal, posted, found)
        said = {"verdict": verdict.verdict, "comment": verdict.comment}
        kind = "access.reviewed" if found.kind == "emergency" else "approval.verdict"
        await self._note(principal, kind, found, **said)
        await self.access.read(lambda: self.store.add_verdict(found.id, verdict))
        now = await self.access.read(lambda: self.store.find(found.id)) or found
        if now.kind == "emergency":
            await self._review(principal, verdict, now)
            return answer_json(await self.access.read(lambda: self.store.find(found.id)))
        outcome = (await self._judge(principal, "approvals.decide", now)).verdict
        if outcome in {"approve", "deny"}:
            with suppress(Refusal):  # another approver's verdict has just settled it
                await self._move(principal, "approve" if outcome == "approve" else "deny", now)
        return answer_json(await self.access.read(lambda: self.store.find(found.id)))

    async def _review(self, principal: Principal, verdict: Verdict, found: ApprovalRequest) -> None:
        """End emergency access that a reviewer denies while it holds."""
        if verdict.verdict == "deny" and found.state == "approved":
            await self._move(principal, "revoke", found, comment=verdict.comment)

    async def withdraw_approval(self, request: web.Request) -> web.Response:
        """Withdraw one's own request while nobody has decided."""
        return await self._end("withdraw", request)

    async def revoke_approval(self, request: web.Request) -> web.Response:
        """End an approval before its time; what runs under it goes on, the next call asks anew."""
        return await self._end("revoke", request)

    async def keep_expiring(self) -> None:
        """Write down what time has ended, each with its event, for as long as the console runs."""
        while True:
            with suppress(Failure):  # the next time
                for approval_id in await self.access.read(self.store.expire):
                    self.access.note_expiry(approval_id)
            await asyncio.sleep(EXPIRE_S)

    async def _end(self, act: Act, request: web.Request) -> web.Response:
        principal = await self.access.identify(request)
        comment = checked(decode(await request.read(), EndRequest).comment)
        found = await self._ask(principal, f"approvals.{act}", request)
        follow(found.state, act)
        await self._move(principal, act, found, comment=comment)
        return answer_json(await self.access.read(lambda: self.store.find(found.id)))

    async def _move(
        self, principal: Principal, act: Act, found: ApprovalRequest, **said: str
    ) -> None:
        state = follow(found.state, act)
        await self._note(principal, f"approval.{state}", found, **said)
        await self.access.read(lambda: self.store.move(found.id, act))

    async def _note(
        self, principal: Principal, kind: str, found: ApprovalRequest, **said: str
    ) -> None:
        """Write the event, durable before what it tells is done."""
        self.access.note(
            principal,
            kind,
            exchange_id=found.exchange_id,
            session_id=found.session_id,
            detail={"approval_id": found.id, **said},
        )
        await self.access.journal.durable()

    async def _ask(
        self, principal: Principal, action: str, request: web.Request
    ) -> ApprovalRequest:
        """Return the approval that is acted on, if policy lets `principal` act."""
        found = await self._find_approval(request)
        await self._judge(principal, action, found)
        if found is None:
            raise NotFound("There is no such approval request.")
        return found

    async def _judge(
        self, principal: Principal, action: str, found: ApprovalRequest | None
    ) -> AccessAnswer:
        return await self.access.ask(
            principal,
            action,
            found.id if found else "",
            Owner(found.issuer, found.sub) if found else None,
            found.approvers if found else (),
            found.as_fact() if found else None,
            kind="approval",
            owner_person=found.person if found else "",
        )

    async def _find_approval(self, request: web.Request) -> ApprovalRequest | None:
        approval_id = request.match_info["approval_id"]
        return await self.access.read(lambda: self.store.find(approval_id))

    def _verdict(
        self, principal: Principal, posted: VerdictRequest, found: ApprovalRequest
    ) -> Verdict:
        if principal.person in {verdict.person for verdict in found.verdicts}:
            raise Refusal("approval.decided", "You have already decided about this one.")
        if posted.verdict not in {"approve", "deny"}:
            raise Refusal("approval.verdict", "The verdict is `approve` or `deny`.")
        if found.kind != "emergency":
            follow(found.state, "approve" if posted.verdict == "approve" else "deny")
        return Verdict(
            verdict="approve" if posted.verdict == "approve" else "deny",
            issuer=principal.issuer,
            sub=principal.sub,
            person=principal.person,
            groups=principal.groups,
            comment=checked(posted.comment),
            at=format_time(self.access.now_ns()),
        )


def checked(comment: str) -> str:
    """Return a comment that says something; raises `Refusal`."""
    if not comment.strip() or len(comment) > MAX_COMMENT_CHARS:
        raise Refusal("approval.comment", "Say why: a comment of up to 1000 characters.")
    return comment.strip()
