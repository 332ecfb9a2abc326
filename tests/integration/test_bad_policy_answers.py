"""Answers of OPA that are no decision: each is a failure in time, and never opens the way."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.contract import DecisionInput, Gateway, Net, PrincipalInput
from gateway.decisions import SUPPORTS
from gateway.domain import Approval, Context, ExchangeId, Failure, Outcome, Request, Route
from gateway.opa import OpaClient, Policy

REVISION = "revision-1"
DEADLINE_S = 0.25
BOUND_S = 1.0
"""Deadline and slot, with room for a busy machine; far below what a hanging call would take."""

Answer = Callable[[asyncio.StreamWriter], None]
"""Writes one answer; the connection stays open unless it closes it."""


class FakeOpa:
    """A server on a unix socket that answers every query in the same, settable way."""

    def __init__(self) -> None:
        self.answer: Answer = _reply(_decision())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the queries of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.answer(writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def _decision(**changes: Any) -> dict[str, Any]:
    """Return an answer that allows, with changes; None takes a field away."""
    approval = {"required": False, "satisfied": False, "approvers": [], "demands": []}
    approval["granted_by"] = []
    recording = {"content": "full", "durability": "strict", "retention_class": "standard"}
    allow = {
        "schema": 1,
        "allow": True,
        "deny": [],
        "status": 403,
        "endpoint": "claude",
        "models": [],
        "approval": {**approval, "wait_s": 280, "ttl_s": 0, "scope": "request", "reasons": []},
        "recording": {**recording, "protection": "plain", "reasons": ["org.default"]},
        "masking": {"request": [], "record": [], "response": [], "echo": "refuse"},
        "limits": {},
    }
    return {name: value for name, value in {**allow, **changes}.items() if value is not None}


def _part(name: str, **changes: Any) -> dict[str, Any]:
    """Return one obligation of the answer that allows, with changes."""
    return {**_decision()[name], **changes}


def _http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", *headers]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def _whole(result: Any, revision: str = REVISION) -> bytes:
    """Return OPA's document around a result; None leaves the result out."""
    provenance = {"bundles": {"gateway": {"revision": revision}}}
    document = {"provenance": provenance, **({} if result is None else {"result": result})}
    return json.dumps(document).encode()


def _raw(data: bytes, *, is_last: bool = False) -> Answer:
    def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if is_last:
            writer.close()

    return answer


def _reply(result: Any, revision: str = REVISION) -> Answer:
    return _raw(_http(_whole(result, revision)))


def _chunked(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    half = len(body) // 2
    parts = (body[:half], body[half:])
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


REASON = {"code": "models.not_granted", "message": "No."}
HELD = _part("approval", required=True)
ALLOWS = _whole(_decision())

BAD_ANSWERS: Mapping[str, Answer] = {
    "undefined": _reply(None),
    "null": _raw(_http(_whole({}).replace(b'"result": {}', b'"result": null'))),
    "true": _reply(True),
    "an empty object": _reply({}),
    "a list": _reply([_decision()]),
    "an unknown schema": _reply(_decision(schema=2)),
    "a field too many": _reply(_decision(extra=True)),
    "an obligation too many": _reply(_decision(watermark={"required": True})),
    "an unknown limit": _reply(_decision(limits={"tokens": 5})),
    "no deny": _reply(_decision(deny=None)),
    "no recording": _reply(_decision(recording=None)),
    "allow as a word": _reply(_decision(allow="true")),
    "allow as 1": _reply(_decision(allow=1)),
    "an unknown status": _reply(_decision(status=200)),
    "allow and deny": _reply(_decision(deny=[REASON])),
    "allow and hold": _reply(_decision(approval=HELD)),
    "neither allow nor deny nor hold": _reply(_decision(allow=False)),
    "a reason without a message": _reply(_decision(allow=False, deny=[{"code": "a"}])),
    "a reason whose code is a sentence": _reply(
        _decision(allow=False, deny=[{"code": "Not granted", "message": "No."}])
    ),
    "an endpoint that is not configured": _reply(_decision(endpoint="elsewhere")),
    "no endpoint": _reply(_decision(endpoint="")),
    "tables of another revision": _reply(_decision(), "revision-2"),
    "no revision": _reply(_decision(), ""),
    "no provenance": _raw(_http(json.dumps({"result": _decision()}).encode())),
    "the revision of another bundle": _raw(_http(ALLOWS.replace(b'"gateway"', b'"other"'))),
    "an echo of an unknown kind": _reply(_decision(masking=_part("masking", echo="hide"))),
    "sealed records": _reply(_decision(recording=_part("recording", protection="sealed"))),
    "an unknown durability": _reply(_decision(recording=_part("recording", durability="some"))),
    "a retention class with a slash": _reply(
        _decision(recording=_part("recording", retention_class="../x"))
    ),
    "a demand without its fields": _reply(
        _decision(allow=False, approval=_part("approval", required=True, demands=[{"quorum": 2}]))
    ),
    "an approval for a team": _reply(
        _decision(allow=False, approval=_part("approval", required=True, scope="team"))
    ),
    "a wait of an hour": _reply(
        _decision(allow=False, approval=_part("approval", required=True, wait_s=3600))
    ),
    "status 500": _raw(_http(ALLOWS, "500 Internal Server Error")),
    "status 401": _raw(_http(ALLOWS, "401 Unauthorized")),
    "status 404": _raw(_http(ALLOWS, "404 Not Found")),
    "status 204": _raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a redirect": _raw(_http(ALLOWS, "307 Temporary Redirect", "location: http://other.test/")),
    "an interim answer only": _raw(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "not JSON": _raw(_http(b"allow")),
    "truncated JSON": _raw(_http(ALLOWS[:-9])),
    "two documents": _raw(_http(ALLOWS + ALLOWS)),
    "not UTF-8": _raw(_http(ALLOWS.replace(b"claude", b"\xff"))),
    "nested 100,000 deep": _raw(_http(b'{"result": ' + b"[" * 100_000)),
    "an empty body": _raw(_http(b"")),
    "not HTTP": _raw(b"allow\r\n\r\n"),
    "half an answer and silence": _raw(_http(ALLOWS)[:-9]),
    "half an answer and the end": _raw(_http(ALLOWS)[:-9], is_last=True),
    "half the headers and the end": _raw(b"HTTP/1.1 200 OK\r\ncontent-le", is_last=True),
    "chunks that break off": _raw(_chunked(ALLOWS)[:-9], is_last=True),
    "a chunk without a size": _raw(_chunked(ALLOWS).replace(b"\r\n\r\n", b"\r\n\r\nzz", 1)),
    "a whole body without a length that is cut": _raw(
        b"HTTP/1.1 200 OK\r\n\r\n" + ALLOWS[:-9], is_last=True
    ),
    "the end": _raw(b"", is_last=True),
    "silence": _raw(b""),
}


def _question(route: Route = Route.MESSAGES) -> DecisionInput:
    return DecisionInput(
        now="2026-01-01T00:00:00.000000+00:00",
        principal=PrincipalInput(
            issuer="https://issuer.test",
            sub="dev",
            person="https://issuer.test|dev",
            kind="user",
            groups=("eng",),
            claims={},
            token_age_s=0,
        ),
        request=Request(
            id=ExchangeId("exch_1"),
            route=route,
            method="POST",
            session=Context(value="s", source="header"),
        ),
        signals={},
        signals_revision=REVISION,
        endpoints=("claude",),
        net=Net(peer="127.0.0.1"),
        approval=Approval(),
        gateway=Gateway(version="1", supports=SUPPORTS),
    )


@pytest.fixture
async def fake_opa(tmp_path: Path) -> AsyncIterator[FakeOpa]:
    fake = FakeOpa()
    server = await asyncio.start_unix_server(fake.serve, tmp_path / "opa.sock")
    async with server:
        yield fake


@pytest.fixture
async def policy(fake_opa: FakeOpa, tmp_path: Path) -> AsyncIterator[Policy]:
    client = OpaClient(str(tmp_path / "opa.sock"), "token", deadline_s=DEADLINE_S, connections=1)
    yield Policy(client)
    client.close()


async def _failure(policy: Policy, route: Route = Route.MESSAGES) -> tuple[str, int]:
    """Return code and status of the failure that a question ends with, in time."""
    with pytest.raises(Failure) as raised:
        async with asyncio.timeout(BOUND_S):
            await policy.decide(_question(route))
    assert "\n" not in raised.value.message
    assert raised.value.message.startswith("The policy engine could not decide: ")
    return raised.value.code, raised.value.status


async def _outcome(policy: Policy) -> Outcome:
    return (await policy.decide(_question())).outcome


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_bad_answer_is_a_failure_and_the_next_question_is_answered(
    name: str, fake_opa: FakeOpa, policy: Policy
) -> None:
    before = await _outcome(policy)
    good, fake_opa.answer = fake_opa.answer, BAD_ANSWERS[name]
    failures = [await _failure(policy), await _failure(policy)]
    fake_opa.answer = good
    assert (before, failures, await _outcome(policy)) == (
        Outcome.ALLOW,
        [("policy_unavailable", 503)] * 2,
        Outcome.ALLOW,
    )


async def test_an_answer_in_chunks_is_read_whole(fake_opa: FakeOpa, policy: Policy) -> None:
    fake_opa.answer = _raw(_chunked(ALLOWS))
    assert [await _outcome(policy), await _outcome(policy)] == [Outcome.ALLOW] * 2


async def test_an_answer_after_an_interim_one_is_read(fake_opa: FakeOpa, policy: Policy) -> None:
    fake_opa.answer = _raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" + _http(ALLOWS))
    async with asyncio.timeout(BOUND_S):
        outcomes = {await _outcome_or_failure(policy) for _ in range(2)}
    assert outcomes <= {"allow", "policy_unavailable"}


async def test_an_unknown_route_is_not_carried_even_if_it_is_allowed(policy: Policy) -> None:
    assert await _failure(policy, Route.UNKNOWN) == ("policy_unavailable", 503)


async def test_a_late_answer_is_not_taken_for_the_next_one(
    fake_opa: FakeOpa, policy: Policy
) -> None:
    late: list[asyncio.StreamWriter] = []
    fake_opa.answer = late.append
    failure = await _failure(policy)
    for writer in late:
        writer.write(_http(ALLOWS))
    fake_opa.answer = _reply(_decision(allow=False, deny=[REASON]))
    assert (failure, await _outcome(policy)) == (("policy_unavailable", 503), Outcome.DENY)


async def test_a_second_answer_to_one_question_is_not_taken_for_the_next_one(
    fake_opa: FakeOpa, policy: Policy
) -> None:
    fake_opa.answer = _raw(_http(_whole(_decision(allow=False, deny=[REASON]))) + _http(ALLOWS))
    outcomes = [await _outcome_or_failure(policy) for _ in range(3)]
    assert "allow" not in outcomes


async def test_no_opa_is_a_failure(tmp_path: Path) -> None:
    policy = Policy(OpaClient(str(tmp_path / "nothing.sock"), "token"))
    assert await _failure(policy) == ("policy_unavailable", 503)


async def test_more_questions_than_connections_fail_in_time(
    fake_opa: FakeOpa, tmp_path: Path
) -> None:
    client = OpaClient(
        str(tmp_path / "opa.sock"), "token", deadline_s=0.2, slot_wait_s=0.05, connections=1
    )
    policy = Policy(client)
    fake_opa.answer = BAD_ANSWERS["silence"]
    failures = await asyncio.gather(*(_failure(policy) for _ in range(20)))
    client.close()
    assert set(failures) == {("policy_unavailable", 503)}


MASK = {
    "title": "Words",
    "kind": "pattern",
    "begins": ["word-"],
    "alphabet": "[a-z-]",
    "pattern": "word-[a-z]{4,}",
    "longest": 64,
    "replace": "[masked:word]",
}

BAD_TABLES: Mapping[str, Any] = {
    "undefined": None,
    "an empty object": {},
    "no signals": {"masks": {"word": MASK}},
    "a field too many": {"masks": {}, "signals": {}, "extra": 1},
    "a mask of an unknown kind": {"masks": {"word": {**MASK, "kind": "guess"}}, "signals": {}},
    "a mask with a field too many": {"masks": {"word": {**MASK, "extra": 1}}, "signals": {}},
    "a mask that does not compile": {"masks": {"word": {**MASK, "pattern": "("}}, "signals": {}},
    "a mask that is not RE2": {"masks": {"word": {**MASK, "pattern": "(?=a)b"}}, "signals": {}},
    "a mask that matches nothing": {"masks": {"word": {**MASK, "pattern": ""}}, "signals": {}},
    "a mask of unbounded length": {"masks": {"word": {**MASK, "longest": 10**9}}, "signals": {}},
    "a signal that does not compile": {
        "masks": {},
        "signals": {"bad": {"title": "Bad", "pattern": "["}},
    },
    "a signal that captures anything": {
        "masks": {},
        "signals": {"bad": {"title": "Bad", "pattern": "(a)", "captures": True}},
    },
}


async def test_good_tables_are_loaded(fake_opa: FakeOpa, policy: Policy) -> None:
    fake_opa.answer = _reply({"masks": {"word": MASK}, "signals": {}})
    assert list((await policy.load_tables()).masks) == ["word"]


@pytest.mark.parametrize("name", BAD_TABLES)
async def test_tables_that_cant_be_used_are_a_failure(
    name: str, fake_opa: FakeOpa, policy: Policy
) -> None:
    fake_opa.answer = _reply(BAD_TABLES[name])
    with pytest.raises(Failure) as raised:
        await policy.load_tables()
    assert (raised.value.code, raised.value.status) == ("policy_unavailable", 503)


async def _outcome_or_failure(policy: Policy) -> str:
    try:
        return (await policy.decide(_question())).outcome.value
    except Failure as e:
        return e.code
