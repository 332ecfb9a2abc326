"""What arrived: a request body, what it says and the pieces it is recorded in."""

import zlib
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.conversations import Conversations, Digests, find_beginnings
from gateway.decisions import SESSION_HEADER
from gateway.domain import Fact, Principal
from gateway.messages.body import parse
from gateway.messages.facts import Facts, prompt_parts, read_facts
from gateway.messages.pieces import Pieces, cut
from gateway.messages.recordable import make_recordable
from gateway.scans import Prompt, Scans


class Incoming(Fact, frozen=True, kw_only=True):
    """A request body and what was read from it."""

    body: bytes = b""
    value: dict[str, Any] = msgspec.field(default_factory=dict)
    facts: Facts = Facts()
    prompt: Prompt = Prompt()
    pieces: Pieces = Pieces(all=())
    """Of the body as it may be recorded."""
    digests: Digests = ()
    """Of the pieces."""


def pack(body: bytes) -> bytes:
    """Return a body as it waits in memory."""
    return zlib.compress(body, 1)


def unpack(packed: bytes) -> bytes:
    """Return the body that was packed."""
    return zlib.decompress(packed)


def read_incoming(
    body: bytes,
    headers: Mapping[str, str],
    principal: Principal,
    conversations: Conversations,
    scans: Scans,
) -> Incoming:
    """Read a body; a conversation that its client does not name is recognised by its beginning.

    Raises:
        Refusal: the body can't be read.
    """
    value = parse(body)
    pieces = cut(make_recordable(body, value))
    digests = conversations.digest(pieces.all)
    prompt = read_prompt(value, pieces, digests)
    facts = read_facts(value, scans.hear(prompt))
    if not facts.session_id and SESSION_HEADER not in headers:
        session_id = conversations.recognise(principal.issuer, principal.sub, prompt.beginnings)
        facts = msgspec.structs.replace(facts, session_id=session_id)
    return Incoming(
        body=body, value=value, facts=facts, prompt=prompt, pieces=pieces, digests=digests
    )


def read_prompt(value: dict[str, Any], pieces: Pieces, digests: Digests) -> Prompt:
    """Return the parts of a prompt with the digests of the pieces that hold them."""
    messages, system, tools = prompt_parts(value)
    places = (pieces.places.get(name) for name in ("system", "tools"))
    known = (b"" if place is None else digests[place] for place in places)
    others = zip(known, (system, tools), strict=True)
    return Prompt(
        messages=tuple(messages),
        beginnings=find_beginnings(pieces.turns_of(digests)),
        others=tuple((digest, part) for digest, part in others if part),
    )
