"""The client to the OPA sidecar: small, raw asyncio on its unix socket, fail closed.

A general HTTP client costs three times the CPU on this path; retries would hide an outage from the
caller, so there are none. Deadlines: `slot_wait_s` for a free connection, then `deadline_s` from
the moment of sending.
"""

import asyncio
from typing import Any

import httptools
import msgspec

from gateway.decisions import read_access, read_answer, undecided
from gateway.domain import NOT_JSON, AccessAnswer, AccessInput, Decision, DecisionInput, Failure
from gateway.masking.rules import BadRule
from gateway.tables import Tables, read_tables

_DECISION = "/v1/data/gateway/decision/main?provenance=true&strict-builtin-errors=true"
_ACCESS = "/v1/data/gateway/access/main?provenance=true&strict-builtin-errors=true"
_TABLES = "/v1/data/gateway/tables/main?provenance=true&strict-builtin-errors=true"


class OpaUnavailable(Exception):
    """OPA gave no usable answer: down, slow, or an error status."""


class _Connection(asyncio.Protocol):
    """One keep-alive connection; carries one query at a time."""

    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._body: list[bytes] = []
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream transport, by create_unix_connection
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.is_open = False
        if self._answer and not self._answer.done():
            self._answer.set_exception(OpaUnavailable("OPA closed the connection"))

    # Called by the parser.

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.close()
        if self._answer and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), b"".join(self._body)))

    # Called by the pool.

    async def send(self, request: bytes, deadline_s: float) -> tuple[int, bytes]:
        """Send one request and return status and body; raises `OpaUnavailable` at the deadline."""
        if self._transport is None:
            raise OpaUnavailable("not connected")
        loop = asyncio.get_running_loop()
        self._parser, self._body = httptools.HttpResponseParser(self), []
        answer: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self._answer = answer
        late = OpaUnavailable(f"no answer from OPA within {deadline_s} s")
        deadline = loop.call_later(deadline_s, _fail, answer, late)
        self._transport.write(request)
        try:
            return await answer
        finally:
            deadline.cancel()

    def close(self) -> None:
        """Close the connection; an answer still awaited fails."""
        self.is_open = False
        if self._transport is not None:
            self._transport.close()


def _fail(answer: "asyncio.Future[tuple[int, bytes]]", error: OpaUnavailable) -> None:
    if not answer.done():
        answer.set_exception(error)


class OpaClient:
    """A bounded pool of connections to one OPA."""

    def __init__(
        self,
        socket_path: str,
        token: str,
        *,
        deadline_s: float = 0.25,
        slot_wait_s: float = 1.0,
        connections: int = 4,
    ) -> None:
        self._socket_path = socket_path
        self._head = f"Host: opa\r\nAuthorization: Bearer {token}\r\n".encode()
        self._deadline_s = deadline_s
        self._slot_wait_s = slot_wait_s
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Return status and body of a POST.

        Raises:
            OpaUnavailable: no connection, no free slot or no answer in time.
        """
        request = (
            b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        )
        return await self._send(request % (path.encode(), self._head, len(body), body))

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()

    async def _send(self, request: bytes) -> tuple[int, bytes]:
        await self._take_slot()
        connection: _Connection | None = None
        try:
            connection = await self._connect()
            answer = await connection.send(request, self._deadline_s)
        except OSError as e:
            raise OpaUnavailable(f"OPA can't be reached: {e}") from e
        else:
            if connection.is_open:
                self._idle.append(connection)
                connection = None
            return answer
        finally:
            self._slots.release()
            if connection is not None:
                connection.close()

    async def _take_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(self._slot_wait_s):
                await self._slots.acquire()
        except TimeoutError as e:
            raise OpaUnavailable("all connections to OPA are busy") from e

    async def _connect(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._deadline_s):
                _, connection = await loop.create_unix_connection(_Connection, self._socket_path)
        except TimeoutError as e:
            raise OpaUnavailable("OPA accepts no connection") from e
        return connection


class Policy:
    """The policy decision point, as the gate and the console see it."""

    def __init__(self, client: OpaClient) -> None:
        self._client = client
        self._encode = msgspec.json.Encoder().encode
        self._tables: dict[str, Tables] = {}
        """By revision, the newest last; two are kept, for exchanges that are under way."""

    @property
    def tables(self) -> Tables:
        """The newest tables; raises `Failure` when none were loaded yet."""
        if not self._tables:
            raise Failure("policy_unavailable", "No policy is loaded yet; try again shortly.")
        return next(reversed(self._tables.values()))

    def tables_of(self, revision: str) -> Tables:
        """Return the tables that a decision of `revision` names rules of."""
        try:
            return self._tables[revision]
        except KeyError as e:
            raise undecided("the tables of the deciding revision are not loaded") from e

    async def load_tables(self) -> Tables:
        """Load the mask and signal tables of the active revision.

        Raises:
            Failure: `policy_unavailable`, when they can't be had or do not compile.
        """
        body = await self._query(_TABLES, b"{}")
        try:
            tables = read_tables(body)
        except (*NOT_JSON, BadRule) as e:
            raise undecided(f"its tables can't be used: {e}") from e
        self._tables.pop(tables.revision, None)
        self._tables[tables.revision] = tables
        for old in list(self._tables)[:-2]:
            del self._tables[old]
        return tables

    async def decide(self, question: DecisionInput) -> Decision:
        """Ask the one question of an exchange.

        Raises:
            Failure: `policy_unavailable`, for anything but a whole and supported answer.
        """
        input_json = self._encode(question)
        body = await self._query(_DECISION, b'{"input":%b}' % input_json)
        return read_answer(body, question, input_json)

    async def decide_access(self, question: AccessInput) -> tuple[AccessAnswer, str]:
        """Ask whether an act on the control plane is allowed; returns the revision too."""
        body = await self._query(_ACCESS, b'{"input":%b}' % self._encode(question))
        return read_access(body)

    async def _query(self, path: str, body: bytes) -> bytes:
        try:
            status, answer = await self._client.post(path, body)
        except OpaUnavailable as e:
            raise undecided(str(e)) from e
        if status != 200:
            raise undecided(f"it answered with status {status}")
        return answer
