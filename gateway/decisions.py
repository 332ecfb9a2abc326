"""Facts into the decision input, OPA's answer into a decision; pure.

Anything odd is a failure, and a failure never opens the way.
"""

from collections.abc import Iterator
from functools import lru_cache

import msgspec

from gateway.contract import AccessAnswer, Answer, Decision, DecisionInput, PrincipalInput
from gateway.domain import (
    CARRIED,
    NOT_JSON,
    Client,
    Context,
    Fact,
    Failure,
    Outcome,
    Principal,
    Request,
)
from gateway.messages.facts import Facts
from gateway.tables import Provenance

SUPPORTS = (
    "approval.required=true",
    "approval.scope=principal",
    "approval.scope=request",
    "approval.scope=session",
    "limits.unit=concurrent",
    "limits.unit=requests",
    "limits.unit=tokens",
    "masking.echo=allow",
    "masking.echo=mask",
    "masking.record",
    "masking.request",
    "masking.response",
    "models",
    "recording.content=metadata",
    "recording.content=none",
    "recording.durability=relaxed",
)
"""What this version can keep beside the neutral values; a decision that needs more is refused."""

_NEUTRAL = (
    ("recording", "content", "full"),
    ("recording", "durability", "strict"),
    ("recording", "protection", "plain"),
    ("masking", "request", ()),
    ("masking", "record", ()),
    ("masking", "response", ()),
    ("masking", "echo", "refuse"),
)

STALE = "signals.stale"
"""The one reason code with a meaning here: the signals were found with another revision's table."""

SESSION_HEADER = "x-claude-code-session-id"
AGENT_HEADER = "x-claude-code-agent-id"
PARENT_AGENT_HEADER = "x-claude-code-parent-agent-id"
WORKFLOW_HEADER = "x-countersign-workflow"
REPOSITORY_HEADER = "x-countersign-repository"
ENDPOINT_HEADER = "x-countersign-endpoint"
REASON_HEADER = "x-countersign-reason"

_MAX_HEADER_FACT = 256
_KEPT = 1024
"""Texts whose reading is kept: clients and policies say few different things."""


class _Reply(Fact, frozen=True, kw_only=True):
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    provenance: Provenance = Provenance()


_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_answer = msgspec.json.Decoder(Answer).decode
_decode_access = msgspec.json.Decoder(AccessAnswer).decode


def build_request(
    base: Request, facts: Facts, headers: dict[str, str], principal: Principal, body_bytes: int
) -> Request:
    """Return the facts of a request: action facts from the body, context facts with their source.

    `headers` has lower-case names.
    """
    session = _header(headers, SESSION_HEADER)
    if session is None and facts.session_id:
        session = Context(value=facts.session_id, source="content")
    return Request(
        id=base.id,
        route=base.route,
        method=base.method,
        model=facts.model,
        stream=facts.stream,
        max_tokens=facts.max_tokens,
        tools=facts.tools,
        server_tools=facts.server_tools,
        mcp_hosts=facts.mcp_hosts,
        sources=facts.sources,
        messages=facts.messages,
        body_bytes=body_bytes,
        prompt_chars=facts.prompt_chars,
        client=read_client(headers.get("user-agent", "")[:_MAX_HEADER_FACT]),
        session=session,
        agent=_header(headers, AGENT_HEADER),
        parent_agent=_header(headers, PARENT_AGENT_HEADER),
        workflow=_claim(principal, "workflow") or _header(headers, WORKFLOW_HEADER),
        repositories=tuple(
            fact
            for fact in (_claim(principal, "repository"), _header(headers, REPOSITORY_HEADER))
            if fact is not None
        ),
        output_format=facts.output_format,
        reason=_header(headers, REASON_HEADER),
        wanted_endpoint=_header(headers, ENDPOINT_HEADER),
    )


@lru_cache(maxsize=_KEPT)
def read_client(user_agent: str) -> Client | None:
    """Return the client program that a `user-agent` names.

    Claude Code says `claude-cli/2.1.197 (…)`, the SDKs `Anthropic/Python 2.12.0`.
    """
    product, _, rest = user_agent.partition(" ")
    name, _, version = product.partition("/")
    following = rest.partition(" ")[0]
    if following[:1].isdigit() and not version[:1].isdigit():
        name, version = product, following
    return Client(name=name, version=version) if name else None


def describe_principal(principal: Principal, now_s: int) -> PrincipalInput:
    """Return the principal as policies see it."""
    return PrincipalInput(
        issuer=principal.issuer,
        sub=principal.sub,
        person=principal.person,
        kind=principal.kind,
        groups=principal.groups,
        claims=principal.claims,
        token_age_s=max(0, now_s - principal.token_issued_at),
    )


def read_answer(body: bytes, question: DecisionInput, input_json: bytes) -> Decision:
    """Return the decision in OPA's reply.

    Raises:
        Failure: `policy_unavailable`, unless the answer is whole, consistent and supported.
    """
    result, revision = _read_result(body)
    answer = _read_supported(result)
    is_stale = [reason.code for reason in answer.deny] == [STALE]
    if revision != question.signals_revision and not is_stale:
        raise undecided("its tables are of another revision than its answer")
    return Decision(
        outcome=_judge(answer, question),
        answer=answer,
        revision=revision,
        input_json=input_json,
        result_json=result,
    )


def read_access(body: bytes) -> tuple[AccessAnswer, str]:
    """Return the answer about an act on the control plane, and the revision that gave it.

    Raises:
        Failure: `policy_unavailable`, unless the answer is whole and consistent.
    """
    result, revision = _read_result(body)
    try:
        answer = _decode_access(result)
    except NOT_JSON as e:
        raise undecided(f"its answer is not of the known form: {e}") from e
    if answer.allow == bool(answer.deny):
        raise undecided("its answer contradicts itself")
    return answer, revision


def _read_result(body: bytes) -> tuple[bytes, str]:
    try:
        reply = _decode_reply(body)
    except NOT_JSON as e:
        raise undecided("its reply is not JSON of the known form") from e
    if isinstance(reply.result, msgspec.UnsetType):
        raise undecided("its decision is undefined")
    if not reply.provenance.revision:
        raise undecided("it names no bundle revision")
    return bytes(reply.result), reply.provenance.revision


def _judge(answer: Answer, question: DecisionInput) -> Outcome:
    """Return the outcome; only an exact allow allows, contradictions are failures."""
    approval = answer.approval
    is_waiting = approval.required and not approval.satisfied
    if answer.allow:
        if answer.deny or is_waiting:
            raise undecided("its answer contradicts itself")
        if answer.endpoint not in question.endpoints:
            raise undecided("it names an endpoint that is not configured")
        if question.request.route not in CARRIED:
            raise undecided("it allows a route that the gateway does not carry")
        return Outcome.ALLOW
    if answer.deny:
        return Outcome.DENY
    if is_waiting:
        return Outcome.HOLD
    raise undecided("it neither allows, denies nor asks for approval")


@lru_cache(maxsize=_KEPT)
def _read_supported(result: bytes) -> Answer:
    """Return the answer that these very bytes hold."""
    try:
        answer = _decode_answer(result)
    except NOT_JSON as e:
        raise undecided(f"its answer is not of the known form: {e}") from e
    for obligation in _obligations(answer):
        if obligation not in SUPPORTS:
            raise undecided(f"it asks for {obligation}, which this version can't keep")
    return answer


def _obligations(answer: Answer) -> Iterator[str]:
    """Yield what an answer asks for beyond the neutral values."""
    if answer.approval.required:
        yield "approval.required=true"
        yield f"approval.scope={answer.approval.scope}"
    for limit in answer.limits.values():
        yield f"limits.unit={limit.unit}"
    if answer.models:
        yield "models"
    for holder, field, neutral in _NEUTRAL:
        value = getattr(getattr(answer, holder), field)
        if value != neutral:
            yield f"{holder}.{field}" if isinstance(value, tuple) else f"{holder}.{field}={value}"


def undecided(why: str) -> Failure:
    """Return the failure that every doubt about a decision is."""
    return Failure("policy_unavailable", f"The policy engine could not decide: {why}.")


def _header(headers: dict[str, str], name: str) -> Context | None:
    value = headers.get(name, "")[:_MAX_HEADER_FACT]
    return Context(value=value, source="header") if value else None


def _claim(principal: Principal, name: str) -> Context | None:
    value = principal.claims.get(name)
    return Context(value=value, source="claim") if value else None
