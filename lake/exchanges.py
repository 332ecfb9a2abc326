"""The columns of the `exchanges` table: one row per exchange, written at its end.

Names follow the records, and OTel GenAI or OCSF where these have one. An absent fact is null.
"""

from lake.schema import (
    CHAIN,
    Column,
    TableShape,
    boolean,
    double,
    integer,
    list_of,
    long,
    string,
    string_map,
    struct,
    time,
)

strings = list_of(string)

_WHAT = (
    Column("exchange_id", string, "Unique id, made when the request arrived", True),
    Column("session_id", string, "The client's word for the conversation it belongs to"),
    Column("session_source", string, "Where session_id was read: claim, header or content"),
    Column("agent_id", string, "Agent that made the call, by the client's word"),
    Column("parent_agent_id", string, "Agent that started that agent"),
    Column("workflow", string, "Workflow the call belongs to"),
    Column("repositories", strings, "Repositories the call is about", True),
    Column("started_at", time, "When the request had arrived", True),
    Column("ended_at", time, "When its closing record was written", True),
    Column("route", string, "messages, count_tokens, models or unknown", True),
    Column("method", string, "HTTP method", True),
    Column("path", string, "HTTP path", True),
    Column("query", string, "HTTP query string"),
)

_WHO = (
    Column("peer", string, "Address of the socket's peer, or what a trusted proxy named"),
    Column("user_agent", string, "User-Agent header"),
    Column("client_name", string, "Client program, by its own word"),
    Column("client_version", string, "Version of the client program"),
    Column("issuer", string, "Issuer of the caller's token", True),
    Column("subject", string, "The caller, as the issuer names them", True),
    Column("person", string, "The human behind the account"),
    Column("principal_kind", string, "user or service", True),
    Column("groups", strings, "Groups of the caller at that time", True),
    Column("claims", string_map, "Claims of the token that policies read", True),
)

_MODEL = (
    Column("request_model", string, "Model that was asked for"),
    Column("response_model", string, "Model that answered"),
    Column("response_id", string, "Id of the message, from the Claude server"),
    Column("upstream_request_id", string, "request-id header of the Claude server"),
    Column("stream", boolean, "Whether the answer was asked for as a stream", True),
    Column("max_tokens", long, "Bound on the answer that the caller set"),
    Column("message_count", long, "Messages in the request", True),
    Column("prompt_chars", long, "Characters of prompt text in the request", True),
    Column("tools", strings, "Names of the tools offered", True),
    Column("server_tools", strings, "Tools among them that the server runs itself", True),
    Column("mcp_hosts", strings, "Hosts of MCP servers named in the request", True),
    Column(
        "sources",
        list_of(struct(kind=string, media_type=string)),
        "Source blocks of the request",
        True,
    ),
    Column("tool_calls", strings, "Names of the tools that the answer calls", True),
    Column("stop_reason", string, "Why the model stopped"),
    Column("input_tokens", long, "Input tokens, as the Claude server counted"),
    Column("output_tokens", long, "Output tokens, as the Claude server counted"),
    Column("cache_read_input_tokens", long, "Input tokens read from its cache"),
    Column("cache_creation_input_tokens", long, "Input tokens written to its cache"),
)

_DECISION = (
    Column("outcome", string, "Of the last decision: allow, deny, hold; else undecided", True),
    Column("reasons", strings, "Codes of its reasons", True),
    Column("reason_messages", strings, "Sentences of its reasons, in the same order", True),
    Column("policy_revision", string, "Revision of the bundle that decided last"),
    Column("decision_count", integer, "Decisions made within the exchange", True),
    Column("decision_input", string, "Input document of the last decision, JSON"),
    Column("decision_result", string, "Result document of the last decision, JSON"),
    Column("decisions_json", string, "All decisions in order, a JSON list", True),
    Column("endpoint", string, "Endpoint that the decision named"),
    Column("approval_id", string, "Approval request the call waited for or used"),
    Column("approval_reasons", strings, "Codes of why a second person was asked, in any decision"),
    Column("approvers", strings, "Persons who approved, as the last decision saw them", True),
    Column(
        "verdicts",
        list_of(
            struct(
                verdict=string,
                issuer=string,
                subject=string,
                person=string,
                groups=strings,
                comment=string,
                at=string,
            )
        ),
        "Verdicts of approvers, as the last decision saw them",
        True,
    ),
)

_RECORDING = (
    Column("recording_content", string, "What is kept: full, metadata or none", True),
    Column("recording_durability", string, "strict or relaxed", True),
    Column("recording_protection", string, "plain or sealed", True),
    Column("recording_reasons", strings, "Why it is kept so, codes", True),
    Column("retention_class", string, "How long the row is kept, by policy", True),
    Column(
        "masks_applied",
        list_of(struct(rule=string, place=string, count=long)),
        "Masking rules that matched, where and how often; never the value",
        True,
    ),
)

_END = (
    Column("status", integer, "HTTP status released to the caller; null when none was"),
    Column("ending", string, "delivered, refused, failed, cancelled or interrupted", True),
    Column("error_code", string, "Stable code of the refusal or failure"),
    Column("error_message", string, "The sentence the caller was given"),
    Column("request_bytes", long, "Bytes of the request body as received", True),
    Column("released_bytes", long, "Bytes of the answer released to the socket", True),
    Column("time_to_first_byte_ms", double, "From arrival to the first byte released"),
    Column("time_to_first_token_ms", double, "From arrival to the first content released"),
    Column("duration_ms", double, "From arrival to the closing record", True),
)

_CONTENT = (
    Column("prompt_text", string, "The new user turn; null unless content is kept in full"),
    Column("response_text", string, "The answer's text; null unless content is kept in full"),
    Column("request_headers", string_map, "Headers of the request that were recorded", True),
    Column("response_headers", string_map, "Headers of the answer; null when there was none"),
    Column(
        "base_exchange_id",
        string,
        "Earlier exchange of the session whose pieces this one keeps; null where it keeps none",
    ),
    Column(
        "request_parts",
        list_of(struct(piece_id=string, start=integer, count=integer)),
        "What makes up the request body, in order: a piece of its own, by its id in contents, "
        "or (piece_id empty) `count` pieces of the base's body from number `start` on",
        True,
    ),
    Column(
        "content_digests",
        list_of(struct(piece_id=string, digest=string)),
        "SHA-256 of every piece that this exchange brought",
        True,
    ),
    Column("response_pieces", strings, "Ids in contents that make up the answer", True),
    Column(
        "chunk_offsets",
        list_of(struct(end_byte=long, at_ms=double)),
        "Where each chunk of the answer ended, and when after started_at: for replay",
        True,
    ),
)

EXCHANGES = TableShape(
    name="exchanges",
    time_column="started_at",
    unmeasured=(
        "prompt_text",
        "response_text",
        "decision_input",
        "decision_result",
        "decisions_json",
        "error_message",
    ),
    columns=(*_WHAT, *_WHO, *_MODEL, *_DECISION, *_RECORDING, *_END, *_CONTENT, *CHAIN),
)
