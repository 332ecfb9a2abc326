"""The client to the OPA sidecar, on its unix socket; fail closed.

Retries would hide an outage from the caller, so there are none. Deadlines: `slot_wait_s` for a free
connection, then `deadline_s` from the moment of sending.
"""

import asyncio

import msgspec

from gateway.contract import AccessAnswer, AccessInput, Decision, DecisionInput
from gateway.decisions import read_access, read_answer, undecided
from gateway.domain import NOT_JSON, Failure
from gateway.http1 import Broken, Connection
from gateway.masking.rules import BadRule
from gateway.pools import Pool
from gateway.tables import Tables, read_tables

_DECISION = "/v1/data/gateway/decision/main?provenance=true&strict-builtin-errors=true"
_ACCESS = "/v1/data/gateway/access/main?provenance=true&strict-builtin-errors=true"
_TABLES = "/v1/data/gateway/tables/main?provenance=true&strict-builtin-errors=true"

KEEP_ALIVE_S = 60.0


class OpaUnavailable(Exception):
    """OPA gave no usable answer: down, slow, or an error status."""


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
        self._head = f"Host: opa\r\nAuthorization: Bearer {token}\r\n".encode()
        self._deadline_s = deadline_s
        self._slot_wait_s = slot_wait_s
        self._slots = asyncio.Semaphore(connections)
        self._pool = Pool(
            socket_path=socket_path, keep_alive_s=KEEP_ALIVE_S, connect_timeout_s=deadline_s
        )

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Return status and body of a POST.

        Raises:
            OpaUnavailable: no connection, no free slot or no answer in time.
        """
        request = (
            b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        head = request % (path.encode(), self._head, len(body))
        await self._take_slot()
        try:
            return await self._send(await self._pool.take(), head, body)
        except TimeoutError as e:
            raise OpaUnavailable("OPA accepts no connection") from e
        except OSError as e:
            raise OpaUnavailable(f"OPA can't be reached: {e}") from e
        finally:
            self._slots.release()

    def close(self) -> None:
        """Close all idle connections."""
        self._pool.close()

    async def _send(self, connection: Connection, head: bytes, body: bytes) -> tuple[int, bytes]:
        reply = connection.send(head, body, self._deadline_s, renews=False)
        try:
            await reply.head()
            return reply.status, await reply.read_all()
        except Broken as e:
            raise OpaUnavailable(f"no answer from OPA: {e}") from e
        finally:
            reply.close()

    async def _take_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(self._slot_wait_s):
                await self._slots.acquire()
        except TimeoutError as e:
            raise OpaUnavailable("all connections to OPA are busy") from e


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
