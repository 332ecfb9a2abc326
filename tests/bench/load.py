"""The load generator: a process of its own that takes jobs as lines of JSON and answers likewise.

Raw sockets and a C parser, since it shares the cores with what it measures. Every caller has one
kept-alive connection and one call under way; every answer is checked to be whole.
"""

import asyncio
import gc
import re
import sys
from itertools import pairwise
from time import perf_counter

import httptools
import msgspec
import uvloop

from bench.figures import Summary, summarize

_DELTA = b"event: content_block_delta"
_DATA = re.compile(rb"^data: (.*)$", re.MULTILINE)
_GRACE_S = 60.0
"""How long a job may take beyond its own time."""
_PROSE = (
    "Please read the module below, say what its main function does, and list every branch that "
    "the tests do not reach. Keep the answer short, quote the names of functions as they stand in "
    "the file, and do not repeat the code. If a name is not clear, propose a better one. "
)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run of calls against one target."""

    port: int
    headers: dict[str, str]
    callers: int
    seconds: float
    """No caller begins another call after this."""
    model: str
    directive: str
    """For the demo Claude."""
    prompt_chars: int
    answer_chars: int
    stream: bool = False
    spread_s: float = 0.0
    """Over which the callers begin, one after the other."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job."""

    exchanges: int
    wall_s: float
    bad: int
    first_bad: str
    call: Summary
    """From sending to the last byte, but for the first call of each caller; as the next."""
    first_delta: Summary
    """From sending to the first delta of the stream."""
    gap: Summary
    """Between deltas of a stream."""


class _Text(msgspec.Struct):
    text: str


class _Message(msgspec.Struct):
    content: list[_Text]
    stop_reason: str


class _Event(msgspec.Struct):
    type: str
    delta: msgspec.Raw = msgspec.Raw(b"{}")


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_text = msgspec.json.Decoder(_Text).decode


class _Samples:
    def __init__(self) -> None:
        self.exchanges = 0
        self.bad: list[str] = []
        self.call: list[float] = []
        self.first_delta: list[float] = []
        self.gap: list[float] = []


class _Connection(asyncio.Protocol):
    """One caller's connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._tail = b""
        self._done: asyncio.Future[None] | None = None
        self.arrivals: list[float] = []
        """When each delta arrived."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream transport, by create_connection

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("the connection was closed"))

    def on_body(self, chunk: bytes) -> None:
        self._parts.append(chunk)
        seen = self._tail + chunk
        if count := seen.count(_DELTA):
            self.arrivals += [perf_counter()] * count
        self._tail = seen[len(seen) - len(_DELTA) + 1 :] if len(seen) >= len(_DELTA) else seen

    def on_message_complete(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def call(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return status and body of the answer."""
        assert self._transport is not None
        self._parts, self._tail, self.arrivals = [], b"", []
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._done
        return self._parser.get_status_code(), b"".join(self._parts)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


class _Caller:
    """Makes one call after the other."""

    def __init__(self, job: Job, number: int, samples: _Samples) -> None:
        self._job = job
        self._number = number
        self._samples = samples
        self._calls = 0

    async def run(self, began: float) -> None:
        """Call until the job's time is over."""
        job = self._job
        await asyncio.sleep(self._number * job.spread_s / job.callers)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", job.port)
        try:
            while perf_counter() - began < job.seconds and not self._samples.bad:
                await self._call(connection)
        finally:
            connection.close()

    async def _call(self, connection: _Connection) -> None:
        samples = self._samples
        request = self._request()
        sent = perf_counter()
        try:
            status, body = await connection.call(request)
        except ConnectionError as e:
            samples.bad.append(str(e))
            return
        took = perf_counter() - sent
        samples.exchanges += 1
        self._calls += 1
        if complaint := _find_fault(self._job, status, body):
            samples.bad.append(complaint)
        arrivals = connection.arrivals
        samples.gap += [(later - earlier) * 1000 for earlier, later in pairwise(arrivals)]
        if self._calls == 1:
            return
        samples.call.append(took * 1000)
        if arrivals:
            samples.first_delta.append((arrivals[0] - sent) * 1000)

    def _request(self) -> bytes:
        """Return the next request; every prompt differs."""
        job = self._job
        opening = f"{job.directive} Question {self._number}.{self._calls}: "
        prose = _PROSE * (job.prompt_chars // len(_PROSE) + 1)
        body = msgspec.json.encode(
            {
                "model": job.model,
                "max_tokens": 1024,
                "stream": job.stream,
                "messages": [{"role": "user", "content": (opening + prose)[: job.prompt_chars]}],
            }
        )
        head = "".join(f"{name}: {value}\r\n" for name, value in job.headers.items())
        return (
            f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1:{job.port}\r\n{head}"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode() + body


def _find_fault(job: Job, status: int, body: bytes) -> str:
    """Say what is wrong with an answer; nothing, if it is whole."""
    if status != 200:
        return f"status {status}: {body[:300]!r}"
    try:
        length = _stream_length(body) if job.stream else _message_length(body)
    except (msgspec.MsgspecError, ValueError) as e:
        return f"the answer can't be read: {e}"
    if length != job.answer_chars:
        return f"the answer has {length} characters instead of {job.answer_chars}"
    return ""


def _message_length(body: bytes) -> int:
    message = _decode_message(body)
    if message.stop_reason != "end_turn":
        raise ValueError("it did not end its turn")
    return sum(len(block.text) for block in message.content)


def _stream_length(body: bytes) -> int:
    events = [_decode_event(line) for line in _DATA.findall(body)]
    if not events or events[-1].type != "message_stop":
        raise ValueError("it has no end")
    deltas = (event.delta for event in events if event.type == "content_block_delta")
    return sum(len(_decode_text(delta).text) for delta in deltas)


async def run_job(job: Job) -> Result:
    """Run one job."""
    samples = _Samples()
    began = perf_counter()
    async with asyncio.timeout(job.seconds + _GRACE_S), asyncio.TaskGroup() as callers:
        for number in range(job.callers):
            callers.create_task(_Caller(job, number, samples).run(began))
    return Result(
        exchanges=samples.exchanges,
        wall_s=perf_counter() - began,
        bad=len(samples.bad),
        first_bad=samples.bad[0] if samples.bad else "",
        call=summarize(samples.call),
        first_delta=summarize(samples.first_delta),
        gap=summarize(samples.gap),
    )


def main() -> None:
    """Take jobs from standard input until it ends."""
    gc.disable()
    for line in sys.stdin.buffer:
        result = uvloop.run(run_job(msgspec.json.decode(line, type=Job)))
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
        sys.stdout.buffer.flush()
        gc.collect()


if __name__ == "__main__":
    main()
