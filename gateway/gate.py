"""The flow: nine steps from arrival to the closing record. Their order is the security property.

Knows no HTTP library, no OPA, no files; what it needs is declared in `gateway.ports`.

1. identify the caller, before the body is read
2. decide: one question, four decisions
3. mask the request; nothing unmasked is written anywhere
4. record the opening, durable before anything leaves
5. hold until approved, if policy says so
6. refuse whatever is not an explicit allow, is over a limit, or re-sends what was cut
7. forward to the endpoint that the decision names
8. mask the answer; journal what is delivered before it is delivered
9. close: one closing record, durable before the last byte is released
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from gateway.contract import Decision, DecisionInput, Gateway, Net
from gateway.conversations import Conversations
from gateway.decisions import STALE, SUPPORTS, build_request, describe_principal
from gateway.delivery import Delivery
from gateway.domain import (
    Approval,
    Ending,
    ExchangeId,
    Failure,
    GatewayError,
    Outcome,
    Refusal,
    Request,
    Route,
    Unauthenticated,
)
from gateway.error_answers import answer_error, status_of
from gateway.exchange import Exchange, format_time
from gateway.incoming import Held, Incoming, hold, read_incoming
from gateway.masking.echo import Echo
from gateway.masking.rules import Rule
from gateway.messages.facts import Facts, find_model, find_route
from gateway.model_lists import UsableModels, ask_for_all
from gateway.ports import (
    Answer,
    Approvals,
    Caller,
    CallerGone,
    Charge,
    Cuts,
    Identity,
    Journal,
    Limits,
    Policy,
    Upstream,
)
from gateway.records import Opening, Record, Usage
from gateway.refusals import (
    ended,
    is_verdict,
    policy_changed,
    refusal_of,
    still_waiting,
    unchanged,
)
from gateway.request_masks import RequestMasks, rules_of
from gateway.scans import Scans
from gateway.strangers import Strangers
from gateway.tables import Tables
from gateway.unrecorded import UNAVAILABLE, Unrecorded

STALE_TRIES = 3
"""How often the question is asked again when a new bundle became active in between."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Carries exchanges. One per process; stateless between calls but for its adapters."""

    identity: Identity
    policy: Policy
    journal: Journal
    approvals: Approvals
    upstream: Upstream
    limits: Limits
    cuts: Cuts
    strangers: Strangers
    unrecorded: Unrecorded
    now_ns: Callable[[], int]
    new_id: Callable[[], ExchangeId]
    version: str
    conversations: Conversations
    scans: Scans
    masks: RequestMasks

    async def run(self, caller: Caller) -> None:
        """Carry one call to its end; every end is recorded."""
        exchange_id = self.new_id()
        try:
            principal = await self.identity.identify(caller.arrival.headers)  # 1
        except (Unauthenticated, Failure) as e:
            self.strangers.note(e.code, caller.arrival.peer)
            await answer_error(caller, exchange_id, e)
            return
        exchange = Exchange(exchange_id, caller.arrival, principal, self.now_ns)
        try:
            await self._carry(caller, exchange)
        except GatewayError as e:
            await self._end_with_error(caller, exchange, e)
        except CallerGone:
            self._leave(exchange)
        except asyncio.CancelledError:
            self._leave(exchange)
            raise
        finally:
            with suppress(Failure):  # whatever else went wrong, its end is recorded if it can be
                unexpected = Failure("gateway.error", "The gateway failed.", status=500)
                self._close(exchange, Ending.FAILED, unexpected)
            if not exchange.is_open:
                self.unrecorded.note(is_open=False)
            _log.info("exchange_ended %s", exchange.summary())

    async def _carry(self, caller: Caller, exchange: Exchange) -> None:
        incoming = await self._read(caller, exchange)
        first = await self._decide(exchange, incoming)  # 2
        first, body = await self._mask(exchange, incoming, first)  # 3
        opening = self._relate(exchange, incoming)
        await self._open(exchange, opening, incoming)  # 4
        decision = first
        exchange.approval_id = next(iter(first.answer.approval.granted_by), None)
        if first.outcome is Outcome.HOLD:
            approval = await self._ask(exchange, incoming)  # 5
            held = await asyncio.to_thread(hold, incoming, body)
            del incoming, opening, body  # nothing else of the body stays in memory
            with self.approvals.holding(held.size):
                decision = await self._hold(caller, exchange, approval, held)
            incoming, body = self._read_body(exchange, held.sent()), held.forwarded()
        if decision.outcome is not Outcome.ALLOW:
            raise refusal_of(decision)  # 6
        if exchange.may_be_resend:
            status = decision.answer.status
            await self.cuts.check(exchange.principal, incoming.said, status)
        await self._serve(caller, exchange, decision, incoming, body)  # 6 to 9

    # --- 1, 2: the facts and the decision ---------------------------------------------------------

    async def _read(self, caller: Caller, exchange: Exchange) -> Incoming:
        """Read the body, and from it the facts of the request."""
        arrival = caller.arrival
        route = find_route(arrival.method, arrival.path)
        base = Request(id=exchange.id, route=route, method=arrival.method)
        exchange.request = base
        incoming = Incoming(facts=Facts(model=find_model(arrival.path)))
        if route in {Route.MESSAGES, Route.COUNT_TOKENS}:
            body = await caller.read_body()
            exchange.request = msgspec.structs.replace(base, body_bytes=len(body))
            incoming = self._read_body(exchange, body)
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

    def _read_body(self, exchange: Exchange, body: bytes) -> Incoming:
        return read_incoming(
            body,
            exchange.arrival.by_name,
            exchange.principal,
            self.conversations,
            self.scans,
            self.masks.seals,
        )

    async def _decide(
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
                    endpoints=self.upstream.endpoints,
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

    # --- 3: mask the request ----------------------------------------------------------------------

    def _tables(self, decision: Decision) -> Tables:
        return self.policy.tables_of(decision.revision)

    async def _mask(
        self, exchange: Exchange, incoming: Incoming, decision: Decision
    ) -> tuple[Decision, bytes]:
        """Return what is forwarded, and the decision about those very bytes."""
        names = decision.answer.masking.request
        if not names or decision.outcome is Outcome.DENY:
            return decision, incoming.body
        tables = self._tables(decision)
        outgoing = self.masks.to_forward(incoming, tables, names, exchange.tally)
        if outgoing is incoming:
            return decision, incoming.body
        self._describe(exchange, outgoing)
        again = await self._decide(exchange, incoming)
        if again.revision != decision.revision or again.answer.masking != decision.answer.masking:
            raise policy_changed(decision)
        return again, outgoing.body

    def _relate(self, exchange: Exchange, incoming: Incoming) -> Opening:
        """Return the opening record; of the request it holds what no earlier one has."""
        if not exchange.keeps_content:
            return exchange.open()
        pieces = incoming.pieces
        if exchange.masks:
            tables = self._tables(exchange.decided)
            pieces = self.masks.to_record(incoming, tables, exchange.masks, exchange.tally)
        base, parts = self.conversations.relate(exchange.kinship, pieces, incoming.digests)
        return exchange.open(parts, base)

    # --- 4, 5: record and hold --------------------------------------------------------------------

    async def _open(self, exchange: Exchange, opening: Opening, incoming: Incoming) -> None:
        self.journal.append(opening)
        exchange.is_open = True
        if opening.parts is not None:
            self.conversations.remember(
                exchange.kinship,
                exchange.id,
                incoming.digests,
                incoming.prompt.beginnings,
            )
        if exchange.decision and exchange.decision.outcome is not Outcome.DENY:
            await self._make_durable(exchange)

    async def _ask(self, exchange: Exchange, incoming: Incoming) -> Approval:
        """Open the approval request of a call, or join the one that is there."""
        obligation = exchange.decided.answer.approval
        approval, is_new = await self.approvals.open_or_join(
            self.approvals.key_of(exchange.principal, exchange.request, obligation, incoming.said),
            exchange.id,
            exchange.principal,
            exchange.request,
            obligation,
        )
        exchange.approval_id, exchange.was_held = approval.id, True
        if is_new:
            self.journal.append(exchange.event("approval.opened", ", ".join(obligation.reasons)))
        return approval

    async def _hold(
        self, caller: Caller, exchange: Exchange, approval: Approval, held: Held
    ) -> Decision:
        """Wait until the verdicts satisfy policy, it denies, or the wait is over."""
        first = exchange.decided
        obligation = first.answer.approval
        until_ns = self.now_ns() + obligation.wait_s * 10**9
        while True:
            if approval.verdicts:
                incoming = self._read_body(exchange, held.sent())
                decision = await self._decide(exchange, incoming, approval)
                del incoming
                self.journal.append(exchange.redecided())
                if decision.outcome is not Outcome.HOLD:
                    await self._make_durable(exchange)
                    return unchanged(first, decision)
            if approval.state not in {"pending", "approved"}:
                raise ended(approval, first.answer.status)
            left_s = (until_ns - self.now_ns()) / 10**9
            if left_s <= 0 or approval.id is None:
                raise still_waiting(self.approvals, approval, first.answer.status)
            approval = await self.approvals.wait(approval, left_s, caller.gone)
            if caller.gone.done():
                raise CallerGone

    async def _use(self, exchange: Exchange, decision: Decision) -> None:
        """Note that an approval of one request has been used; it holds for no other."""
        approval_id = exchange.approval_id if exchange.was_held else None
        if approval_id is not None and decision.answer.approval.scope == "request":
            with suppress(Failure):  # then time ends it
                self.journal.append(exchange.event("approval.used", approval_id))
                await self.approvals.use(approval_id)

    # --- 7, 8: forward and deliver ----------------------------------------------------------------

    async def _serve(
        self,
        caller: Caller,
        exchange: Exchange,
        decision: Decision,
        incoming: Incoming,
        body: bytes,
    ) -> None:
        """Forward and deliver within the limits; a verdict about the answer is kept for a re-send.

        The caller learns of the verdict only when every worker knows it.
        """
        rules = rules_of(self._tables(decision), decision.answer.masking.response)
        charge = await self.limits.charge(decision.answer.limits)
        try:
            answer = await self._forward(caller, exchange, decision, body, charge)  # 7
            await self._deliver(caller, exchange, incoming, answer, rules)  # 8, 9
            await self._use(exchange, decision)
        except GatewayError as e:
            if exchange.is_answering and is_verdict(e):
                await self.cuts.hold(exchange.principal, incoming.said, e, caller.gone)
            raise
        finally:
            charge.settle(exchange.known_usage)

    async def _forward(
        self, caller: Caller, exchange: Exchange, decision: Decision, body: bytes, charge: Charge
    ) -> Answer:
        is_list, query = exchange.request.route is Route.MODELS, caller.arrival.query
        try:
            answer = await self.upstream.forward(
                decision.answer.endpoint,
                exchange.request.method,
                caller.arrival.path,
                ask_for_all(query) if is_list else query,
                caller.arrival.headers,
                body,
                caller.gone,
            )
        except Failure:
            charge.settle(Usage())  # no answer began
            raise
        return UsableModels(answer, decision.answer.models) if is_list else answer

    async def _deliver(
        self,
        caller: Caller,
        exchange: Exchange,
        incoming: Incoming,
        answer: Answer,
        rules: Sequence[Rule],
    ) -> None:
        echo = Echo(exchange.decided.answer.masking.echo, incoming.said)
        seals = self.masks.seals.of(incoming.session)
        delivery = Delivery(caller, exchange, self.journal, rules, echo, seals)
        try:
            await delivery.deliver(answer)
        finally:
            answer.cancel()
        self._close(exchange, Ending.DELIVERED, before=delivery.last_records)  # 9
        await self._make_durable(exchange)
        await delivery.release_last()

    # --- 9: close ---------------------------------------------------------------------------------

    def _close(
        self,
        exchange: Exchange,
        ending: Ending,
        error: GatewayError | None = None,
        before: tuple[Record, ...] = (),
    ) -> None:
        """Write the closing record with those `before` it, and the opening if there was none yet.

        An exchange whose opening was written owes its closing: if it can't be written now, the
        journal writes it as soon as it can.
        """
        if exchange.is_closed:
            return
        if not exchange.is_open:
            self.journal.append(exchange.open())
            exchange.is_open = True
        closing = exchange.close(ending, error)
        try:
            self.journal.append(*before, closing)
        except Failure as e:
            exchange.take_back(before, e)
            self.journal.owe(exchange.close(Ending.FAILED, e))
            raise

    def _leave(self, exchange: Exchange) -> None:
        """End what nobody waits for: what can't be written is owed, or counted as unrecorded."""
        with suppress(Failure):
            self._close(exchange, Ending.CANCELLED)

    async def _make_durable(self, exchange: Exchange) -> None:
        if exchange.durability == "strict":
            await self.journal.durable()

    async def _end_with_error(
        self, caller: Caller, exchange: Exchange, error: GatewayError
    ) -> None:
        """Record the error as the end of the exchange, then tell the caller."""
        if caller.gone.done():
            self._leave(exchange)
            return
        ending = Ending.REFUSED if isinstance(error, Refusal) else Ending.FAILED
        try:
            if not exchange.is_answering:
                exchange.status = status_of(error)
            if exchange.is_answering:
                self.journal.owe(exchange.break_off(error))
            self._close(exchange, ending, error)
            await self._make_durable(exchange)
        except Failure as e:
            error = e
            with suppress(Failure):
                self._close(exchange, Ending.FAILED, e)
        if error.code == UNAVAILABLE and exchange.is_open:
            self.unrecorded.note(is_open=True)
        try:
            await answer_error(caller, exchange.id, error, exchange)
        except CallerGone:
            _log.info("caller_gone exchange=%s", exchange.id)
