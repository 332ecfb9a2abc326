"""A recorded answer as it came: which text at which time. Knows no console and no store."""

import codecs
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from gateway.display import visible
from gateway.messages.sse import Event, EventReader, NotEvents
from lake.shown import ExchangeDetail

Step = tuple[float, str]
"""When, in milliseconds after the request had arrived, and what was shown then."""

_TEXT_OF = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def steps_of(found: ExchangeDetail, *, raw: bool = False) -> Iterator[Step]:
    """Yield the steps of an answer, from where each of its chunks ended and when.

    An answer that is no stream of events, or stops being one, is shown as its bytes read.
    """
    body = found.response_body or b""
    show = _RawText() if raw or not _is_stream(found) else _EventText()
    start, at_ms = 0, 0.0
    for offset in found.chunk_offsets:
        at_ms = max(at_ms, offset.at_ms)  # clocks may step back, time in a replay does not
        yield at_ms, show.feed(body[start : offset.end_byte])
        start = max(start, offset.end_byte)
    yield max(at_ms, found.duration_ms), show.feed(body[start:]) + show.finish()


def play(
    steps: Iterable[Step],
    speed: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Print steps, each at its time; `speed` times as fast, all at once if it is 0."""
    began = clock()
    for at_ms, text in steps:
        if speed > 0:
            sleep(max(0.0, began + at_ms / 1000 / speed - clock()))
        if text:
            click.echo(visible(text), nl=False)
    click.echo()


class _RawText:
    """Bytes as text, where a character may come in two chunks."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, chunk: bytes) -> str:
        return self._decoder.decode(chunk)

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class _EventText:
    """The text of events; from where they can't be read on, their bytes."""

    def __init__(self) -> None:
        self._reader = EventReader()
        self._raw: _RawText | None = None

    def feed(self, chunk: bytes) -> str:
        if self._raw is not None:
            return self._raw.feed(chunk)
        try:
            return "".join(map(_text_of, self._reader.feed(chunk)))
        except NotEvents:
            self._raw = _RawText()
            return self._raw.feed(chunk)

    def finish(self) -> str:
        return self._raw.finish() if self._raw else self._reader.finish().decode(errors="replace")


def _text_of(event: Event) -> str:
    data = event.data or {}
    if event.kind == "content_block_start":
        return _heading(data.get("content_block"))
    if event.kind == "content_block_stop":
        return "\n"
    if event.kind == "error":
        return f"\n[error] {data.get('error')}\n"
    delta = data.get("delta")
    if event.kind != "content_block_delta" or not isinstance(delta, dict):
        return ""
    text = delta.get(_TEXT_OF.get(str(delta.get("type")), ""))
    return text if isinstance(text, str) else ""


def _heading(block: Any) -> str:
    """Return what a block begins with: its first text, or its kind where it is no text."""
    if not isinstance(block, dict):
        return ""
    if block.get("type") == "text":
        return str(block.get("text", ""))
    return f"[{block.get('type')} {block.get('name', '')}] "


def _is_stream(found: ExchangeDetail) -> bool:
    headers = found.response_headers or {}
    return any(
        name.lower() == "content-type" and value.startswith("text/event-stream")
        for name, value in headers.items()
    )
