"""Steps 8 and 9 for one answer: mask, journal, release; the last bytes wait for the closing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, ParamSpec

from gateway.domain import Failure
from gateway.exchange import Exchange
from gateway.masking.answers import AnswerMasker, Blocked
from gateway.masking.echo import Echo
from gateway.masking.rules import Rule
from gateway.masking.seals import SessionSeals
from gateway.messages.sse import EventReader, Unreadable, read_json
from gateway.ports import Answer, Caller, CallerGone, Headers, Journal

if TYPE_CHECKING:
    from gateway.records import Record

MAX_PLAIN_BYTES = 32 * 1024 * 1024
"""A plain answer is read whole before it is released; one record must hold it, masked."""
LINGER_S = 1.0
"""How long a server may take to end a stream after its last event."""

P = ParamSpec("P")

_LAST_EVENTS = frozenset({"message_stop", "error"})


class Delivery:
    """Delivers one answer of the Claude server to its caller."""

    def __init__(
        self,
        caller: Caller,
        exchange: Exchange,
        journal: Journal,
        rules: Sequence[Rule],
        echo: Echo,
        seals: SessionSeals | None,
    ) -> None:
        self._caller = caller
        self._exchange = exchange
        self._journal = journal
        self._masker = AnswerMasker(rules, echo=echo, seals=seals, tally=exchange.tally)
        self._head: tuple[int, Headers] | None = None
        self._last = b""
        self.last_records: tuple[Record, ...] = ()
        """What describes the last bytes; to be written with the closing, before their release."""

    async def deliver(self, answer: Answer) -> None:
        """Release all but the last bytes; these wait for `release_last`.

        Raises:
            Failure: the server broke off, or its answer can't be read or masked.
            CallerGone: nobody listens any more.
        """
        try:
            if _media_type(answer.headers) == "text/event-stream":
                await self._deliver_stream(answer)
            else:
                await self._deliver_plain(answer)
        except Blocked as e:
            raise Failure(
                "masking_blocked",
                f"The answer was stopped: the mask {e.rule} matched in its {e.where}, "
                "where the value can't be replaced.",
                status=502,
            ) from e
        except Unreadable as e:
            raise _unreadable(str(e)) from e
        except (Failure, CallerGone):
            if self._caller.gone.done():
                raise CallerGone from None
            raise

    async def release_last(self) -> None:
        """Release what waited for the closing record."""
        if self._head is not None:
            await self._caller.start(*self._head)
        if self._last:
            await self._caller.send(self._last)

    # --- streamed ---------------------------------------------------------------------------------

    async def _deliver_stream(self, answer: Answer) -> None:
        exchange, masker, reader = self._exchange, self._masker, EventReader()
        self._journal.append(
            exchange.answer(answer.status, answer.headers, _request_id(answer.headers))
        )
        await self._caller.start(answer.status, answer.headers)
        exchange.is_answering = True
        chunks = answer.chunks()
        is_over = False
        async for chunk in chunks:
            now: list[bytes] = []
            for event in reader.feed(chunk):
                released = _masked(masker.mask_event, event)
                exchange.facts.read_event(event)
                is_over = is_over or event.kind in _LAST_EVENTS
                if is_over:
                    self._last += released
                else:
                    now.append(released)
            if data := b"".join(now):
                await self._release(data)
            if is_over:
                self._last += await _read_rest(chunks)
                break
        if not is_over or reader.finish():
            raise Failure(
                "upstream_broke_off", "The Claude server ended the stream too early.", status=502
            )
        self.last_records = (exchange.chunk(self._last),)

    async def _release(self, data: bytes) -> None:
        """Record bytes, then release them."""
        chunk = self._exchange.chunk(data)
        try:
            self._journal.append(chunk)
        except Failure as e:
            self._exchange.take_back((chunk,), e)
            raise
        await self._caller.send(data)

    # --- plain ------------------------------------------------------------------------------------

    async def _deliver_plain(self, answer: Answer) -> None:
        body = self._mask_plain(await read_whole(answer), answer)
        headers = [*answer.headers, ("content-length", str(len(body)))]
        exchange = self._exchange
        answered = exchange.answer(answer.status, headers, _request_id(answer.headers))
        self.last_records = (answered, exchange.chunk(body))
        self._head, self._last = (answer.status, headers), body

    def _mask_plain(self, body: bytes, answer: Answer) -> bytes:
        """Mask and read a whole body; one that is not JSON passes as text, if it is an error."""
        try:
            value = read_json(body)
        except Unreadable:
            if answer.status < 400:
                raise
            self._exchange.facts.read_error({})
            return _masked(self._masker.mask_text, body)
        masked = _masked(self._masker.mask_body, body, value)
        if isinstance(value, dict):  # masked in place, so that what is recorded of it is too
            self._exchange.facts.read_message(value)
        return masked


def _masked(mask: Callable[P, bytes], *args: P.args, **kwargs: P.kwargs) -> bytes:
    """Return what a masker makes of an answer.

    Raises:
        Failure: it could not; then nothing of it goes on.
    """
    try:
        return mask(*args, **kwargs)
    except (Blocked, Unreadable):
        raise
    except Exception as e:
        raise Failure("masking_failed", "The answer could not be masked.", status=502) from e


async def _read_rest(chunks: AsyncIterator[bytes]) -> bytes:
    """Return the blank bytes after the last event; a server that goes on is cut off."""
    rest = b""
    try:
        async with asyncio.timeout(LINGER_S):
            async for chunk in chunks:
                rest += chunk
                if rest.strip():
                    return b""
    except (TimeoutError, Failure):
        return b""
    return rest


async def read_whole(answer: Answer) -> bytes:
    """Return the whole body of an answer; raises `Failure` for one that is too long."""
    parts: list[bytes] = []
    size = 0
    async for chunk in answer.chunks():
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_PLAIN_BYTES:
            raise _unreadable(f"it is longer than {MAX_PLAIN_BYTES} bytes")
    return b"".join(parts)


def _unreadable(why: str) -> Failure:
    return Failure(
        "upstream_unreadable", f"The Claude server's answer can't be read: {why}.", status=502
    )


def _media_type(headers: Headers) -> str:
    for name, value in headers:
        if name == "content-type":
            return value.partition(";")[0].strip().lower()
    return ""


def _request_id(headers: Headers) -> str:
    return next((value for name, value in headers if name == "request-id"), "")
