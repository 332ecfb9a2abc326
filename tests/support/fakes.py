"""In-memory doubles of what the gate needs; each satisfies a Protocol of `gateway.ports`."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.contract import ApprovalObligation, Decision, DecisionInput, Limit
from gateway.conversations import Conversations
from gateway.decisions import read_answer
from gateway.domain import (
    Approval,
    ApprovalId,
    ExchangeId,
    Failure,
    GatewayError,
    Principal,
    Refusal,
    Request,
)
from gateway.endings import Endings
from gateway.gate import Gate
from gateway.masking.rules import MaskTable
from gateway.masking.seals import Seals
from gateway.ports import Arrival, CallerGone, Headers
from gateway.questions import Questions
from gateway.records import Closing, Opening, Record, Usage
from gateway.request_masks import RequestMasks
from gateway.scans import Scans
from gateway.strangers import Strangers
from gateway.tables import SignalSpec, Tables
from gateway.unrecorded import Unrecorded

REVISION = "test"
SEAL_KEY = "a key of many characters, all alike"
NOW_NS = 1_800_000_000_000_000_000

DEV = Principal(
    issuer="https://idp.test",
    sub="dev",
    person="dev",
    kind="user",
    groups=("eng",),
    token_issued_at=1_799_999_000,
    token_expires_at=1_800_003_600,
)

MASKS: dict[str, Any] = {
    "aws": {
        "kind": "pattern",
        "title": "AWS access key id",
        "begins": ["AKIA"],
        "alphabet": "[0-9A-Z]",
        "pattern": "AKIA[0-9A-Z]{16}",
        "longest": 20,
        "replace": "[masked]",
    }
}

ALLOW: dict[str, Any] = {
    "schema": 1,
    "allow": True,
    "deny": [],
    "status": 403,
    "endpoint": "claude",
    "models": [],
    "approval": {
        "required": False,
        "satisfied": False,
        "approvers": [],
        "demands": [],
        "granted_by": [],
        "wait_s": 0,
        "ttl_s": 0,
        "scope": "request",
        "reasons": [],
    },
    "recording": {
        "content": "full",
        "durability": "strict",
        "retention_class": "standard",
        "protection": "plain",
        "reasons": ["org.default"],
    },
    "masking": {"request": [], "record": [], "response": ["aws"], "echo": "refuse"},
    "limits": {},
}
DENY = ALLOW | {"allow": False, "deny": [{"code": "models.not_granted", "message": "No."}]}
STALE = ALLOW | {"allow": False, "deny": [{"code": "signals.stale", "message": "Again."}]}
HOLD = ALLOW | {
    "allow": False,
    "approval": ALLOW["approval"]
    | {"required": True, "approvers": ["leads"], "wait_s": 60, "ttl_s": 600, "reasons": ["prod"]},
}
APPROVED = ALLOW | {"approval": HOLD["approval"] | {"satisfied": True}}


def tables(revision: str = REVISION) -> Tables:
    """Return compiled tables of a revision."""
    return Tables(revision, msgspec.convert(MASKS, MaskTable), dict[str, SignalSpec]())


@dataclass
class FakeCaller:
    """A caller that lists what it was sent."""

    body: bytes | GatewayError = b'{"model":"m","max_tokens":1,"messages":[]}'
    path: str = "/v1/messages"
    headers: Headers = (("authorization", "Bearer t"), ("user-agent", "claude-cli/2.1"))
    log: list[Any] = field(default_factory=list)
    gone_after: int | None = None
    status: int = 0
    sent: list[bytes] = field(default_factory=list)
    answered: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        method = "GET" if self.path.startswith("/v1/models") else "POST"
        self.arrival = Arrival(
            method=method,
            path=self.path,
            query="beta=true",
            headers=self.headers,
            peer="::1",
            by_name=dict(self.headers),
        )

    async def read_body(self) -> bytes:
        self.log.append("body read")
        if isinstance(self.body, GatewayError):
            raise self.body
        return self.body

    async def start(self, status: int, headers: Headers) -> None:
        self.log.append(("start", status))
        self.status, self.answered = status, dict(headers)

    async def send(self, data: bytes) -> None:
        if self.gone_after is not None and len(self.sent) >= self.gone_after:
            self.gone.set_result(None)
            raise CallerGone
        self.log.append(("send", data))
        self.sent.append(data)

    @property
    def received(self) -> bytes:
        """All bytes of the body that were released."""
        return b"".join(self.sent)


@dataclass
class FakeIdentity:
    """Says that everyone is `DEV`, or raises."""

    answer: Principal | GatewayError = DEV

    async def identify(self, headers: Headers) -> Principal:
        if isinstance(self.answer, GatewayError):
            raise self.answer
        return self.answer


class FakePolicy:
    """Gives the answers it was made with, the last one for ever."""

    def __init__(self, *answers: dict[str, Any] | Failure, revision: str = REVISION) -> None:
        self._answers = list(answers or (ALLOW,))
        self._revision = revision
        self.tables = tables("older" if STALE in answers else revision)
        self.questions: list[DecisionInput] = []

    def tables_of(self, revision: str) -> Tables:
        return self.tables

    async def load_tables(self) -> Tables:
        self.tables = tables(self._revision)
        return self.tables

    async def decide(self, question: DecisionInput) -> Decision:
        self.questions.append(question)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Failure):
            raise answer
        reply = {
            "result": answer,
            "provenance": {"bundles": {"gateway": {"revision": self._revision}}},
        }
        return read_answer(msgspec.json.encode(reply), question, msgspec.json.encode(question))


class FakeJournal:
    """Keeps records in a list, and shares the log of the caller."""

    def __init__(self, log: list[Any]) -> None:
        self.records: list[Record] = []
        self.fails_at: type[Record] | str | None = None
        self.owed: list[Record] = []
        self._log = log

    def append(self, *records: Record) -> None:
        if any(self.fails_at is type(record) for record in records):
            raise Failure("recording_unavailable", "Disk full.")
        self._log += [type(record).__name__ for record in records]
        self.records += records

    def owe(self, record: Record) -> None:
        if self.fails_at is type(record):
            self.owed.append(record)
        else:
            self.append(record)

    async def durable(self) -> None:
        if self.fails_at == "durable":
            raise Failure("recording_unavailable", "Disk broken.")
        self._log.append("durable")

    @property
    def opening(self) -> Opening:
        """The one opening record."""
        (opening,) = (r for r in self.records if isinstance(r, Opening))
        return opening

    @property
    def closing(self) -> Closing:
        """The one closing record."""
        (closing,) = (r for r in self.records if isinstance(r, Closing))
        return closing


@dataclass
class FakeAnswer:
    """An answer of a Claude server: chunks, and perhaps an error at the end."""

    body: Sequence[bytes | Exception] = (b'{"type":"message","content":[]}',)
    content_type: str = "application/json"
    status: int = 200
    is_cancelled: bool = False

    def __post_init__(self) -> None:
        self.headers: Headers = [("content-type", self.content_type), ("request-id", "req_up")]

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self.body:
            if isinstance(chunk, Exception):
                raise chunk
            await asyncio.sleep(0)
            yield chunk

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class FakeUpstream:
    """Notes what was forwarded and gives one answer."""

    log: list[Any]
    answer: FakeAnswer | GatewayError = field(default_factory=FakeAnswer)
    endpoints: tuple[str, ...] = ("claude",)
    forwarded: list[tuple[str, str, bytes]] = field(default_factory=list)

    async def forward(
        self,
        endpoint: str,
        method: str,
        path: str,
        query: str,
        headers: Headers,
        body: bytes,
        gone: "asyncio.Future[None]",
    ) -> FakeAnswer:
        self.log.append("forward")
        self.forwarded.append((endpoint, path, body))
        if isinstance(self.answer, GatewayError):
            raise self.answer
        return self.answer


@dataclass
class FakeApprovals:
    """One approval request; each wait gives the next state."""

    states: list[Approval] = field(default_factory=list)
    is_new: bool = True
    grants: tuple[Approval, ...] = ()
    used: list[ApprovalId] = field(default_factory=list)
    leaves: Callable[[], None] | None = None

    async def open_or_join(
        self,
        key: str,
        exchange_id: ExchangeId,
        principal: Principal,
        request: Request,
        obligation: ApprovalObligation,
    ) -> tuple[Approval, bool]:
        return Approval(state="pending", id=ApprovalId("appr_1")), self.is_new

    def grants_of(self, principal: Principal) -> tuple[Approval, ...]:
        return self.grants

    async def wait(
        self, approval: Approval, timeout_s: float, gone: "asyncio.Future[None]"
    ) -> Approval:
        if self.leaves is not None:
            self.leaves()
        return self.states.pop(0)

    async def use(self, approval_id: ApprovalId) -> None:
        self.used.append(approval_id)

    def key_of(
        self,
        principal: Principal,
        request: Request,
        obligation: ApprovalObligation,
        value: Mapping[str, Any],
    ) -> str:
        return "key"

    def holding(self, packed_bytes: int) -> AbstractContextManager[None]:
        return nullcontext()

    def url_of(self, approval_id: ApprovalId) -> str:
        return f"https://console.test/{approval_id}"


@dataclass
class FakeLimits:
    """Notes what is charged and settled, or refuses."""

    log: list[Any]
    refusal: GatewayError | None = None
    settled: list[Usage | None] = field(default_factory=list)

    async def charge(self, limits: Mapping[str, Limit]) -> "FakeLimits":
        if limits:
            self.log.append("charge")
        if self.refusal is not None:
            raise self.refusal
        self.settled = []
        return self

    def settle(self, usage: Usage | None) -> None:
        self.settled.append(usage)


@dataclass
class FakeCuts:
    """Keeps verdicts by body in memory."""

    log: list[Any]
    held: list[tuple[Mapping[str, Any], GatewayError]] = field(default_factory=list)

    async def hold(
        self,
        principal: Principal,
        value: Mapping[str, Any],
        verdict: GatewayError,
        gone: "asyncio.Future[None]",
    ) -> None:
        self.log.append("hold the verdict")
        self.held.append((value, verdict))

    async def check(self, principal: Principal, value: Mapping[str, Any], status: int) -> None:
        for body, verdict in self.held:
            if dict(body) | {"stream": None} == dict(value) | {"stream": None}:
                raise Refusal(verdict.code, verdict.message, status=status)


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = NOW_NS

    def __call__(self) -> int:
        return self.now


@dataclass
class World:
    """A gate over fakes that write one common log."""

    caller: FakeCaller
    policy: FakePolicy = field(default_factory=FakePolicy)
    identity: FakeIdentity = field(default_factory=FakeIdentity)
    answer: FakeAnswer | GatewayError = field(default_factory=FakeAnswer)
    approvals: FakeApprovals = field(default_factory=FakeApprovals)
    clock: Clock = field(default_factory=Clock)
    conversations: Conversations = field(default_factory=lambda: Conversations(b"key"))
    scans: Scans = field(default_factory=Scans)
    seals: Seals = field(default_factory=lambda: Seals([SEAL_KEY], os.urandom))

    def __post_init__(self) -> None:
        self.log = self.caller.log
        self.journal = FakeJournal(self.log)
        self.upstream = FakeUpstream(self.log, self.answer)
        self.limits = FakeLimits(self.log)
        self.cuts = FakeCuts(self.log)
        self.strangers = Strangers(self.journal, self.clock, lambda: "evt_1")
        self.unrecorded = Unrecorded(self.journal, self.clock, lambda: "evt_1")
        questions = Questions(
            policy=self.policy,
            approvals=self.approvals,
            endpoints=self.upstream.endpoints,
            conversations=self.conversations,
            scans=self.scans,
            masks=RequestMasks(self.conversations, self.scans, self.seals),
            now_ns=self.clock,
            version="0",
        )
        self.gate = Gate(
            identity=self.identity,
            questions=questions,
            approvals=self.approvals,
            limits=self.limits,
            cuts=self.cuts,
            upstream=self.upstream,
            journal=self.journal,
            endings=Endings(self.journal, self.unrecorded),
            strangers=self.strangers,
            now_ns=self.clock,
            new_id=lambda: ExchangeId("exch_1"),
        )

    async def run(self) -> "World":
        await self.gate.run(self.caller)
        return self
