"""What our columns are called elsewhere: OpenTelemetry's GenAI conventions and OCSF.

Both are still moving (no `gen_ai.*` attribute is stable), so our names are frozen and this table
follows them. Empty where a standard has no name for it.
"""

from typing import Final, NamedTuple


class Elsewhere(NamedTuple):
    """Names of a column."""

    otel: str = ""
    ocsf: str = ""
    """In the class API Activity (6003) with the profile `ai_operation`."""


ELSEWHERE: Final = {
    "exchange_id": Elsewhere("", "metadata.uid"),
    "event_id": Elsewhere("", "metadata.uid"),
    "session_id": Elsewhere("gen_ai.conversation.id", "actor.session.uid"),
    "agent_id": Elsewhere("gen_ai.agent.id", ""),
    "started_at": Elsewhere("", "start_time"),
    "ended_at": Elsewhere("", "end_time"),
    "occurred_at": Elsewhere("", "time"),
    "duration_ms": Elsewhere("", "duration"),
    "route": Elsewhere("http.route", "api.operation"),
    "method": Elsewhere("http.request.method", "http_request.http_method"),
    "path": Elsewhere("url.path", "http_request.url.path"),
    "query": Elsewhere("url.query", "http_request.url.query_string"),
    "peer": Elsewhere("client.address", "src_endpoint.ip"),
    "user_agent": Elsewhere("user_agent.original", "http_request.user_agent"),
    "client_name": Elsewhere("user_agent.name", ""),
    "client_version": Elsewhere("user_agent.version", ""),
    "issuer": Elsewhere("", "actor.idp.uid"),
    "subject": Elsewhere("user.id", "actor.user.uid"),
    "person": Elsewhere("user.name", "actor.user.name"),
    "groups": Elsewhere("", "actor.user.groups"),
    "request_model": Elsewhere("gen_ai.request.model", "ai_model.name"),
    "max_tokens": Elsewhere("gen_ai.request.max_tokens", ""),
    "tools": Elsewhere("gen_ai.tool.definitions", ""),
    "tool_calls": Elsewhere("gen_ai.tool.name", ""),
    "response_model": Elsewhere("gen_ai.response.model", ""),
    "response_id": Elsewhere("gen_ai.response.id", ""),
    "stop_reason": Elsewhere("gen_ai.response.finish_reasons", ""),
    "input_tokens": Elsewhere("gen_ai.usage.input_tokens", ""),
    "output_tokens": Elsewhere("gen_ai.usage.output_tokens", ""),
    "cache_read_input_tokens": Elsewhere("gen_ai.usage.cache_read.input_tokens", ""),
    "cache_creation_input_tokens": Elsewhere("gen_ai.usage.cache_creation.input_tokens", ""),
    "time_to_first_token_ms": Elsewhere("gen_ai.server.time_to_first_token", ""),
    "prompt_text": Elsewhere("gen_ai.input.messages", ""),
    "response_text": Elsewhere("gen_ai.output.messages", ""),
    "request_headers": Elsewhere("http.request.header.*", "http_request.http_headers"),
    "response_headers": Elsewhere("http.response.header.*", "http_response.http_headers"),
    "request_bytes": Elsewhere("http.request.body.size", "http_request.length"),
    "released_bytes": Elsewhere("http.response.body.size", "http_response.length"),
    "status": Elsewhere("http.response.status_code", "http_response.code"),
    "error_code": Elsewhere("error.type", "status_code"),
    "error_message": Elsewhere("", "status_detail"),
    "outcome": Elsewhere("", "disposition"),
    "policy_revision": Elsewhere("", "policy.version"),
    "endpoint": Elsewhere("", "dst_endpoint.name"),
    "kind": Elsewhere("", "activity_name"),
    "message": Elsewhere("", "message"),
    "count": Elsewhere("", "count"),
    "media_type": Elsewhere("", "file.mime_type"),
    "size": Elsewhere("", "file.size"),
    "digest": Elsewhere("", "fingerprint.value"),
}
"""By our name; the same in every table that has the column."""
