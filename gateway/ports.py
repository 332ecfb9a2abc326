"""What the gate needs from the outside, as Protocols; each has one adapter and one fake."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from gateway.contract import ApprovalObligation, Decision, DecisionInput, Limit
from gateway.domain import Approval, ApprovalId, ExchangeId, Fact, GatewayError, Principal, Request
from gateway.records import Record, Usage
from gateway.tables import Tables

if TYPE_CHECKING:
    import asyncio

Headers = Sequence[tuple[str, str]]
"""Names in lower case, as they are compared, and values; in order."""


class Arrival(Fact, frozen=True, kw_only=True):
    """A call as it arrived, before anything is known of it."""

    method: str
    path: str
    """Raw: still encoded, without the query."""
    query: str
    """Raw: still encoded."""
    headers: Headers
    peer: str
    by_name: dict[str, str]
    """Headers by name; of repeated ones the first."""


class CallerGone(Exception):
    """The caller closed its connection."""


class Caller(Protocol):
    """The other end of a call."""

    arrival: Arrival
    gone: "asyncio.Future[None]"
    """Done as soon as the caller's connection is lost."""

    async def read_body(self) -> bytes:
        """Return the whole body; raises `Refusal` where it can't be taken."""

    async def start(self, status: int, headers: Headers) -> None:
        """Release status and headers."""

    async def send(self, data: bytes) -> None:
        """Release bytes of the body; raises `CallerGone`."""


class Identity(Protocol):
    """Validates a caller's credential."""

    async def identify(self, headers: Headers) -> Principal:
        """Return who calls.

        Raises:
            Unauthenticated: no credential or a bad one.
            Failure: it can't be checked now.
        """


class Policy(Protocol):
    """The decision point."""

    @property
    def tables(self) -> Tables:
        """The tables of the newest revision known here."""

    def tables_of(self, revision: str) -> Tables:
        """Return the tables of the revision that decided."""

    async def load_tables(self) -> Tables:
        """Load the tables of the active revision."""

    async def decide(self, question: DecisionInput) -> Decision:
        """Return the decision; raises `Failure` for every doubt."""


class Journal(Protocol):
    """Where records go before anything is delivered."""

    def append(self, *records: Record) -> None:
        """Write records, all or none; raises `Failure` if they can't be written."""

    def owe(self, record: Record) -> None:
        """Write a record that ends an exchange; one that can't be written is kept until it can."""

    async def durable(self) -> None:
        """Wait until all that was appended is on disk; raises `Failure` if it can't be."""


class Answer(Protocol):
    """An answer of the Claude server under way."""

    status: int
    headers: Headers

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; raises `Failure` if it breaks off."""

    def cancel(self) -> None:
        """Cancel the call at once; a pending read fails."""


class Upstream(Protocol):
    """The configured Claude servers."""

    endpoints: tuple[str, ...]

    async def forward(
        self,
        endpoint: str,
        method: str,
        path: str,
        query: str,
        headers: Headers,
        body: bytes,
        gone: "asyncio.Future[None]",
    ) -> Answer:
        """Send a call and return its answer once status and headers are there.

        As soon as `gone` is done the call is cancelled, also while its answer is under way.

        Raises:
            Failure: the server can't be reached or refuses the gateway's own credential.
            CallerGone: `gone` was done before the answer began.
        """


class Approvals(Protocol):
    """Approval requests, shared by all workers."""

    async def open_or_join(
        self,
        key: str,
        exchange_id: ExchangeId,
        principal: Principal,
        request: Request,
        obligation: ApprovalObligation,
    ) -> tuple[Approval, bool]:
        """Return the live approval request of `key`, and whether it was opened just now."""

    def grants_of(self, principal: Principal) -> tuple[Approval, ...]:
        """Return what was approved for a caller beyond one request and has not ended."""

    async def wait(
        self, approval: Approval, timeout_s: float, gone: "asyncio.Future[None]"
    ) -> Approval:
        """Return it once it is not as it was, or at the end of the wait."""

    async def use(self, approval_id: ApprovalId) -> None:
        """Note that the one call which it covers was carried out; raises `Failure`."""

    def key_of(
        self,
        principal: Principal,
        request: Request,
        obligation: ApprovalObligation,
        value: Mapping[str, Any],
    ) -> str:
        """Return an HMAC by which calls are known that one approval would cover."""

    def holding(self, packed_bytes: int) -> AbstractContextManager[None]:
        """Count a held body while inside; raises `Failure` when too many bytes are held."""

    def url_of(self, approval_id: ApprovalId) -> str:
        """Return where an approver finds it."""


class Charge(Protocol):
    """What a call was charged."""

    def settle(self, usage: Usage | None) -> None:
        """End the call, once: charge what it used, or where that is unknown what was charged."""


class Limits(Protocol):
    """The limits that all workers share."""

    async def charge(self, limits: Mapping[str, Limit]) -> Charge:
        """Charge a call to all its limits, or to none.

        Raises:
            Refusal: a limit is reached.
            Failure: nobody knows now.
        """


class Cuts(Protocol):
    """Verdicts that cut a stream, shared by all workers."""

    async def hold(
        self,
        principal: Principal,
        value: Mapping[str, Any],
        verdict: GatewayError,
        gone: "asyncio.Future[None]",
    ) -> None:
        """Keep a verdict about a body, and return when every worker knows of it."""

    async def check(self, principal: Principal, value: Mapping[str, Any], status: int) -> None:
        """Raise a verdict that holds for this body as a `Refusal` with this status."""
