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

from gateway.contract import Decision
from gateway.delivery import Delivery
from gateway.domain import (
    Approval,
    Ending,
    ExchangeId,
    Failure,
    GatewayError,
    Outcome,
    Route,
    Unauthenticated,
)
from gateway.endings import Endings
from gateway.error_answers import answer_error
from gateway.exchange import Exchange
from gateway.incoming import Held, Incoming, hold
from gateway.masking.echo import Echo
from gateway.masking.rules import Rule
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
    Upstream,
)
from gateway.questions import Questions
from gateway.records import Opening, Usage
from gateway.refusals import (
    ended,
    is_verdict,
    refusal_of,
    still_waiting,
    unchanged,
)
from gateway.request_masks import rules_of
from gateway.strangers import Strangers

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Carries exchanges. One per process; stateless between calls but for its adapters."""

    identity: Identity
    questions: Questions
    approvals: Approvals
    limits: Limits
    cuts: Cuts
    upstream: Upstream
    journal: Journal
    endings: Endings
    strangers: Strangers
    now_ns: Callable[[], int]
    new_id: Callable[[], ExchangeId]

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
            await self.endings.end_with_error(caller, exchange, e)
        except CallerGone:
            self.endings.leave(exchange)
        except asyncio.CancelledError:
            self.endings.leave(exchange)
            raise
        finally:
            self.endings.end(exchange)
            _log.info("exchange_ended %s", exchange.summary())

    async def _carry(self, caller: Caller, exchange: Exchange) -> None:
        incoming = await self.questions.read(caller, exchange)
        first = await self.questions.decide(exchange, incoming)  # 2
        first, body = await self.questions.mask(exchange, incoming, first)  # 3
        opening = self.questions.relate(exchange, incoming)
        await self._open(exchange, opening, incoming)  # 4
        decision = first
        exchange.approval_id = next(iter(first.answer.approval.granted_by), None)
        if first.outcome is Outcome.HOLD:
            approval = await self._ask(exchange, incoming)  # 5
            held = await asyncio.to_thread(hold, incoming, body)
            del incoming, opening, body  # nothing else of the body stays in memory
            with self.approvals.holding(held.size):
                decision = await self._hold(caller, exchange, approval, held)
            incoming, body = self.questions.read_body(exchange, held.sent()), held.forwarded()
        if decision.outcome is not Outcome.ALLOW:
            raise refusal_of(decision)  # 6
        if exchange.may_be_resend:
            status = decision.answer.status
            await self.cuts.check(exchange.principal, incoming.said, status)
        await self._serve(caller, exchange, decision, incoming, body)  # 6 to 9

    # --- 4, 5: record and hold --------------------------------------------------------------------

    async def _open(self, exchange: Exchange, opening: Opening, incoming: Incoming) -> None:
        self.journal.append(opening)
        exchange.is_open = True
        if opening.parts is not None:
            self.questions.conversations.remember(
                exchange.kinship,
                exchange.id,
                incoming.digests,
                incoming.prompt.beginnings,
            )
        if exchange.decision and exchange.decision.outcome is not Outcome.DENY:
            await self.endings.make_durable(exchange)

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
                incoming = self.questions.read_body(exchange, held.sent())
                decision = await self.questions.decide(exchange, incoming, approval)
                del incoming
                self.journal.append(exchange.redecided())
                if decision.outcome is not Outcome.HOLD:
                    await self.endings.make_durable(exchange)
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
        rules = rules_of(self.questions.tables_of(decision), decision.answer.masking.response)
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
        seals = self.questions.masks.seals.of(incoming.session)
        delivery = Delivery(caller, exchange, self.journal, rules, echo, seals)
        try:
            await delivery.deliver(answer)
        finally:
            answer.cancel()
        self.endings.close(exchange, Ending.DELIVERED, before=delivery.last_records)  # 9
        await self.endings.make_durable(exchange)
        await delivery.release_last()
