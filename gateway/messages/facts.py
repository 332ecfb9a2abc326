"""The action facts of a request, read from the very object that is forwarded."""

import json
import re
from functools import lru_cache
from typing import Any

from gateway.domain import Fact, Refusal, Route, Source

PATHS = {
    ("POST", "/v1/messages"): Route.MESSAGES,
    ("POST", "/v1/messages/count_tokens"): Route.COUNT_TOKENS,
    ("GET", "/v1/models"): Route.MODELS,
}
"""The routes of one path, by method and exact raw path."""

_MODEL_PATH = re.compile(r"/v1/models/([A-Za-z0-9][A-Za-z0-9._:@-]{0,127})")
_REFUSED_PATHS = (("/v1/messages/batches", Route.BATCHES), ("/v1/files", Route.FILES))
"""Known, so that a refusal can say why; with all that lies below them."""

MAX_COUNT = 2**53 - 1
"""The largest number that every JSON reader reads alike."""

MAX_TYPE_CHARS = 128
"""Of the type and the media type of a source; registered ones have up to 80."""
MAX_SOURCES = 100
"""Kinds of sources in one part of a prompt."""

_HTTP_URL = re.compile(r"https?://([A-Za-z0-9.-]+)(?::\d{1,5})?(?:[/?#][!-\[\]-~]*)?")
"""Without user, backslash, space or anything else that readers of URLs disagree about."""

_FREE_FORM = frozenset({"input", "input_schema"})
"""Fields whose structure is no part of the API: all of it is text to look at."""
_DECIDING = frozenset(
    {
        "file_id",
        "max_tokens",
        "mcp_servers",
        "media_type",
        "messages",
        "metadata",
        "model",
        "name",
        "source",
        "stream",
        "system",
        "tools",
        "type",
        "url",
    }
)
"""Fields that facts are read from. Some JSON readers, Go's for one, find them in any case."""
_LONGEST_DISGUISE = 16
_NO_TEXT = frozenset(
    {
        "cache_control",
        "encrypted_content",
        "encrypted_index",
        "file_id",
        "id",
        "media_type",
        "name",
        "role",
        "signature",
        "tool_use_id",
        "type",
    }
)


class Facts(Fact, frozen=True, kw_only=True):
    """What a body says, before context is added."""

    model: str = ""
    stream: bool = False
    max_tokens: int = 0
    tools: tuple[str, ...] = ()
    server_tools: tuple[str, ...] = ()
    mcp_hosts: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    messages: int = 0
    prompt_chars: int = 0
    session_id: str = ""
    """From `metadata.user_id`, where clients put one."""


class Said(Fact, frozen=True):
    """What a part of a prompt, or all of it, says beside its text."""

    chars: int = 0
    sources: frozenset[tuple[str, str]] = frozenset()
    """Kind and media type of its source blocks."""

    def plus(self, other: "Said") -> "Said":
        """Return what both say."""
        return Said(self.chars + other.chars, self.sources | other.sources)


def find_route(method: str, raw_path: str) -> Route:
    """Return the route of a raw, still encoded path; what has two readings is UNKNOWN."""
    if route := PATHS.get((method, raw_path)):
        return route
    if method == "GET" and find_model(raw_path):
        return Route.MODEL
    for path, route in _REFUSED_PATHS:
        if raw_path == path or raw_path.startswith(f"{path}/"):
            return route
    return Route.UNKNOWN


def find_model(raw_path: str) -> str:
    """Return the model that a path names; empty where it names none, or none plainly."""
    found = _MODEL_PATH.fullmatch(raw_path)
    return found[1] if found else ""


def prompt_parts(body: dict[str, Any]) -> tuple[list[Any], Any, list[dict[str, Any]]]:
    """Return the messages of a prompt, its system prompt and its tools.

    Raises:
        Refusal: messages or tools have a type the API does not define.
    """
    return _field(body, "messages", list, []), body.get("system"), _read_tools(body)


def hear(part: Any) -> Said:
    """Return what a part of a prompt says beside its text.

    Raises:
        Refusal: a source has no type.
    """
    texts, sources = _walk(part)
    return Said(sum(map(len, texts)), frozenset(sources))


def read_text(part: Any) -> str:
    """Return all text of a part of a prompt: what signals look at; never sent to OPA."""
    return "\n".join(_walk(part)[0])


def read_facts(body: dict[str, Any], said: Said) -> Facts:
    """Return the facts of a parsed body whose prompt says this beside its text.

    Raises:
        Refusal: a field that decides something has a type the API does not define.
    """
    _refuse_disguise(body)
    tools = _read_tools(body)
    return Facts(
        model=_field(body, "model", str, ""),
        stream=_field(body, "stream", bool, False),
        max_tokens=_field(body, "max_tokens", int, 0),
        tools=tuple(tool["name"] for tool in tools if "name" in tool),
        server_tools=tuple(
            tool["type"] for tool in tools if tool.get("type", "custom") != "custom"
        ),
        mcp_hosts=tuple(_host(server) for server in _field(body, "mcp_servers", list, [])),
        sources=tuple(Source(kind=k, media_type=m) for k, m in sorted(said.sources)),
        messages=len(_field(body, "messages", list, [])),
        prompt_chars=said.chars,
        session_id=session_id_of(body),
    )


def _field(body: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if not (_is_count(value) if kind is int else isinstance(value, kind)):
        words = {str: "a string", bool: "true or false", int: "a number", list: "an array"}
        raise _wrong_type(f"{name} must be {words[kind]}")
    return value


def _refuse_disguise(value: dict[str, Any]) -> None:
    """Raise `Refusal` for a key that only some readers take for a field that decides something."""
    for key in value:
        if len(key) <= _LONGEST_DISGUISE and _is_disguised(key):
            shown = json.dumps(key)
            raise Refusal(
                "body.disguised_key",
                f"The request can't be read: the key {shown} is another field to some readers.",
            )


@lru_cache(maxsize=1024)
def _is_disguised(key: str) -> bool:
    return key not in _DECIDING and key.casefold() in _DECIDING


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _read_tools(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tools; one whose name or type can't be read would hide from the rules."""
    tools: list[Any] = _field(body, "tools", list, [])
    for tool in tools:
        if not isinstance(tool, dict) or not all(
            isinstance(tool.get(name, ""), str) for name in ("name", "type")
        ):
            raise _wrong_type("each of tools must be an object with a name")
    return tools


def _wrong_type(what: str) -> Refusal:
    return Refusal("body.wrong_type", f"The request can't be read: {what}.")


def _host(server: Any) -> str:
    """Return the host of an MCP server, if every reader of its URL would find the same one."""
    if isinstance(server, dict):
        _refuse_disguise(server)
    url = server.get("url") if isinstance(server, dict) else None
    found = _HTTP_URL.fullmatch(url) if isinstance(url, str) else None
    return found[1].lower() if found else "unreadable"


def session_id_of(body: dict[str, Any]) -> str:
    """Return the session that a body names itself; empty where it names none."""
    metadata = body.get("metadata")
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user_id, str) or not user_id.startswith("{"):
        return ""
    try:
        session_id = json.loads(user_id).get("session_id")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return session_id[:128] if isinstance(session_id, str) and session_id.isprintable() else ""


def _walk(root: Any) -> tuple[list[str], set[tuple[str, str]]]:
    """Return text leaves and source blocks, in order and without recursion.

    The input of a tool call is text that a model wrote; a `source` in it is none.
    """
    texts: list[str] = []
    sources: set[tuple[str, str]] = set()
    stack = [(root, True)]
    while stack:
        value, may_be_block = stack.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list):
            stack.extend((item, may_be_block) for item in reversed(value))
        elif isinstance(value, dict):
            if may_be_block:
                _refuse_disguise(value)
                _note_source(value, sources)
            skipped = _NO_TEXT if may_be_block else frozenset()
            is_media = may_be_block and value.get("type") == "base64"
            stack.extend(
                (inner, may_be_block and key not in _FREE_FORM)
                for key, inner in reversed(value.items())
                if key not in skipped and not (is_media and key == "data")
            )
    return texts, sources


def _note_source(block: dict[str, Any], sources: set[tuple[str, str]]) -> None:
    source = block.get("source")
    if isinstance(source, dict):
        kind, media_type = source.get("type"), source.get("media_type")
        if not isinstance(kind, str) or len(kind) > MAX_TYPE_CHARS:
            raise _wrong_type("each source must have a type")
        media_type = media_type if isinstance(media_type, str) else ""
        if len(media_type) > MAX_TYPE_CHARS or len(sources) >= MAX_SOURCES:
            raise _wrong_type("its sources are of too many types, or of one that is too long")
        sources.add((kind, media_type))
    if "file_id" in block and block.get("type") != "file":
        sources.add(("file", ""))
