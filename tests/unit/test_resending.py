"""A request is sent again as it was recorded, to the gateway, and the difference is shown."""

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from support.exchanges import detail, stream

from gateway.cli.resending import difference, send_again, show_difference
from gateway.cli.terminal import Complaint


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"request_body": None}, id="that was not recorded"),
        pytest.param({"path": "/v1/files"}, id="of another route"),
        pytest.param({"path": "//evil.test/v1/messages"}, id="whose path leads elsewhere"),
        pytest.param({"method": "DELETE"}, id="of another method"),
    ],
)
def test_a_request_is_not_sent(fields: dict[str, object]) -> None:
    with pytest.raises(Complaint):
        send_again(detail(**fields), "claude", "token", "http://127.0.0.1:9")


def test_a_gateway_that_is_not_there_is_a_complaint() -> None:
    with pytest.raises(Complaint, match="no whole answer"):
        send_again(detail(), "claude", "token", "http://127.0.0.1:9")


async def test_what_was_recorded_is_sent_with_ones_own_token_only() -> None:
    seen = list[tuple[str, dict[str, str], bytes]]()

    async def answer(request: web.Request) -> web.Response:
        headers = {k.lower(): v for k, v in request.headers.items()}
        seen.append((request.raw_path, headers, await request.read()))
        return web.json_response({"type": "error"}, status=403)

    app = web.Application()
    app.router.add_post("/v1/messages", answer)
    found = detail(
        query="beta=true&x=%2Fy",
        request_headers={
            "anthropic-version": "2023-06-01",
            "x-claude-code-session-id": "s-old",
            "x-countersign-workflow": "theirs",
        },
    )
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        now = await asyncio.to_thread(send_again, found, "spare", "mine", url)
    ((target, headers, body),) = seen
    assert target == "/v1/messages?beta=true&x=%2Fy"
    assert body == found.request_body
    assert now.status == 403
    assert json.loads(now.response_body or b"") == {"type": "error"}
    sent = {k: v for k, v in headers.items() if k.startswith(("anthropic-", "x-", "auth"))}
    assert sent == {
        "anthropic-version": "2023-06-01",
        "authorization": "Bearer mine",
        "x-countersign-endpoint": "spare",
        "x-claude-code-session-id": f"replay-{found.exchange_id}",
    }


def test_what_differs_is_shown_line_by_line_and_never_acts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = detail(answered="one\ntwo\n\x1b[31mthree")
    kind = {"Content-Type": "text/event-stream"}
    events = stream(
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        (
            "content_block_delta",
            {"index": 0, "delta": {"type": "text_delta", "text": "one\n2\u202e"}},
        ),
    )
    now = detail(response_body=events, response_headers=kind, status=529)
    assert list(difference(before, now)) == [
        "--- recorded",
        "+++ now",
        "@@ -1,3 +1,2 @@",
        " one",
        "-two",
        "-\\x1b[31mthree",
        "+2\\u202e",
    ]
    show_difference(before, now)
    shown = capsys.readouterr().out
    assert not set("\x1b\u202e") & set(shown)
    assert "529" in shown


def test_equal_answers_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    show_difference(detail(), detail())
    assert "The answers say the same." in capsys.readouterr().out
