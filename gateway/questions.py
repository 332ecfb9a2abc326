"""Steps 2 and 3 of the flow: what a call is about, the one question, and the request as masked."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gateway.clock import format_time
from gateway.contract import Decision, DecisionInput, Gateway, Net
from gateway.conversations import Conversations
from gateway.decisions import STALE, SUPPORTS, build_request, describe_principal
from gateway.domain import Approval, Failure, Outcome, Request, Route
from gateway.exchange import Exchange
from gateway.incoming import Incoming, read_incoming
from gateway.messages.facts import Facts, find_model, find_route
from gateway.ports import Approvals, Caller, Policy
from gateway.records import Opening
from gateway.refusals import policy_changed
from gateway.request_masks import RequestMasks
from gateway.scans import Scans
from gateway.tables import Tables

STALE_TRIES = 3
"""How often the question is asked again when a new bundle became active in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Reads calls and asks policy about them; stateless but for what it remembers of prompts."""

    policy: Policy
    approvals: Approvals
    endpoints: tuple[str, ...]
    conversations: Conversations
    scans: Scans
    masks: RequestMasks
    now_ns: Callable[[], int]
    version: str

    async def read(self, caller: Caller, exchange: Exchange) -> Incoming:
        """Read the body, and from it the facts of the request."""
        arrival = caller.arrival
        route = find_route(arrival.method, arrival.path)
        base = Request(id=exchange.id, route=route, method=arrival.method)
        exchange.request = base
        incoming = Incoming(facts=Facts(model=find_model(arrival.path)))
        if route in {Route.MESSAGES, Route.COUNT_TOKENS}:
            body = await caller.read_body()
            exchange.request = msgspec.structs.replace(base, body_bytes=len(body))
            incoming = self.read_body(exchange, body)
        self._describe(exchange, incoming)
        return incoming

    def _describe(self, exchange: Exchange, incoming: Incoming) -> None:
        """Take the facts of the request from the bytes that are to be forwarded."""
        exchange.request = build_request(
            exchange.request,
            incoming.facts,
            exchange.arrival.by_name,
            exchange.principal,
            len(incoming.body),
        )

    def read_body(self, exchange: Exchange, body: bytes) -> Incoming:
        """Read a body; raises `Refusal` where it can't be."""
        return read_incoming(
            body,
            exchange.arrival.by_name,
            exchange.principal,
            self.conversations,
            self.scans,
            self.masks.seals,
        )

    async def decide(
        self, exchange: Exchange, incoming: Incoming, approval: Approval | None = None
    ) -> Decision:
        """Ask, and ask again with fresh tables as long as only the tables were stale."""
        tables = self.policy.tables
        for _ in range(STALE_TRIES):
            decision = await self.policy.decide(
                DecisionInput(
                    now=format_time(self.now_ns()),
                    principal=describe_principal(exchange.principal, self.now_ns() // 10**9),
                    request=exchange.request,
                    signals=self.scans.find_signals(tables, incoming.prompt),
                    signals_revision=tables.revision,
                    endpoints=self.endpoints,
                    net=Net(peer=exchange.arrival.peer),
                    approval=approval or Approval(),
                    grants=self.approvals.grants_of(exchange.principal),
                    gateway=Gateway(version=self.version, supports=SUPPORTS),
                )
            )
            if [reason.code for reason in decision.answer.deny] != [STALE]:
                exchange.note_decision(decision)
                return decision
            tables = await self.policy.load_tables()
        raise Failure("policy_unavailable", "Policies are changing too fast to decide; try again.")

    def tables_of(self, decision: Decision) -> Tables:
        """Return the tables of the revision that decided."""
        return self.policy.tables_of(decision.revision)

    async def mask(
        self, exchange: Exchange, incoming: Incoming, decision: Decision
    ) -> tuple[Decision, bytes]:
        """Return what is forwarded, and the decision about those very bytes."""
        names = decision.answer.masking.request
        if not names or decision.outcome is Outcome.DENY:
            return decision, incoming.body
        tables = self.tables_of(decision)
        outgoing = self.masks.to_forward(incoming, tables, names, exchange.tally)
        if outgoing is incoming:
            return decision, incoming.body
        self._describe(exchange, outgoing)
        again = await self.decide(exchange, incoming)
        if again.revision != decision.revision or again.answer.masking != decision.answer.masking:
            raise policy_changed(decision)
        return again, outgoing.body

    def relate(self, exchange: Exchange, incoming: Incoming) -> Opening:
        """Return the opening record; of the request it holds what no earlier one has."""
        if not exchange.keeps_content:
            return exchange.open()
        pieces = incoming.pieces
        if exchange.masks:
            tables = self.tables_of(exchange.decided)
            pieces = self.masks.to_record(incoming, tables, exchange.masks, exchange.tally)
        base, parts = self.conversations.relate(exchange.kinship, pieces, incoming.digests)
        return exchange.open(parts, base)
