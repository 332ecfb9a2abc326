"""The decision contract: what OPA is asked and what it answers; `policies/schemas/`.

What is asked holds facts only. What is answered is total, and an unknown field is an error.
"""

from typing import Annotated, Literal

import msgspec

from gateway.domain import (
    Approval,
    ApprovalId,
    Content,
    Demand,
    Durability,
    Fact,
    Outcome,
    Protection,
    Reason,
    Request,
    Signal,
    Strict,
    UsageField,
)


class Gateway(Fact, frozen=True, kw_only=True):
    """What this version of the gateway can keep, as `field=value`."""

    version: str
    supports: tuple[str, ...]


class Net(Fact, frozen=True, kw_only=True):
    """Where the call came from: the peer of the socket."""

    peer: str


class PrincipalInput(Fact, frozen=True, kw_only=True):
    """The principal as policies see it."""

    issuer: str
    sub: str
    person: str
    kind: Literal["user", "service"]
    groups: tuple[str, ...]
    claims: dict[str, str]
    token_age_s: int


class DecisionInput(Fact, frozen=True, kw_only=True):
    """The document sent to OPA: facts only, no prompt text. `policies/schemas/input.json`."""

    schema: int = 1
    now: str
    principal: PrincipalInput
    request: Request
    signals: dict[str, Signal]
    signals_revision: str
    endpoints: tuple[str, ...]
    net: Net
    approval: Approval
    grants: tuple[Approval, ...] = ()
    """The caller's live approvals; what each covers is for policy to say."""
    locks: tuple[str, ...] = ()
    locks_age_s: float = 0.0
    gateway: Gateway


class ApprovalObligation(Strict, frozen=True, kw_only=True):
    """Whether a second person must agree, who may, and how long it holds."""

    required: bool
    satisfied: bool
    approvers: tuple[str, ...]
    """Groups whose members may decide."""
    demands: tuple[Demand, ...]
    granted_by: tuple[ApprovalId, ...]
    """The approvals that satisfy it."""
    wait_s: Annotated[int, msgspec.Meta(ge=0, le=280)]
    """How long the call is held silently; real clients give up at 300 s."""
    ttl_s: Annotated[int, msgspec.Meta(ge=0)]
    scope: Literal["request", "session", "principal"]
    reasons: tuple[str, ...]


class RecordingObligation(Strict, frozen=True, kw_only=True):
    """What of the exchange is kept, how durably, for how long, and why."""

    content: Content
    durability: Durability
    retention_class: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*$")]
    protection: Protection
    reasons: tuple[str, ...]


class MaskingObligation(Strict, frozen=True, kw_only=True):
    """Names of rules in the bundle's masks table, by direction."""

    request: tuple[str, ...]
    record: tuple[str, ...]
    response: tuple[str, ...]
    echo: Literal["allow", "mask", "refuse"]


Amount = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class Limit(Strict, frozen=True, kw_only=True):
    """A limit that applies to the call; all calls with its key share it."""

    code: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_.]*$")]
    """Of the refusal when it is reached."""
    message: Annotated[str, msgspec.Meta(min_length=1)]
    unit: Literal["requests", "tokens", "concurrent"]
    limit: Amount
    window_s: Annotated[int, msgspec.Meta(ge=1, le=31 * 86400)]
    """Within which time; of concurrent calls, how soon a refused one may be sent again."""
    cost: Amount
    """What this call is charged before it is forwarded."""
    counts: tuple[UsageField, ...]
    """Of tokens: the counts of the answer's usage that replace the cost once they are known."""


class Answer(Strict, frozen=True, kw_only=True):
    """OPA's answer, whole: every field total. `policies/schemas/decision.json`."""

    schema: Literal[1]
    allow: bool
    deny: tuple[Reason, ...]
    status: Literal[400, 403, 429, 451]
    endpoint: str
    models: tuple[str, ...]
    """The models that a list of models may show to this caller."""
    approval: ApprovalObligation
    recording: RecordingObligation
    masking: MaskingObligation
    limits: Annotated[dict[str, Limit], msgspec.Meta(max_length=32)]
    """By key; empty where there are none."""


class Decision(Fact, frozen=True, kw_only=True):
    """One decision about an exchange; immutable, with all that is needed to replay it."""

    outcome: Outcome
    answer: Answer
    revision: str
    input_json: bytes
    result_json: bytes


class AccessInput(Fact, frozen=True, kw_only=True):
    """The question about an act on the control plane. `policies/schemas/access.json`."""

    schema: int = 1
    now: str
    principal: PrincipalInput
    action: str
    resource: dict[str, str]
    """Facts of what is acted on: kind, id and owner."""
    approvers: tuple[str, ...] = ()
    """For acts on an approval: the groups that the held decision named."""
    approval: Approval | None = None
    """The approval itself, with its verdicts."""


class AccessAnswer(Strict, frozen=True, kw_only=True):
    """OPA's answer about an act on the control plane."""

    schema: Literal[1]
    allow: bool
    deny: tuple[Reason, ...]
    verdict: Literal["", "pending", "approve", "deny"]
    """What the verdicts of the approval come to; empty where there is none."""
    demands: tuple[Demand, ...]
    """What approvers are asked about the access that is asked for."""
