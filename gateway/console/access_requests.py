"""Access asked for before it is needed, and emergency access, which is reviewed afterwards."""

from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from gateway.approval_store import ApprovalRequest, ApprovalStore
from gateway.console.access import Access
from gateway.console.approvals import checked
from gateway.console.http import answer_json, decode
from gateway.console.routes import Route
from gateway.contract import AccessAnswer
from gateway.domain import Principal, Strict


class AccessRequest(Strict, frozen=True, kw_only=True):
    """What somebody posts who wants access."""

    repository: str
    for_s: int
    """How long the access is to hold, in seconds from the approval on."""
    reason: str
    """Why; approvers and reviewers read it."""
    emergency: bool = False
    """Whether to have it at once; it is an event, and is reviewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequests:
    """The route over access requests; they are approvals from then on."""

    access: Access
    store: ApprovalStore

    def routes(self) -> tuple[Route, ...]:
        """Return what is served here."""
        return (
            Route(
                method="POST",
                path="/api/v1/access",
                handler=self.request_access,
                summary="Ask for access to a repository beforehand, or take it in an emergency.",
                answer=ApprovalRequest,
                posted=AccessRequest,
            ),
        )

    async def request_access(self, request: web.Request) -> web.Response:
        """Open an approval request that no call waits for; policy says what is demanded."""
        principal = await self.access.identify(request)
        posted = decode(await request.read(), AccessRequest)
        reason = checked(posted.reason)
        answer = await self.access.ask(
            principal,
            "access.emergency" if posted.emergency else "access.request",
            kind="access",
            repository=posted.repository,
            for_s=str(posted.for_s),
        )
        row = self._row(principal, posted, reason, answer)
        self.access.note(
            principal,
            "access.emergency" if posted.emergency else "access.requested",
            detail={
                "approval_id": row["id"],
                "repository": posted.repository,
                "for_s": str(posted.for_s),
                "reason": reason,
            },
        )
        await self.access.journal.durable()
        await self.access.read(lambda: self.store.open(row))
        return answer_json(await self.access.read(lambda: self.store.find(row["id"])))

    def _row(
        self, principal: Principal, posted: AccessRequest, reason: str, answer: AccessAnswer
    ) -> dict[str, Any]:
        now_ns = self.access.now_ns()
        approval_id = self.access.new_id("appr")
        approvers = {group for demand in answer.demands for group in demand.approvers}
        return {
            "id": approval_id,
            "key": approval_id,
            "kind": "emergency" if posted.emergency else "access",
            "exchange_id": "",
            "session_id": "",
            "issuer": principal.issuer,
            "sub": principal.sub,
            "person": principal.person,
            "model": "",
            "repositories": [demand.about for demand in answer.demands],
            "workflow": principal.claims.get("workflow", "")[:256],
            "reason": reason,
            "approvers": sorted(approvers),
            "demands": msgspec.to_builtins(answer.demands),
            "reasons": sorted({demand.code for demand in answer.demands}),
            "scope": "principal",
            "ttl_s": posted.for_s,
            "state": "approved" if posted.emergency else "pending",
            "created_at": now_ns,
            "expires_at": now_ns + posted.for_s * 10**9,
        }
