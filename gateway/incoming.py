"""What arrived: a request body, what it says and the pieces it is recorded in."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.conversations import Conversations, Digests
from gateway.decisions import SESSION_HEADER
from gateway.domain import Fact, Principal
from gateway.messages.body import parse
from gateway.messages.facts import Facts, prompt_parts, read_facts
from gateway.messages.pieces import Pieces, cut
from gateway.messages.recordable import make_recordable
from gateway.scans import Part, Scans


class Incoming(Fact, frozen=True, kw_only=True):
    """A request body and what was read from it."""

    body: bytes = b""
    value: dict[str, Any] = msgspec.field(default_factory=dict)
    facts: Facts = Facts()
    prompt: tuple[Part, ...] = ()
    pieces: Pieces = Pieces(all=())
    """Of the body as it may be recorded."""
    digests: Digests = ()
    """Of the pieces."""

    @property
    def turns(self) -> Digests:
        """Digests of the pieces that hold a message each."""
        return self.pieces.turns_of(self.digests)


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
    turns = pieces.turns_of(digests)
    parts = prompt_parts(value)
    known = [*turns, *[b""] * (len(parts) - len(turns))]
    prompt = tuple(map(Part, known, parts))
    facts = read_facts(value, map(scans.hear, prompt))
    if not facts.session_id and SESSION_HEADER not in headers:
        session_id = conversations.recognise(principal.issuer, principal.sub, turns)
        facts = msgspec.structs.replace(facts, session_id=session_id)
    return Incoming(
        body=body, value=value, facts=facts, prompt=prompt, pieces=pieces, digests=digests
    )
