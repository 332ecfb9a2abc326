"""Checks of streams: every byte, in order, at once, and no end that is not one."""

import asyncio
from contextlib import suppress

from gateway.conformance.bodies import CLOSED, COMMENT, OPENED, PING, STREAM, ask, event, text_delta
from gateway.conformance.caller import Answer
from gateway.conformance.checks import Bench, Checks, Unmet, demand, demand_same
from gateway.conformance.upstream import EVENTS, Received, stream
from gateway.conformance.wire import LAST_CHUNK, chunk

CHECKS = Checks()

CANCEL_S = 1.0
"""Within which the server must notice that a caller left."""


async def _streamed(bench: Bench, *parts: bytes) -> Answer:
    bench.upstream.answer_with(stream(parts))
    return await bench.caller.post(ask(bench.model, stream=True))


def _demand_stream(expected: bytes, answer: Answer) -> None:
    demand(answer.status == 200 and answer.is_whole, f"got {answer}")
    demand_same(expected, answer.body, "the stream")


@CHECKS.add
async def stream_unchanged(bench: Bench) -> str:
    """A stream comes back byte for byte: events old and new, pings, comments, signatures."""
    answer = await _streamed(bench, *STREAM)
    _demand_stream(b"".join(STREAM), answer)
    return f"{len(STREAM)} events"


@CHECKS.add
async def stream_type_unchanged(bench: Bench) -> str:
    """A stream's `content-type` is `text/event-stream`, as the server says it."""
    seen = (await _streamed(bench, *STREAM)).header("content-type")
    demand(seen == EVENTS[1], f"became {seen!r}")
    return seen


@CHECKS.add
async def stream_in_fragments(bench: Bench) -> str:
    """A stream that arrives cut in the middle of lines and characters comes back whole."""
    whole = b"".join(STREAM)
    answer = await _streamed(bench, *(whole[at : at + 3] for at in range(0, len(whole), 3)))
    _demand_stream(whole, answer)
    return "fragments of 3 bytes"


@CHECKS.add
async def stream_line_ends_unchanged(bench: Bench) -> str:
    """Lines of a stream may end in CR LF."""
    parts = [part.replace(b"\n", b"\r\n") for part in STREAM]
    _demand_stream(b"".join(parts), await _streamed(bench, *parts))
    return "CR LF"


async def _in_turns(bench: Bench, steps: list[bytes]) -> str:
    """Let the server send each step only when the caller has the one before."""
    has_it = asyncio.Event()

    async def answer(received: Received) -> None:
        await received.start(200, [EVENTS, ("transfer-encoding", "chunked")])
        for step in steps:
            has_it.clear()
            await received.send(chunk(step))
            async with asyncio.timeout(bench.caller.patience_s):
                await has_it.wait()
        await received.send(chunk(b"".join(CLOSED)) + LAST_CHUNK)

    bench.upstream.answer_with(answer)
    sent = b""
    async with bench.caller.calling(ask(bench.model, stream=True)) as call:
        for step in steps:
            sent += step
            got = await call.until(sent)
            demand(got, f"held back: {step[-90:]!r}")
            has_it.set()
        _demand_stream(sent + b"".join(CLOSED), await call.end())
    return f"{len(steps)} steps"


@CHECKS.add
async def stream_not_buffered(bench: Bench) -> str:
    """An event is passed on before the next one comes: nothing is buffered."""
    words = [text_delta(word) for word in ("One. ", "Two. ", "Three. ", "Four. ")]
    return await _in_turns(bench, [*OPENED, *words])


@CHECKS.add
async def pings_pass(bench: Bench) -> str:
    """Pings and comment lines pass at once, since in silence they are all that comes."""
    return await _in_turns(bench, [*OPENED, PING, COMMENT, PING, COMMENT])


@CHECKS.add
async def stream_error_unchanged(bench: Bench) -> str:
    """An `error` event inside a stream comes back byte for byte."""
    error = event("error", '{"type":"error", "error":{"type":"overloaded_error","message":"Busy"}}')
    parts = [*OPENED, text_delta("Hello. "), error]
    _demand_stream(b"".join(parts), await _streamed(bench, *parts))
    return "overloaded_error"


@CHECKS.add
async def broken_stream_shown(bench: Bench) -> str:
    """A stream that breaks off never ends as if it were whole."""

    async def answer(received: Received) -> None:
        await received.start(200, [EVENTS, ("transfer-encoding", "chunked")])
        await received.send(chunk(b"".join([*OPENED, text_delta("Hello. ")])))
        await asyncio.sleep(0.05)
        received.reset()

    bench.upstream.answer_with(answer)
    seen = await bench.caller.post(ask(bench.model, stream=True))
    if b"event: error" in seen.body:
        return "an error event"
    demand(not seen.is_whole, "ended cleanly")
    return "broken off"


async def _leave(bench: Bench, *, after: bytes) -> Received:
    """Leave a call after these bytes came, and return what the server saw of it."""
    is_here = asyncio.Event()

    async def answer(received: Received) -> None:
        if after:
            await received.start(200, [EVENTS, ("transfer-encoding", "chunked")])
            await received.send(chunk(after))
        is_here.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(bench.caller.patience_s):
                await received.gone.wait()

    bench.upstream.answer_with(answer)
    async with bench.caller.calling(ask(bench.model, stream=True)) as call:
        if after:
            demand(await call.until(after), f"held back: {after!r}")
        async with asyncio.timeout(bench.caller.patience_s):
            await is_here.wait()
        call.leave()
        received = bench.upstream.received[0]
        await _demand_gone(received)
    return received


async def _demand_gone(received: Received) -> None:
    try:
        async with asyncio.timeout(CANCEL_S):
            await received.gone.wait()
    except TimeoutError as e:
        raise Unmet(f"the server was still at work {CANCEL_S:g} s later") from e


@CHECKS.add
async def cancel_before_answer(bench: Bench) -> str:
    """A caller that leaves before the answer begins is noticed by the server within 1 s."""
    await _leave(bench, after=b"")
    return "the connection was closed"


@CHECKS.add
async def cancel_in_stream(bench: Bench) -> str:
    """A caller that leaves in mid-stream is noticed by the server within 1 s."""
    await _leave(bench, after=b"".join(OPENED))
    return "the connection was closed"


@CHECKS.add
async def half_closed(bench: Bench) -> str:
    """A caller that closes its sending side is answered whole, or cancelled within 1 s."""
    has_left = asyncio.Event()

    async def answer(received: Received) -> None:
        await received.start(200, [EVENTS, ("transfer-encoding", "chunked")])
        await received.send(chunk(b"".join(OPENED)))
        async with asyncio.timeout(bench.caller.patience_s):
            await has_left.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                await received.gone.wait()
        await received.send(chunk(b"".join(CLOSED)) + LAST_CHUNK)

    bench.upstream.answer_with(answer)
    async with bench.caller.calling(ask(bench.model, stream=True)) as call:
        demand(await call.until(b"".join(OPENED)), "held back")
        call.end_sending()
        has_left.set()
        seen = await call.end()
    if not seen.is_whole:
        await _demand_gone(bench.upstream.received[0])
        return "cancelled"
    _demand_stream(b"".join([*OPENED, *CLOSED]), seen)
    return "answered"
