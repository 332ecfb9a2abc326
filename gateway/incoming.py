"""What arrived: a request body, what it says and the pieces it is recorded in."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.conversations import Conversations, Digests, find_beginnings
from gateway.decisions import SESSION_HEADER
from gateway.domain import Fact, Principal, Refusal
from gateway.masking.seals import BadSeal, Seals, Session, SessionSeals
from gateway.masking.thoughts import is_sealed, open_thoughts
from gateway.messages.body import parse
from gateway.messages.facts import Facts, prompt_parts, read_facts, session_id_of
from gateway.messages.pieces import Pieces, cut
from gateway.messages.recordable import make_recordable
from gateway.scans import Prompt, Scans


class Incoming(Fact, frozen=True, kw_only=True):
    """A request body and what was read from it."""

    body: bytes = b""
    """With the thinking in it as the Claude server once wrote it."""
    said: dict[str, Any] = msgspec.field(default_factory=dict)
    """What the caller sent, parsed."""
    facts: Facts = Facts()
    """Of `body`, as is the prompt."""
    prompt: Prompt = Prompt()
    pieces: Pieces = Pieces(all=())
    """Of what the caller sent, as it may be recorded."""
    digests: Digests = ()
    """Of the pieces."""
    is_recordable: bool = True
    """Whether the pieces are those of `body`, too."""
    session: Session = Session("", "", "")
    """What thinking is sealed for."""


def read_incoming(
    body: bytes,
    headers: Mapping[str, str],
    principal: Principal,
    conversations: Conversations,
    scans: Scans,
    seals: Seals,
) -> Incoming:
    """Read a body; a conversation that its client does not name is recognised by its beginning.

    Raises:
        Refusal: the body can't be read, or thinking in it can't be given back.
    """
    said = parse(body)
    recordable = make_recordable(body, said)
    pieces = cut(recordable)
    digests = conversations.digest(pieces.all)
    name = headers.get(SESSION_HEADER, "") or session_id_of(said)
    session = Session(principal.issuer, principal.sub, name)
    value = said
    if is_sealed(body):
        body = _open_all(body, seals.of(session))
        value = parse(body)
    prompt = read_prompt(value, pieces, digests)
    facts = read_facts(value, scans.hear(prompt))
    if not facts.session_id and SESSION_HEADER not in headers:
        session_id = conversations.recognise(principal.issuer, principal.sub, prompt.beginnings)
        facts = msgspec.structs.replace(facts, session_id=session_id)
    return Incoming(
        body=body,
        said=said,
        facts=facts,
        prompt=prompt,
        pieces=pieces,
        digests=digests,
        is_recordable=body is recordable,
        session=session,
    )


def _open_all(body: bytes, seals: SessionSeals | None) -> bytes:
    """Return a body with its sealed thinking as the Claude server once wrote it."""
    try:
        return b"".join(open_thoughts(piece, seals) for piece in cut(body).all)
    except BadSeal as e:
        raise Refusal(
            "thinking.unreadable",
            "Thinking in this conversation was sealed for another session, or was changed since; "
            "start a new conversation.",
        ) from e


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
