"""Who asks, what policy would let them do, and where people log in."""

from collections.abc import Iterator
from dataclasses import dataclass

from aiohttp import web

from gateway.clock import format_time
from gateway.console.access import Access
from gateway.console.http import answer_json, read_query
from gateway.console.offers import Offer
from gateway.console.routes import Route, names, text
from gateway.contract import Decision, DecisionInput, Gateway, Net
from gateway.decisions import REPOSITORY_HEADER, STALE, SUPPORTS, build_request, describe_principal
from gateway.domain import (
    Approval,
    ExchangeId,
    Fact,
    Failure,
    Outcome,
    Principal,
    Reason,
    Refusal,
    Request,
)
from gateway.domain import Route as ApiRoute
from gateway.messages.facts import Facts

MOST_MODELS = 20
"""How many models one question may ask about; each is a decision."""
STALE_TRIES = 3

_PARAMETERS = (
    text("models", "Names of models, separated by commas; else those that policy lets you use."),
    text("repository", "A repository that the calls would name."),
)


class Call(Fact, frozen=True, kw_only=True):
    """A call that the caller could make now, and what policy says to it."""

    route: str
    model: str
    outcome: Outcome
    reasons: tuple[Reason, ...]
    approvers: tuple[str, ...]
    """For a hold: the groups that may agree."""


class WhoAmI(Fact, frozen=True, kw_only=True):
    """The caller, and what a plain call of theirs would get."""

    issuer: str
    sub: str
    person: str
    kind: str
    groups: tuple[str, ...]
    claims: dict[str, str]
    token_issued_at: str
    token_expires_at: str
    revision: str
    """Of the policies that decided."""
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Callers:
    """The routes about the caller."""

    access: Access
    offer: Offer
    endpoints: tuple[str, ...]
    version: str

    def routes(self) -> tuple[Route, ...]:
        """Return what is served here."""
        return (
            Route(
                method="GET",
                path="/api/v1/whoami",
                handler=self.show_caller,
                summary="Show who you are and what policy would say to a plain call of yours.",
                answer=WhoAmI,
                parameters=_PARAMETERS,
            ),
            Route(
                method="GET",
                path="/.well-known/countersign",
                handler=self.show_offer,
                summary="Say where the gateway is and where people log in.",
                answer=Offer,
                is_open=True,
            ),
        )

    async def show_offer(self, _request: web.Request) -> web.Response:
        """Show what is no secret."""
        return answer_json(self.offer)

    async def show_caller(self, request: web.Request) -> web.Response:
        """Show the caller and a decision about each model."""
        principal = await self.access.identify(request)
        query = read_query(request, names(_PARAMETERS))
        await self.access.ask(principal, "whoami", kind="principal")
        repository = query.get("repository", "")
        listed = await self._decide(principal, ApiRoute.MODELS, "", repository)
        models = tuple(_split(query["models"])) if "models" in query else listed.answer.models
        if len(models) > MOST_MODELS and "models" in query:
            raise Refusal("request.invalid", f"models names at most {MOST_MODELS}.")
        calls = [_call(ApiRoute.MODELS, "", listed)]
        for model in models[:MOST_MODELS]:
            decision = await self._decide(principal, ApiRoute.MESSAGES, model, repository)
            calls.append(_call(ApiRoute.MESSAGES, model, decision))
        return answer_json(
            WhoAmI(
                issuer=principal.issuer,
                sub=principal.sub,
                person=principal.person,
                kind=principal.kind,
                groups=principal.groups,
                claims=principal.claims,
                token_issued_at=format_time(principal.token_issued_at * 10**9),
                token_expires_at=format_time(principal.token_expires_at * 10**9),
                revision=listed.revision,
                calls=tuple(calls),
            )
        )

    async def _decide(
        self, principal: Principal, route: ApiRoute, model: str, repository: str
    ) -> Decision:
        """Ask about a call that is not made; the rules are those of a real one."""
        headers = {REPOSITORY_HEADER: repository} if repository else {}
        method = "GET" if route is ApiRoute.MODELS else "POST"
        base = Request(id=ExchangeId("whoami"), route=route, method=method)
        asked = build_request(base, Facts(model=model), headers, principal, 0)
        tables = self.access.policy.tables
        for _ in range(STALE_TRIES):
            decision = await self.access.policy.decide(
                DecisionInput(
                    now=format_time(self.access.now_ns()),
                    principal=describe_principal(principal, self.access.now_ns() // 10**9),
                    request=asked,
                    signals={},
                    signals_revision=tables.revision,
                    endpoints=self.endpoints,
                    net=Net(peer=""),
                    approval=Approval(),
                    gateway=Gateway(version=self.version, supports=SUPPORTS),
                )
            )
            if [reason.code for reason in decision.answer.deny] != [STALE]:
                return decision
            tables = await self.access.policy.load_tables()
        raise Failure("policy_unavailable", "Policies are changing too fast to decide; try again.")


def _split(models: str) -> Iterator[str]:
    return (name.strip() for name in models.split(",") if name.strip())


def _call(route: ApiRoute, model: str, decision: Decision) -> Call:
    return Call(
        route=route,
        model=model,
        outcome=decision.outcome,
        reasons=decision.answer.deny,
        approvers=decision.answer.approval.approvers if decision.outcome is Outcome.HOLD else (),
    )
