"""What arrived: a request body, what it says and the pieces it is recorded in."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.conversations import Conversations, Digests
from gateway.decisions import SESSION_HEADER
from gateway.domain import Fact, Principal
from gateway.messages.body import parse
from gateway.messages.facts import Facts, read_facts
from gateway.messages.pieces import Pieces, cut
from gateway.messages.recordable import make_recordable


class Incoming(Fact, frozen=True, kw_only=True):
    """A request body and what was read from it."""

    body: bytes = b""
    value: dict[str, Any] = msgspec.field(default_factory=dict)
    facts: Facts = Facts()
    pieces: Pieces = Pieces(all=())
    """Of the body as it may be recorded."""
    digests: Digests = ()
    """Of the pieces."""

    @property
    def turns(self) -> Digests:
        """Digests of the pieces that hold a message each."""
        return self.pieces.turns_of(self.digests)


def read_incoming(
    body: bytes, headers: Mapping[str, str], principal: Principal, conversations: Conversations
) -> Incoming:
    """Read a body; a conversation that its client does not name is recognised by its beginning.

    Raises:
        Refusal: the body can't be read.
    """
    value = parse(body)
    facts = read_facts(value)
    pieces = cut(make_recordable(body, value))
    digests = conversations.digest(pieces.all)
    if not facts.session_id and SESSION_HEADER not in headers:
        known = conversations.recognise(principal.issuer, principal.sub, pieces.turns_of(digests))
        facts = msgspec.structs.replace(facts, session_id=known)
    return Incoming(body=body, value=value, facts=facts, pieces=pieces, digests=digests)
