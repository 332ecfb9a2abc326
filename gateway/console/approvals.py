"""Approval requests: see who waits for what, and decide. Who may is asked of policy."""

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from gateway.approvals import ApprovalRequest, ApprovalStore
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
from gateway.domain import Fact, Principal, Refusal, Strict, Verdict
from gateway.exchange import format_time
from lake.shown import Owner

MAX_COMMENT_CHARS = 1000
_LIST = (SCOPE, LIMIT)
_APPROVAL = text("approval_id", "Id of the approval request.", "path")


class VerdictRequest(Strict, frozen=True, kw_only=True):
    """What an approver posts."""

    verdict: str
    """`approve` or `deny`."""
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
        """Approve or deny; each person decides once."""
        principal = await self.access.identify(request)
        posted = decode(await request.read(), VerdictRequest)
        found = await self._find_approval(request)
        await self.access.ask(
            principal,
            "approvals.decide",
            found.id if found else "",
            Owner(found.issuer, found.sub) if found else None,
            found.approvers if found else (),
            kind="approval",
            owner_person=found.person if found else "",
        )
        if found is None:
            raise NotFound("There is no such approval request.")
        verdict = self._verdict(principal, posted, found)
        self.access.note(
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
        await self.access.journal.durable()
        await self.access.read(lambda: self.store.add_verdict(found.id, verdict))
        return answer_json(await self.access.read(lambda: self.store.find(found.id)))

    async def _find_approval(self, request: web.Request) -> ApprovalRequest | None:
        approval_id = request.match_info["approval_id"]
        return await self.access.read(lambda: self.store.find(approval_id))

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
            at=format_time(self.access.now_ns()),
        )
