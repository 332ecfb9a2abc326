"""How an error is told to a caller: in the API's shape, with what stops or invites a retry."""

from gateway.domain import ExchangeId, Failure, GatewayError, Refusal, Unauthenticated
from gateway.exchange import Exchange
from gateway.messages.errors import error_body, one_line
from gateway.ports import Caller, Headers

PATIENCE_S = 60
"""What official clients wait by themselves is less than this; a longer wait is for a person."""


def status_of(error: GatewayError) -> int:
    """Return the HTTP status that an error is answered with."""
    match error:
        case Refusal() | Failure():
            return error.status
        case _:
            return 401


def _error_headers(error: GatewayError, exchange_id: ExchangeId) -> Headers:
    headers = [("content-type", "application/json"), ("request-id", exchange_id)]
    match error:
        case Failure():
            headers.append(("retry-after", "5"))
        case Unauthenticated(expired=True):
            pass  # The one refusal that a client should try again, with a fresh token.
        case Refusal(retry_after_s=int(wait_s)):
            headers.append(("retry-after", str(wait_s)))
            if wait_s >= PATIENCE_S:
                headers.append(("x-should-retry", "false"))
        case _:
            headers.append(("x-should-retry", "false"))
    return headers


async def answer_error(
    caller: Caller, exchange_id: ExchangeId, error: GatewayError, exchange: Exchange | None = None
) -> None:
    """Tell the caller: an error answer, or an error event where the answer has begun."""
    if exchange is not None and exchange.is_answering:
        await caller.send(exchange.last_words)
        return
    status = status_of(error)
    sentence = f"{one_line(error.message)} [{error.code}, {exchange_id}]"
    body = error_body(status, sentence, exchange_id)
    headers = [*_error_headers(error, exchange_id), ("content-length", str(len(body)))]
    await caller.start(status, headers)
    await caller.send(body)
