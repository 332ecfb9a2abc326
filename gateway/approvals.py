"""The gate's side of approvals: opens and joins requests, waits for verdicts, knows grants.

Waiting costs no query: what changed comes from the worker's one feed of changes.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from gateway.approval_store import ApprovalRequest, ApprovalStore
from gateway.clock import format_time
from gateway.contract import ApprovalObligation
from gateway.domain import Approval, ApprovalId, ExchangeId, Failure, Principal, Refusal, Request
from gateway.state import digest_call, shared_key

MAX_HELD_BYTES = 256 * 1024 * 1024
"""Of packed bodies that wait in one worker."""

_T = TypeVar("_T")


class ApprovalWaits:
    """Opens, joins and waits without blocking the loop."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        now_ns: Callable[[], int],
        new_id: Callable[[], str],
        console_url: str,
    ) -> None:
        self._store = ApprovalStore(engine, now_ns)
        self._now_ns = now_ns
        self._new_id = new_id
        self._console_url = console_url
        self._secret = shared_key(engine, "approval-keys")
        self._held_bytes = 0
        self._live: dict[str, ApprovalRequest] = {}
        self._grants: dict[tuple[str, str], list[ApprovalRequest]] = {}
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")

    # --- what the feed of changes brings ----------------------------------------------------------

    def load(self) -> Sequence[ApprovalRequest]:
        """Return all live requests; blocking."""
        return self._store.live()

    def take(self, live: Sequence[ApprovalRequest]) -> None:
        """Know all live requests, and wake those who wait."""
        self._live = {each.id: each for each in live}
        self._grants = {}
        for each in live:
            if each.state == "approved":
                self._grants.setdefault((each.issuer, each.sub), []).append(each)
        self._changed.set()
        self._changed = asyncio.Event()

    def grants_of(self, principal: Principal) -> tuple[Approval, ...]:
        """Return what was approved for a caller beyond one request and has not ended."""
        now = format_time(self._now_ns())
        return tuple(
            each.as_fact()
            for each in self._grants.get((principal.issuer, principal.sub), ())
            if each.scope != "request" and each.expires_at > now
        )

    # --- opening and waiting ----------------------------------------------------------------------

    def key_of(
        self,
        principal: Principal,
        request: Request,
        obligation: ApprovalObligation,
        value: Mapping[str, Any],
    ) -> str:
        """Return an HMAC by which calls are known that one approval would cover.

        What was judged counts too: an approver must have seen what is let through.
        """
        context = [
            principal.issuer,
            principal.sub,
            obligation.scope,
            msgspec.to_builtins(obligation.demands),
            claimed_workflow(request),
        ]
        match obligation.scope:
            case "principal":
                return digest_call(self._secret, context, {})
            case "session":
                session = request.session.value if request.session else ""
                return digest_call(self._secret, [*context, session], {})
            case "request":
                workflow = request.workflow and request.workflow.value
                context += [request.route, workflow, [r.value for r in request.repositories]]
                return digest_call(self._secret, context, value)

    @contextmanager
    def holding(self, packed_bytes: int) -> Iterator[None]:
        """Count a held body while inside; raises `Failure` when too many bytes are held."""
        if self._held_bytes + packed_bytes > MAX_HELD_BYTES:
            raise Failure("approval_capacity", "Too many calls wait for approval here; try later.")
        self._held_bytes += packed_bytes
        try:
            yield
        finally:
            self._held_bytes -= packed_bytes

    def url_of(self, approval_id: ApprovalId) -> str:
        """Return where an approver finds it."""
        return f"{self._console_url}/api/v1/approvals/{approval_id}"

    async def open_or_join(
        self,
        key: str,
        exchange_id: ExchangeId,
        principal: Principal,
        request: Request,
        obligation: ApprovalObligation,
    ) -> tuple[Approval, bool]:
        """Return the live approval request of `key`, and whether it was opened just now."""
        now_ns = self._now_ns()
        row = {
            "id": self._new_id(),
            "key": key,
            "exchange_id": exchange_id,
            "session_id": request.session.value[:128] if request.session else "",
            "issuer": principal.issuer,
            "sub": principal.sub,
            "person": principal.person,
            "model": request.model[:256],
            "repositories": [fact.value for fact in request.repositories],
            "workflow": claimed_workflow(request),
            "reason": request.reason.value if request.reason else "",
            "approvers": list(obligation.approvers),
            "demands": msgspec.to_builtins(obligation.demands),
            "reasons": list(obligation.reasons),
            "scope": obligation.scope,
            "ttl_s": obligation.ttl_s,
            "state": "pending",
            "kind": "call",
            "created_at": now_ns,
            "expires_at": now_ns + obligation.ttl_s * 10**9,
        }
        is_new = await self._call(self._store.open_or_join, row)
        return await self._read(ApprovalId(str(row["id"]))), is_new

    async def wait(
        self, approval: Approval, timeout_s: float, gone: "asyncio.Future[None]"
    ) -> Approval:
        """Return it once it is not as it was, or at the end of the wait."""
        if approval.id is None:
            return approval
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while True:
            known = self._live.get(approval.id)
            if known is not None and (seen := known.as_fact()) != approval:
                return seen
            changed = asyncio.ensure_future(self._changed.wait())
            left_s = max(0.0, until_s - loop.time())
            try:
                await asyncio.wait(
                    (gone, changed), timeout=left_s, return_when=asyncio.FIRST_COMPLETED
                )
                is_changed = changed.done()
            finally:
                changed.cancel()
            if gone.done() or not is_changed:
                return approval
            if approval.id not in self._live:  # it has ended
                return await self._read(approval.id)

    async def use(self, approval_id: ApprovalId) -> None:
        """Note that the one call which it covers was carried out; raises `Failure`."""
        with suppress(Refusal):  # the same call, sent twice at once, has used it
            await self._call(self._store.move, approval_id, "use")

    async def _read(self, approval_id: ApprovalId) -> Approval:
        found = await self._call(self._store.find, approval_id)
        if found is None:
            return Approval(state="expired", id=approval_id)
        return found.as_fact()

    async def _call(self, function: Callable[..., _T], *args: Any) -> _T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, function, *args)
        except SQLAlchemyError as e:
            raise Failure("state_unavailable", "Approvals can't be looked up now.") from e


def claimed_workflow(request: Request) -> str:
    """Return the workflow that the caller's token claims; no other may widen anything."""
    workflow = request.workflow
    return workflow.value[:256] if workflow and workflow.source == "claim" else ""
