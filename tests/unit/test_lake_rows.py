"""Records to rows: whole values."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from gateway.domain import (
    ApprovalId,
    Client,
    Context,
    Ending,
    ExchangeId,
    Outcome,
    Principal,
    Reason,
    Request,
    Route,
    Source,
)
from gateway.records import (
    Answered,
    Chunk,
    Closing,
    Decided,
    Event,
    MaskApplied,
    Opening,
    Recording,
    Redecided,
    Usage,
)
from lake.catalog import SHAPES
from lake.exchange_rows import exchange_row
from lake.names import ELSEWHERE
from lake.rows import LARGEST, Exchange, content_rows, event_row

START_NS = 1_700_000_000_000_001_000
ID = ExchangeId("x1")
FIRST = Decided(
    number=1,
    outcome=Outcome.HOLD,
    reasons=(Reason(code="approval.required", message="Someone must agree."),),
    revision="r7",
    input_json=b'{"schema":1}',
    result_json=b'{"allow":false,"approval":{"reasons":["repositories.production"]}}',
)
SECOND = Decided(
    number=2,
    outcome=Outcome.ALLOW,
    reasons=(),
    revision="r7",
    input_json=(
        b'{"schema":1,"approval":{"state":"pending","verdicts":[{"verdict":"approve",'
        b'"issuer":"https://id","sub":"bo","person":"Bo","groups":["leads"],'
        b'"comment":"fine","at":"2023-11-14T22:13:21Z"}]}}'
    ),
    result_json=b'{"allow":true}',
)
OPENING = Opening(
    exchange_id=ID,
    at_ns=START_NS,
    peer="10.0.0.9",
    user_agent="claude-cli/2.1",
    path="/v1/messages",
    query="beta=true",
    headers={"anthropic-version": "2023-06-01"},
    principal=Principal(
        issuer="https://id",
        sub="ada",
        person="Ada",
        kind="user",
        groups=("dev",),
        claims={"team": "red"},
        token_issued_at=1,
        token_expires_at=2,
    ),
    request=Request(
        id=ID,
        route=Route.MESSAGES,
        method="POST",
        model="claude-sonnet",
        stream=True,
        max_tokens=100,
        tools=("Bash",),
        sources=(Source(kind="base64", media_type="image/png"),),
        messages=3,
        body_bytes=20,
        prompt_chars=5,
        client=Client(name="claude-cli", version="2.1"),
        session=Context(value="s1", source="header"),
        repositories=(Context(value="git@a/b", source="content"),),
    ),
    decision=FIRST,
    endpoint="eu",
    recording=Recording(
        content="full",
        durability="strict",
        retention_class="standard",
        protection="plain",
        reasons=("recording.default",),
    ),
    parts=(b'{"messages":[]}',),
)
ANSWERED = Answered(
    exchange_id=ID,
    at_ns=START_NS + 1_000_000,
    status=200,
    headers={"Content-Type": "text/event-stream"},
    upstream_request_id="req_9",
)
CHUNKS = (
    Chunk(exchange_id=ID, at_ns=START_NS + 2_000_000, data=b"event: a\n", size=9),
    Chunk(exchange_id=ID, at_ns=START_NS + 3_500_000, data=b"\n", size=1),
)
CLOSING = Closing(
    exchange_id=ID,
    at_ns=START_NS + 4_000_000,
    ending=Ending.DELIVERED,
    status=200,
    first_byte_ns=START_NS + 2_000_000,
    first_token_ns=START_NS + 3_000_000,
    released_bytes=10,
    response_model="claude-sonnet-4",
    response_id="msg_1",
    stop_reason="end_turn",
    tool_calls=("Bash",),
    usage=Usage(input_tokens=5, output_tokens=2**64 - 1),
    masks=(MaskApplied(rule="aws_key", where="request", count=2),),
)
EXCHANGE = Exchange(
    opening=OPENING,
    redecided=(
        Redecided(
            exchange_id=ID,
            at_ns=START_NS + 500_000,
            decision=SECOND,
            approval_id=ApprovalId("ap1"),
        ),
    ),
    answered=ANSWERED,
    chunks=CHUNKS,
    closing=CLOSING,
    journal_id="j1",
    sequence=8,
)


class FakeTexts:
    def prompt_text(self, pieces: Sequence[bytes]) -> str:
        return f"prompt of {len(b''.join(pieces))}"

    def response_text(self, content_type: str, body: bytes) -> str:
        return f"{content_type} of {len(body)}"


class BrokenTexts:
    def prompt_text(self, pieces: Sequence[bytes]) -> str:
        raise KeyError("messages")

    def response_text(self, content_type: str, body: bytes) -> str:
        raise RecursionError


def test_an_exchange_with_everything_in_it() -> None:
    row = exchange_row(EXCHANGE, content_rows(EXCHANGE), FakeTexts())
    assert msgspec.json.decode(str(row.pop("decisions_json"))) == [
        {
            "number": 1,
            "at_ns": START_NS,
            "outcome": "hold",
            "reasons": [{"code": "approval.required", "message": "Someone must agree."}],
            "revision": "r7",
            "input": {"schema": 1},
            "result": {"allow": False, "approval": {"reasons": ["repositories.production"]}},
        },
        {
            "number": 2,
            "at_ns": START_NS + 500_000,
            "outcome": "allow",
            "reasons": [],
            "revision": "r7",
            "input": msgspec.json.decode(SECOND.input_json),
            "result": {"allow": True},
        },
    ]
    assert row == {
        "exchange_id": "x1",
        "session_id": "s1",
        "session_source": "header",
        "agent_id": None,
        "parent_agent_id": None,
        "workflow": None,
        "repositories": ["git@a/b"],
        "started_at": 1_700_000_000_000_001,
        "ended_at": 1_700_000_000_004_001,
        "route": "messages",
        "method": "POST",
        "path": "/v1/messages",
        "query": "beta=true",
        "peer": "10.0.0.9",
        "user_agent": "claude-cli/2.1",
        "client_name": "claude-cli",
        "client_version": "2.1",
        "issuer": "https://id",
        "subject": "ada",
        "person": "Ada",
        "principal_kind": "user",
        "groups": ["dev"],
        "claims": [("team", "red")],
        "request_model": "claude-sonnet",
        "response_model": "claude-sonnet-4",
        "response_id": "msg_1",
        "upstream_request_id": "req_9",
        "stream": True,
        "max_tokens": 100,
        "message_count": 3,
        "prompt_chars": 5,
        "tools": ["Bash"],
        "server_tools": [],
        "mcp_hosts": [],
        "sources": [{"kind": "base64", "media_type": "image/png"}],
        "tool_calls": ["Bash"],
        "stop_reason": "end_turn",
        "input_tokens": 5,
        "output_tokens": LARGEST,
        "cache_read_input_tokens": None,
        "cache_creation_input_tokens": None,
        "outcome": "allow",
        "reasons": [],
        "reason_messages": [],
        "policy_revision": "r7",
        "decision_count": 2,
        "decision_input": SECOND.input_json.decode(),
        "decision_result": '{"allow":true}',
        "endpoint": "eu",
        "approval_id": "ap1",
        "approval_reasons": ["repositories.production"],
        "approvers": ["Bo"],
        "verdicts": [
            {
                "verdict": "approve",
                "issuer": "https://id",
                "subject": "bo",
                "person": "Bo",
                "groups": ["leads"],
                "comment": "fine",
                "at": "2023-11-14T22:13:21Z",
            }
        ],
        "recording_content": "full",
        "recording_durability": "strict",
        "recording_protection": "plain",
        "recording_reasons": ["recording.default"],
        "retention_class": "standard",
        "masks_applied": [{"rule": "aws_key", "place": "request", "count": 2}],
        "status": 200,
        "ending": "delivered",
        "error_code": None,
        "error_message": None,
        "request_bytes": 20,
        "released_bytes": 10,
        "time_to_first_byte_ms": 2.0,
        "time_to_first_token_ms": 3.0,
        "duration_ms": 4.0,
        "prompt_text": "prompt of 15",
        "response_text": "text/event-stream of 10",
        "request_headers": [("anthropic-version", "2023-06-01")],
        "response_headers": [("Content-Type", "text/event-stream")],
        "base_exchange_id": None,
        "request_parts": [{"piece_id": "x1.request.0", "start": 0, "count": 1}],
        "content_digests": [
            {"piece_id": row["piece_id"], "digest": row["digest"]} for row in content_rows(EXCHANGE)
        ],
        "response_pieces": ["x1.response.0"],
        "chunk_offsets": [{"end_byte": 9, "at_ms": 2.0}, {"end_byte": 10, "at_ms": 3.5}],
        "schema_version": 1,
        "journal_id": "j1",
        "sequence": 8,
    }


def test_both_bodies_become_pieces() -> None:
    common = {
        "exchange_id": "x1",
        "position": 0,
        "started_at": 1_700_000_000_000_001,
        "retention_class": "standard",
        "protection": "plain",
        "schema_version": 1,
        "journal_id": "j1",
        "sequence": 8,
    }
    request, response = b'{"messages":[]}', b"event: a\n\n"
    assert content_rows(EXCHANGE) == [
        common
        | {
            "piece_id": "x1.request.0",
            "side": "request",
            "media_type": "application/json",
            "size": 15,
            "digest": hashlib.sha256(request).hexdigest(),
            "data": request,
        },
        common
        | {
            "piece_id": "x1.response.0",
            "side": "response",
            "media_type": "text/event-stream",
            "size": 10,
            "digest": hashlib.sha256(response).hexdigest(),
            "data": response,
        },
    ]


@pytest.mark.parametrize(
    "recording",
    [
        pytest.param({"content": "metadata"}, id="metadata only"),
        pytest.param({"content": "none"}, id="nothing"),
        pytest.param({"protection": "sealed"}, id="sealed"),
    ],
)
def test_content_that_is_not_kept_plainly_is_nowhere(recording: dict[str, str]) -> None:
    changed = msgspec.structs.replace(OPENING.recording, **recording)
    exchange = replace(EXCHANGE, opening=msgspec.structs.replace(OPENING, recording=changed))
    row = exchange_row(exchange, content_rows(exchange), FakeTexts())
    kept = ("prompt_text", "response_text", "request_parts", "response_pieces")
    assert [row[name] for name in kept] == [None, None, [], []]
    assert content_rows(exchange) == []


def test_an_undecided_exchange_that_was_refused_has_no_answer() -> None:
    refused = Closing(
        exchange_id=ID,
        at_ns=START_NS + 1,
        ending=Ending.FAILED,
        status=503,
        error_code="policy.unavailable",
        error_message="Policy can't be asked.",
    )
    opening = msgspec.structs.replace(OPENING, decision=None, parts=None)
    exchange = Exchange(opening=opening, closing=refused, journal_id="j1", sequence=2)
    row = exchange_row(exchange, content_rows(exchange), BrokenTexts())
    names = ("outcome", "decision_count", "decisions_json", "status", "response_headers")
    assert [row[name] for name in names] == ["undecided", 0, "[]", 503, None]
    assert content_rows(exchange) == []


def test_bodies_that_cannot_be_read_lose_their_text_and_nothing_else() -> None:
    row, whole = (
        exchange_row(EXCHANGE, content_rows(EXCHANGE), BrokenTexts()),
        exchange_row(EXCHANGE, content_rows(EXCHANGE), FakeTexts()),
    )
    assert row == whole | {"prompt_text": None, "response_text": None}


def test_a_decision_input_of_another_form_names_no_verdict() -> None:
    odd = msgspec.structs.replace(FIRST, input_json=b'{"approval":7}')
    exchange = replace(
        EXCHANGE, opening=msgspec.structs.replace(OPENING, decision=odd), redecided=()
    )
    row = exchange_row(exchange, content_rows(exchange), FakeTexts())
    assert (row["outcome"], row["verdicts"], row["approvers"]) == ("hold", [], [])


def test_an_event() -> None:
    event = Event(event_id="e1", at_ns=START_NS, kind="records.read", sub="ada", revision="r7")
    assert event_row(event, "j1", 4, "events") == {
        "event_id": "e1",
        "occurred_at": 1_700_000_000_000_001,
        "retention_class": "events",
        "kind": "records.read",
        "outcome": None,
        "issuer": None,
        "subject": "ada",
        "person": None,
        "exchange_id": None,
        "session_id": None,
        "peer": None,
        "reason": None,
        "message": None,
        "count": 1,
        "policy_revision": "r7",
        "detail_json": "{}",
        "schema_version": 1,
        "journal_id": "j1",
        "sequence": 4,
    }


def test_rows_have_every_required_column_and_no_other() -> None:
    rows = {
        "exchanges": exchange_row(EXCHANGE, content_rows(EXCHANGE), FakeTexts()),
        "contents": content_rows(EXCHANGE)[0],
        "events": event_row(Event(event_id="e", at_ns=1, kind="k"), "j", 1, "events"),
    }
    for name, row in rows.items():
        columns = {column.name: column for column in SHAPES[name].columns}
        assert set(row) <= set(columns)
        missing = set(columns) - set(row)
        assert not [each for each in missing if columns[each].required]
        chained = {"record_digest", "previous_digest"}
        assert [c for c in missing - chained if "null until" not in columns[c].doc] == []


def test_every_column_is_documented_once() -> None:
    for shape in SHAPES.values():
        names = [column.name for column in shape.columns]
        assert len(names) == len(set(names))
        assert all(column.doc for column in shape.columns)
        assert set(shape.unmeasured) <= set(names)


def test_every_name_elsewhere_is_of_a_column() -> None:
    columns = {column.name for shape in SHAPES.values() for column in shape.columns}
    assert set(ELSEWHERE) <= columns
