"""The `exchanges` row of an ended exchange.

Everything in it that came from outside may be hostile; a part that can't be read is null
or empty, and the row stays.
"""

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec

from gateway.domain import Approval, Context, Reason, Verdict
from gateway.records import Decided, Kept, Opening
from lake.rows import Exchange, Row, Texts, bounded, chain, microseconds, piece_id


class _Input(msgspec.Struct):
    approval: Approval = Approval()


class _Obligation(msgspec.Struct, frozen=True):
    reasons: tuple[str, ...] = ()


class _Result(msgspec.Struct):
    approval: _Obligation = _Obligation()


class _DecisionDocument(msgspec.Struct):
    number: int
    at_ns: int
    outcome: str
    reasons: tuple[Reason, ...]
    revision: str
    input: msgspec.Raw
    result: msgspec.Raw


logger = logging.getLogger(__name__)

_input_decoder = msgspec.json.Decoder(_Input)
_result_decoder = msgspec.json.Decoder(_Result)
_encoder = msgspec.json.Encoder()


def exchange_row(exchange: Exchange, contents: Sequence[Row], texts: Texts) -> Row:
    """Return the row of an exchange that brings these rows of `contents`."""
    return {
        **_what(exchange.opening),
        **_who(exchange.opening),
        **_request(exchange.opening),
        **_response(exchange),
        **_decision(exchange),
        **_recording(exchange),
        **_end(exchange),
        **_content(exchange, contents, texts),
        **chain(exchange.journal_id, exchange.sequence),
    }


def _what(opening: Opening) -> Row:
    request = opening.request
    return {
        "exchange_id": opening.exchange_id,
        "session_id": _value(request.session),
        "session_source": request.session.source if request.session else None,
        "agent_id": _value(request.agent),
        "parent_agent_id": _value(request.parent_agent),
        "workflow": _value(request.workflow),
        "repositories": [repository.value for repository in request.repositories],
        "started_at": microseconds(opening.at_ns),
        "route": request.route.value,
        "method": request.method,
        "path": opening.path,
        "query": opening.query or None,
    }


def _who(opening: Opening) -> Row:
    principal, client = opening.principal, opening.request.client
    return {
        "peer": opening.peer or None,
        "user_agent": opening.user_agent or None,
        "client_name": client.name if client else None,
        "client_version": client.version if client else None,
        "issuer": principal.issuer,
        "subject": principal.sub,
        "person": principal.person or None,
        "principal_kind": principal.kind,
        "groups": list(principal.groups),
        "claims": list(principal.claims.items()),
    }


def _request(opening: Opening) -> Row:
    request = opening.request
    return {
        "request_model": request.model or None,
        "stream": request.stream,
        "max_tokens": bounded(request.max_tokens) or None,
        "message_count": bounded(request.messages),
        "prompt_chars": bounded(request.prompt_chars),
        "tools": list(request.tools),
        "server_tools": list(request.server_tools),
        "mcp_hosts": list(request.mcp_hosts),
        "sources": [{"kind": s.kind, "media_type": s.media_type} for s in request.sources],
        "request_bytes": bounded(request.body_bytes),
    }


def _response(exchange: Exchange) -> Row:
    closing, answered = exchange.closing, exchange.answered
    return {
        "response_model": closing.response_model or None,
        "response_id": closing.response_id or None,
        "upstream_request_id": (answered.upstream_request_id or None) if answered else None,
        "tool_calls": list(closing.tool_calls),
        "stop_reason": closing.stop_reason or None,
        **{
            name: _bounded_or_none(count)
            for name, count in msgspec.structs.asdict(closing.usage).items()
        },
        "response_headers": list(answered.headers.items()) if answered else None,
    }


def _decision(exchange: Exchange) -> Row:
    decisions = exchange.decisions
    last = decisions[-1][1] if decisions else None
    verdicts = _verdicts(last)
    approval_ids = [r.approval_id for r in exchange.redecided]
    return {
        "outcome": last.outcome.value if last else "undecided",
        "reasons": [reason.code for reason in last.reasons] if last else [],
        "reason_messages": [reason.message for reason in last.reasons] if last else [],
        "policy_revision": (last.revision or None) if last else None,
        "decision_count": len(decisions),
        "decision_input": _text(last.input_json) if last else None,
        "decision_result": _text(last.result_json) if last else None,
        "decisions_json": _text(_encoder.encode([_document(*each) for each in decisions])),
        "endpoint": exchange.opening.endpoint or None,
        "approval_id": next(
            filter(None, [exchange.closing.approval_id, *approval_ids[::-1]]), None
        ),
        "approval_reasons": sorted({code for _, each in decisions for code in _asked_why(each)}),
        "approvers": [v.person for v in verdicts if v.verdict == "approve"],
        "verdicts": [
            {
                "verdict": v.verdict,
                "issuer": v.issuer,
                "subject": v.sub,
                "person": v.person,
                "groups": list(v.groups),
                "comment": v.comment,
                "at": v.at,
            }
            for v in verdicts
        ],
    }


def _verdicts(decided: Decided | None) -> tuple[Verdict, ...]:
    """Read the verdicts that a decision saw; an input of another form names none."""
    try:
        return _input_decoder.decode(decided.input_json).approval.verdicts if decided else ()
    except msgspec.MsgspecError:
        return ()


def _asked_why(decided: Decided) -> tuple[str, ...]:
    """Read why a decision asked for approval; a result of another form names nothing."""
    try:
        return _result_decoder.decode(decided.result_json).approval.reasons
    except msgspec.MsgspecError:
        return ()


def _document(at_ns: int, decided: Decided) -> _DecisionDocument:
    return _DecisionDocument(
        number=decided.number,
        at_ns=at_ns,
        outcome=decided.outcome.value,
        reasons=decided.reasons,
        revision=decided.revision,
        input=msgspec.Raw(decided.input_json or b"null"),
        result=msgspec.Raw(decided.result_json or b"null"),
    )


def _recording(exchange: Exchange) -> Row:
    recording = exchange.opening.recording
    return {
        "recording_content": recording.content,
        "recording_durability": recording.durability,
        "recording_protection": recording.protection,
        "recording_reasons": list(recording.reasons),
        "retention_class": recording.retention_class,
        "masks_applied": [
            {"rule": m.rule, "place": m.where, "count": bounded(m.count)}
            for m in exchange.closing.masks
        ],
    }


def _end(exchange: Exchange) -> Row:
    closing, start_ns = exchange.closing, exchange.opening.at_ns
    first_ns, token_ns = closing.first_byte_ns, closing.first_token_ns
    return {
        "ended_at": microseconds(closing.at_ns),
        "status": closing.status or None,
        "ending": closing.ending.value,
        "error_code": closing.error_code or None,
        "error_message": closing.error_message or None,
        "released_bytes": bounded(closing.released_bytes),
        "time_to_first_byte_ms": None if first_ns is None else (first_ns - start_ns) / 1e6,
        "time_to_first_token_ms": None if token_ns is None else (token_ns - start_ns) / 1e6,
        "duration_ms": (closing.at_ns - start_ns) / 1e6,
    }


def _content(exchange: Exchange, contents: Sequence[Row], texts: Texts) -> Row:
    pieces, response = exchange.new_pieces, exchange.response_body
    kind, exchange_id = exchange.response_type, exchange.opening.exchange_id
    return {
        "prompt_text": _read_text(
            exchange_id, "prompt", lambda: texts.prompt_text(pieces) if pieces else ""
        ),
        "response_text": _read_text(
            exchange_id, "response", lambda: texts.response_text(kind, response) if response else ""
        ),
        "request_headers": list(exchange.opening.headers.items()),
        "base_exchange_id": exchange.opening.base if exchange.request_parts else None,
        "request_parts": _request_parts(exchange),
        "content_digests": [
            {"piece_id": row["piece_id"], "digest": row["digest"]} for row in contents
        ],
        "response_pieces": [piece_id(exchange_id, "response", 0)] if response else [],
        "chunk_offsets": _chunk_offsets(exchange),
    }


def _request_parts(exchange: Exchange) -> list[Mapping[str, object]]:
    numbers = itertools.count()
    return [
        {"piece_id": "", "start": part.start, "count": part.count}
        if isinstance(part, Kept)
        else {
            "piece_id": piece_id(exchange.opening.exchange_id, "request", next(numbers)),
            "start": 0,
            "count": 1,
        }
        for part in exchange.request_parts
    ]


def _read_text(exchange_id: str, what: str, read: Callable[[], str]) -> str | None:
    """Return a text for people to find; what its reader trips over costs the text, never the row.

    The recorder would stop at the row for ever, and nothing more would be recorded: so whatever the
    reader raises is caught, and said in the log.
    """
    try:
        return read() or None
    except Exception as e:  # noqa: BLE001 - see above
        logger.warning("text_not_read exchange=%s text=%s error=%r", exchange_id, what, e)
        return None


def _chunk_offsets(exchange: Exchange) -> list[Mapping[str, object]]:
    end, offsets = 0, list[Mapping[str, object]]()
    for chunk in exchange.chunks:
        end += chunk.size
        at_ms = (chunk.at_ns - exchange.opening.at_ns) / 1e6
        offsets.append({"end_byte": end, "at_ms": at_ms})
    return offsets


def _value(context: Context | None) -> str | None:
    return context.value if context else None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _bounded_or_none(number: int | None) -> int | None:
    return None if number is None else bounded(number)
