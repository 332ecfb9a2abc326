"""The vocabulary of the gateway: frozen types and the errors that callers can see.

Knows nothing of HTTP, OPA, files or time. Every type is a frozen `msgspec.Struct`, so that the
same declaration is the type, its JSON form towards OPA and its MessagePack form in the journal.
"""

from enum import StrEnum
from typing import Annotated, Literal, NewType

import msgspec

ExchangeId = NewType("ExchangeId", str)
ApprovalId = NewType("ApprovalId", str)

Content = Literal["full", "metadata", "none"]
Durability = Literal["strict", "relaxed"]
Protection = Literal["plain", "sealed"]
ContextSource = Literal["claim", "header", "content"]
UsageField = Literal[
    "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"
]


class Route(StrEnum):
    """The routes of the API that the gateway tells apart."""

    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    MODELS = "models"
    """The list of models."""
    MODEL = "model"
    """One model, by its id."""
    BATCHES = "batches"
    FILES = "files"
    UNKNOWN = "unknown"


CARRIED = frozenset({Route.MESSAGES, Route.COUNT_TOKENS, Route.MODELS, Route.MODEL})
"""What the gateway can carry; what policy allows beyond it is refused all the same."""


class Outcome(StrEnum):
    """What a decision means for the call. Every doubt is DENY."""

    ALLOW = "allow"
    DENY = "deny"
    HOLD = "hold"


class Ending(StrEnum):
    """How an exchange ended, as its closing record says."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the types below: frozen, keyword-only."""


class Strict(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is read from outside: an unknown field is an error, never ignored."""


# --- who asks -----------------------------------------------------------------------------------


class Principal(Fact, frozen=True, kw_only=True):
    """An authenticated caller. Made only from a validated token."""

    issuer: str
    sub: str
    person: str
    """One human behind several accounts; `issuer|sub` where no claim is configured."""
    kind: Literal["user", "service"]
    groups: tuple[str, ...] = ()
    claims: dict[str, str] = {}
    """The claims named in the settings, by the name that policies use."""
    token_issued_at: int
    """Seconds since the epoch."""
    token_expires_at: int


# --- what is asked ------------------------------------------------------------------------------


class Context(Fact, frozen=True, kw_only=True):
    """A context fact and where it was read: only a `claim` may widen anything."""

    value: str
    source: ContextSource


class Client(Fact, frozen=True, kw_only=True):
    """The client program, by its own word."""

    name: str
    version: str
    source: ContextSource = "header"


class Source(Fact, frozen=True, kw_only=True):
    """A source block of the request: where content comes from and what it is."""

    kind: str
    media_type: str = ""


class Request(Fact, frozen=True, kw_only=True):
    """The facts of a request. Action facts come from the very bytes that are forwarded."""

    id: ExchangeId
    route: Route
    method: str
    model: str = ""
    stream: bool = False
    max_tokens: int = 0
    tools: tuple[str, ...] = ()
    server_tools: tuple[str, ...] = ()
    mcp_hosts: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    messages: int = 0
    body_bytes: int = 0
    prompt_chars: int = 0
    client: Client | None = None
    session: Context | None = None
    agent: Context | None = None
    parent_agent: Context | None = None
    workflow: Context | None = None
    repositories: tuple[Context, ...] = ()
    output_format: str = ""
    """The type of the form that the answer must have, such as `json_schema`."""
    reason: Context | None = None
    """Why the caller asks, for approvers to read."""
    wanted_endpoint: Context | None = None
    """The endpoint that the caller chooses, of those that policy lets it choose."""


class Signal(Fact, frozen=True, kw_only=True):
    """A named pattern of the bundle that occurred in the prompt."""

    count: int
    captures: tuple[str, ...] = ()
    is_cut: bool = False
    """Whether there were more captures than are listed."""


# --- approval -----------------------------------------------------------------------------------


class Verdict(Fact, frozen=True, kw_only=True):
    """What an approver said, with who they were at that time."""

    verdict: Literal["approve", "deny"]
    issuer: str
    sub: str
    person: str
    groups: tuple[str, ...]
    comment: str
    at: str
    """RFC 3339, UTC."""


class Demand(Strict, frozen=True, kw_only=True):
    """What one rule demands of approvers, and about what."""

    code: str
    about: str
    """What is approved, e.g. a repository; a name of the policy's own, never the prompt's."""
    approvers: tuple[str, ...]
    quorum: Annotated[int, msgspec.Meta(ge=1)]
    """How many persons must agree, of all the groups or of each."""
    all_groups: bool
    """Whether each of the groups must agree."""


class Approval(Fact, frozen=True, kw_only=True):
    """An approval request: the one that a call waits for, or a grant that it left."""

    state: Literal[
        "none", "pending", "approved", "denied", "expired", "withdrawn", "used", "revoked"
    ] = "none"
    id: ApprovalId | None = None
    kind: Literal["call", "access", "emergency"] = "call"
    """Asked for by a call, asked for beforehand, or taken in an emergency."""
    scope: str = "request"
    session: str = ""
    """The session in which it was asked for."""
    workflow: str = ""
    """The workflow that the requester's token claimed."""
    expires_at: str = ""
    demands: tuple[Demand, ...] = ()
    """What approvers were asked, when they were."""
    verdicts: tuple[Verdict, ...] = ()


class Reason(Strict, frozen=True, kw_only=True):
    """Why: a stable dotted code and one sentence for the person."""

    code: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_.]*$")]
    message: str


NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding hostile JSON raises: not of the form, not UTF-8, nested too deep."""

# --- errors -------------------------------------------------------------------------------------


class GatewayError(Exception):
    """Base of the errors that end an exchange with a sentence for the caller."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Unauthenticated(GatewayError):
    """The caller could not be identified. `expired` alone invites the client to try again."""

    def __init__(self, code: str, message: str, *, expired: bool = False) -> None:
        super().__init__(code, message)
        self.expired = expired


class Refusal(GatewayError):
    """Policy, or the contract of the API, said no: sending it again unchanged is of no use.

    Unless it says after how many seconds it is.
    """

    def __init__(
        self, code: str, message: str, *, status: int = 400, retry_after_s: int | None = None
    ) -> None:
        super().__init__(code, message)
        self.status = status
        self.retry_after_s = retry_after_s


class Failure(GatewayError):
    """We could not decide, record or reach: sending it again later may work."""

    def __init__(self, code: str, message: str, *, status: int = 503) -> None:
        super().__init__(code, message)
        self.status = status
