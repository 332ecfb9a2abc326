"""How the demo Claude sends: errors in the API's shape, answers whole or as a stream, and faults.

Knows nothing of what an answer says.
"""

import asyncio
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress

import msgspec
from aiohttp import web

from gateway.demo.answers import Frame, Message, frame
from gateway.demo.directives import Steering

REQUEST_ID = web.RequestKey("request_id", str)
"""The id that this request is answered under."""

_KINDS: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_RETRY_AFTER = {429: "1", 529: "1"}
_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
}
_GARBAGE_EVENT = b'event: content_block_delta\ndata: {"type":"content_block_delta","ind\n\n'
_GARBAGE_BODY = b'{"type":"message","content":[{"type":"te'
_FLUSH_LIMIT_S = 5.0


class ApiError(Exception):
    """What a call is refused with: a status and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def error_kind(status: int) -> str:
    """Return the API's name for the errors of a status."""
    return _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")


def json_response(body: object, *, status: int = 200) -> web.Response:
    """Return a response that holds one JSON document."""
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )


def error_response(request: web.Request, error: ApiError) -> web.Response:
    """Return an error in the API's shape."""
    body = {
        "type": "error",
        "error": {"type": error_kind(error.status), "message": error.message},
        "request_id": request[REQUEST_ID],
    }
    response = json_response(body, status=error.status)
    if error.status in _RETRY_AFTER:
        response.headers["retry-after"] = _RETRY_AFTER[error.status]
    return response


async def send_message(
    request: web.Request, message: Message, steering: Steering
) -> web.StreamResponse:
    """Send an answer in one piece, or fail at it as the steering says."""
    if steering.garbage:
        return web.Response(body=_GARBAGE_BODY, content_type="application/json")
    if steering.break_after is None:
        return json_response(message)
    body = msgspec.json.encode(message)
    response = web.StreamResponse(headers={"content-type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    with suppress(ConnectionError):
        await response.write(body[: len(body) // 2])
        await _reset(request)
    return response


async def send_stream(
    request: web.Request, frames: list[Frame], steering: Steering
) -> web.StreamResponse:
    """Send an answer event by event, with the pace and the faults that the steering says.

    A client that leaves in between is no error: it ends the sending.
    """
    response = web.StreamResponse(headers=_STREAM_HEADERS)
    await response.prepare(request)
    with suppress(ConnectionError):
        await _send_frames(response, _with_faults(frames, steering), steering.pace_ms / 1000)
        if steering.break_after is not None:
            await _reset(request)
        else:
            await response.write_eof()
    return response


async def _send_frames(response: web.StreamResponse, frames: list[Frame], pace_s: float) -> None:
    clock = asyncio.get_running_loop().time
    due = clock()
    for event in frames:
        if pace_s and event.is_delta:
            await asyncio.sleep(max(0.0, due - clock()))
            due += pace_s
        await response.write(event.data)


def _with_faults(frames: list[Frame], steering: Steering) -> list[Frame]:
    deltas = [place for place, event in enumerate(frames) if event.is_delta]
    middle = deltas[len(deltas) // 2]
    if steering.garbage:
        frames = [*frames[:middle], Frame(_GARBAGE_EVENT), *frames[middle:]]
    if steering.stream_error:
        overload = {"type": error_kind(529), "message": "The demo was asked to fail half-way."}
        frames = [*frames[:middle], frame("error", {"error": overload})]
    for count in (steering.break_after, steering.clean_break_after):
        frames = frames if count is None else frames[:count]
    return frames


async def _reset(request: web.Request) -> None:
    """Reset the connection, once the system has taken over what was written to it."""
    transport = request.transport
    if transport is None or transport.is_closing():
        return
    async with asyncio.timeout(_FLUSH_LIMIT_S):
        await asyncio.sleep(0)
        while transport.get_write_buffer_size():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
