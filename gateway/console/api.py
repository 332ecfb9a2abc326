"""The console's HTTP API: its routes over their adapters, and the document that describes them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from aiohttp import web

from gateway.approval_store import ApprovalStore
from gateway.console.access import Access
from gateway.console.access_requests import AccessRequests
from gateway.console.approvals import Approvals
from gateway.console.callers import Callers
from gateway.console.exporting import Exporting
from gateway.console.http import answer_json, answering_errors
from gateway.console.offers import Offer
from gateway.console.openapi import Description, describe
from gateway.console.routes import Route
from gateway.console.sessions import Sessions
from gateway.domain import Fact
from gateway.identity.oidc import TokenIdentity
from gateway.journal import Journal
from gateway.opa import Policy
from lake.read import LakeReader

MAX_REQUEST_BYTES = 64 * 1024


class Health(Fact, frozen=True, kw_only=True):
    """Whether the console answers."""

    status: str = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """The API over its adapters."""

    identity: TokenIdentity
    policy: Policy
    journal: Journal
    approvals: ApprovalStore
    sessions: LakeReader
    offer: Offer
    endpoints: tuple[str, ...]
    version: str
    now_ns: Callable[[], int]
    new_id: Callable[[str], str]

    def build_app(self) -> web.Application:
        """Return the console's web application."""
        app = web.Application(
            middlewares=[answering_errors(self.new_id)], client_max_size=MAX_REQUEST_BYTES
        )
        for route in self.routes():
            app.router.add_route(route.method, route.path, route.handler)
        app.cleanup_ctx.append(self._expiring)
        return app

    async def _expiring(self, _app: web.Application) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            expiring = tasks.create_task(self._approvals().keep_expiring())
            yield
            expiring.cancel()

    def _access(self) -> Access:
        return Access(
            identity=self.identity,
            policy=self.policy,
            journal=self.journal,
            now_ns=self.now_ns,
            new_id=self.new_id,
        )

    def _approvals(self) -> Approvals:
        return Approvals(access=self._access(), store=self.approvals)

    def routes(self) -> tuple[Route, ...]:
        """Return every route of the console."""
        access = self._access()
        return (
            *Sessions(access=access, reader=self.sessions).routes(),
            *Exporting(access=access, reader=self.sessions).routes(),
            *self._approvals().routes(),
            *AccessRequests(access=access, store=self.approvals).routes(),
            *Callers(
                access=access, offer=self.offer, endpoints=self.endpoints, version=self.version
            ).routes(),
            Route(
                method="GET",
                path="/api/v1/openapi.json",
                handler=self._show_document,
                summary="Show this document.",
                answer=Description,
                is_open=True,
            ),
            Route(
                method="GET",
                path="/healthz",
                handler=_show_health,
                summary="Say whether the console answers.",
                answer=Health,
                is_open=True,
            ),
        )

    async def _show_document(self, _request: web.Request) -> web.Response:
        return answer_json(describe(self.routes()))


async def _show_health(_request: web.Request) -> web.Response:
    return answer_json(Health())
