"""Step 9 of the flow: each exchange ends in one closing record, whatever ends it."""

import logging
from contextlib import suppress
from dataclasses import dataclass

from gateway.domain import Ending, Failure, GatewayError, Refusal
from gateway.error_answers import answer_error, status_of
from gateway.exchange import Exchange
from gateway.ports import Caller, CallerGone, Journal
from gateway.records import Record
from gateway.unrecorded import UNAVAILABLE, Unrecorded

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Endings:
    """Ends exchanges, and counts what could not be recorded."""

    journal: Journal
    unrecorded: Unrecorded

    def end(self, exchange: Exchange) -> None:
        """End what has not ended yet: whatever else went wrong, that is recorded if it can be."""
        with suppress(Failure):
            unexpected = Failure("gateway.error", "The gateway failed.", status=500)
            self.close(exchange, Ending.FAILED, unexpected)
        if not exchange.is_open:
            self.unrecorded.note(is_open=False)

    def close(
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

    def leave(self, exchange: Exchange) -> None:
        """End what nobody waits for: what can't be written is owed, or counted as unrecorded."""
        with suppress(Failure):
            self.close(exchange, Ending.CANCELLED)

    async def make_durable(self, exchange: Exchange) -> None:
        """Wait until what was written of an exchange is on disk, if it is strict."""
        if exchange.durability == "strict":
            await self.journal.durable()

    async def end_with_error(self, caller: Caller, exchange: Exchange, error: GatewayError) -> None:
        """Record the error as the end of the exchange, then tell the caller."""
        if caller.gone.done():
            self.leave(exchange)
            return
        ending = Ending.REFUSED if isinstance(error, Refusal) else Ending.FAILED
        try:
            if not exchange.is_answering:
                exchange.status = status_of(error)
            if exchange.is_answering:
                self.journal.owe(exchange.break_off(error))
            self.close(exchange, ending, error)
            await self.make_durable(exchange)
        except Failure as e:
            error = e
            with suppress(Failure):
                self.close(exchange, Ending.FAILED, e)
        if error.code == UNAVAILABLE and exchange.is_open:
            self.unrecorded.note(is_open=True)
        try:
            await answer_error(caller, exchange.id, error, exchange)
        except CallerGone:
            _log.info("caller_gone exchange=%s", exchange.id)
