"""An exchange under way: what is known of it so far, and the records that say so; no I/O."""

from collections.abc import Callable

from gateway.clock import never_back
from gateway.contract import Decision
from gateway.conversations import Kinship
from gateway.domain import (
    ApprovalId,
    Ending,
    ExchangeId,
    Failure,
    GatewayError,
    Principal,
    Request,
    Route,
)
from gateway.masking.answers import Tally
from gateway.messages.answers import AnswerFacts
from gateway.messages.errors import error_kind, one_line
from gateway.messages.sse import error_event
from gateway.ports import Arrival, Headers
from gateway.records import (
    Answered,
    Chunk,
    Closing,
    Decided,
    Event,
    Opening,
    Part,
    Record,
    Recording,
    Redecided,
    Usage,
)

UNDECIDED = Recording(
    content="metadata",
    durability="strict",
    retention_class="undecided",
    protection="plain",
    reasons=("undecided",),
)
"""How an exchange is recorded that policy never decided."""

DAY_NS = 24 * 3600 * 10**9

_KEPT_PREFIXES = ("anthropic-", "x-claude-code-", "x-countersign-", "x-stainless-")


class Exchange:
    """The mutable state of one exchange; its methods make its records."""

    def __init__(
        self,
        exchange_id: ExchangeId,
        arrival: Arrival,
        principal: Principal,
        now_ns: Callable[[], int],
    ) -> None:
        self.id = exchange_id
        self.arrival = arrival
        self.principal = principal
        self.request = Request(id=exchange_id, route=Route.UNKNOWN, method=arrival.method)
        self.decision: Decision | None = None
        """The last decision."""
        self.approval_id: ApprovalId | None = None
        self.was_held = False
        """Whether it waited for `approval_id`; else that is a grant."""
        self.status = 0
        """Of the answer, once it is known what will be released."""
        self.is_open = False
        """Whether the opening record was written."""
        self.is_closed = False
        self.is_answering = False
        """Whether the head of a streamed answer was released."""
        self.facts = AnswerFacts()
        self.tally = Tally()
        self.released_bytes = 0
        self.last_words = b""
        """The error event that ends a stream that broke off."""
        self._now_ns = never_back(now_ns)
        self._arrived_ns = self._now_ns()
        self._first_byte_ns: int | None = None
        self._first_token_ns: int | None = None
        self._decisions = 0
        self._recording = UNDECIDED
        self._ending: Ending | None = None
        self._error_code = ""

    @property
    def decided(self) -> Decision:
        """The last decision; only asked where one was taken."""
        if self.decision is None:
            raise Failure("policy_unavailable", "The exchange was not decided.")
        return self.decision

    @property
    def durability(self) -> str:
        """How the records of this exchange reach the disk."""
        return self._recording.durability

    @property
    def keeps_content(self) -> bool:
        """Whether bodies are recorded."""
        return self._recording.content == "full"

    @property
    def known_usage(self) -> Usage | None:
        """The tokens that the server vouches for; None where it may have used more than it said."""
        if self.facts.stop_reason and self.facts.usage != Usage():
            return self.facts.usage
        return Usage() if self.status >= 400 and not self.is_answering else None

    @property
    def may_be_resend(self) -> bool:
        """Whether this may be the re-send of a stream that was cut."""
        return self.request.route is Route.MESSAGES and not self.request.stream

    def note_decision(self, decision: Decision) -> None:
        """Take the newest decision."""
        self.decision = decision
        self._decisions += 1
        recording = decision.answer.recording
        self._recording = Recording(
            content=recording.content,
            durability=recording.durability,
            retention_class=recording.retention_class,
            protection=recording.protection,
            reasons=recording.reasons,
        )

    # --- records ----------------------------------------------------------------------------------

    def open(
        self, parts: tuple[Part, ...] | None = None, base: ExchangeId | None = None
    ) -> Opening:
        """Return the opening record; `parts` is the request as recorded, over that of `base`."""
        arrival = self.arrival
        return Opening(
            exchange_id=self.id,
            at_ns=self._arrived_ns,
            peer=arrival.peer,
            user_agent=arrival.by_name.get("user-agent", "")[:512],
            path=arrival.path[:2048],
            query=arrival.query[:2048],
            headers={
                n: v[:1024] for n, v in arrival.by_name.items() if n.startswith(_KEPT_PREFIXES)
            },
            principal=self.principal,
            request=self.request,
            decision=self._decided_record() if self.decision else None,
            endpoint=self.decision.answer.endpoint if self.decision else "",
            recording=self._recording,
            base=base,
            parts=parts,
        )

    def redecided(self) -> Redecided:
        """Return the record of a further decision."""
        return Redecided(
            exchange_id=self.id,
            at_ns=self._now_ns(),
            decision=self._decided_record(),
            approval_id=self.approval_id,
        )

    def answer(self, status: int, headers: Headers, upstream_request_id: str) -> Answered:
        """Return the record of status and headers, to be written before they are released."""
        self.status = status
        return Answered(
            exchange_id=self.id,
            at_ns=self._now_ns(),
            status=status,
            headers=dict(headers),
            upstream_request_id=upstream_request_id,
        )

    def chunk(self, data: bytes) -> Chunk:
        """Return the record of bytes about to be released."""
        now_ns = self._now_ns()
        if self._first_byte_ns is None:
            self._first_byte_ns = now_ns
        if self._first_token_ns is None and self.facts.has_content:
            self._first_token_ns = now_ns
        self.released_bytes += len(data)
        kept = data if self.keeps_content else b""
        return Chunk(exchange_id=self.id, at_ns=now_ns, data=kept, size=len(data))

    def break_off(self, error: GatewayError) -> Chunk:
        """Return the record of the error event that ends a stream before its end."""
        sentence = f"{one_line(error.message)} [{error.code}, {self.id}]"
        status = error.status if isinstance(error, Failure) else 400
        self.last_words = error_event(error_kind(status), sentence)
        return self.chunk(self.last_words)

    def close(self, ending: Ending, error: GatewayError | None) -> Closing:
        """Return the closing record; called once."""
        self._ending = ending
        facts = self.facts
        self._error_code = error.code if error else one_line(facts.error_type)[:64]
        counts = self._recording.content != "none"
        closing = Closing(
            exchange_id=self.id,
            at_ns=self._now_ns(),
            ending=ending,
            status=self.status,
            error_code=self._error_code,
            error_message=error.message if error else facts.error_message,
            approval_id=self.approval_id,
            first_byte_ns=self._first_byte_ns,
            first_token_ns=self._first_token_ns,
            released_bytes=self.released_bytes,
            response_model=facts.model,
            response_id=facts.response_id,
            stop_reason=facts.stop_reason,
            tool_calls=tuple(facts.tool_calls) if counts else (),
            usage=facts.usage if counts else AnswerFacts().usage,
            masks=self.tally.applied(),
        )
        self.is_closed = True
        return closing

    def take_back(self, records: tuple[Record, ...], failure: Failure) -> None:
        """Note that the bytes in these records will not be released after all."""
        self.released_bytes -= sum(record.size for record in records if isinstance(record, Chunk))
        if not self.is_answering:
            self.status = failure.status

    def event(self, kind: str, reason: str) -> Event:
        """Return an audit event about this exchange."""
        return Event(
            event_id=f"{self.id}/{kind}",
            at_ns=self._now_ns(),
            kind=kind,
            issuer=self.principal.issuer,
            sub=self.principal.sub,
            person=self.principal.person,
            exchange_id=self.id,
            session_id=self.session_id,
            peer=self.arrival.peer,
            reason=reason,
            revision=self.decision.revision if self.decision else "",
        )

    @property
    def masks(self) -> tuple[str, ...]:
        """The names of the rules by which the request is masked for the record.

        What the model does not see is not recorded either.
        """
        masking = self.decided.answer.masking
        return tuple(sorted({*masking.request, *masking.record}))

    @property
    def kinship(self) -> Kinship:
        """What an exchange must have in common with this one to share pieces with it."""
        request, recording = self.request, self._recording
        return Kinship(
            issuer=self.principal.issuer,
            sub=self.principal.sub,
            session_id=self.session_id,
            agent_id=request.agent.value if request.agent else "",
            route=request.route,
            model=request.model,
            day=self._arrived_ns // DAY_NS,
            retention_class=recording.retention_class,
            protection=recording.protection,
            content=recording.content,
            revision=self.decided.revision,
            masks=self.masks,
        )

    @property
    def session_id(self) -> str:
        """The conversation this exchange belongs to; its own id where the client names none."""
        return self.request.session.value if self.request.session else self.id

    def summary(self) -> str:
        """Return the one log line of the exchange; no content, no credential."""
        outcome = self.decision.outcome if self.decision else "undecided"
        return (
            f"exchange={self.id} route={self.request.route} outcome={outcome} "
            f"ending={self._ending} status={self.status} error={self._error_code or '-'} "
            f"released_bytes={self.released_bytes} "
            f"ms={(self._now_ns() - self._arrived_ns) / 1e6:.1f}"
        )

    def _decided_record(self) -> Decided:
        decision = self.decided
        return Decided(
            number=self._decisions,
            outcome=decision.outcome,
            reasons=decision.answer.deny,
            revision=decision.revision,
            input_json=decision.input_json,
            result_json=decision.result_json,
        )
