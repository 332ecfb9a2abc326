"""A recorded body is the body that was accepted, byte for byte, however it is cut and shared."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.conversations import Beginnings, Conversations, Kinship, find_beginnings
from gateway.domain import ExchangeId
from gateway.messages.pieces import LARGE_BYTES, cut
from gateway.records import Kept, Part
from lake.bodies import Composition, join, request_pieces
from lake.bodies import Part as Row

KIN = Kinship(
    issuer="https://idp",
    sub="dev",
    session_id="s1",
    agent_id="",
    route="messages",
    model="m",
    day=1,
    retention_class="standard",
    protection="plain",
    content="full",
    revision="r1",
    masks=(),
)

blanks = st.text(" \n\t\r", max_size=2)
numbers = st.sampled_from(["0", "-0", "1.0", "1e400", "-1E+2", "123456789012345678901234567890"])
strings = st.one_of(
    st.text(max_size=20).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.text(max_size=20).map(json.dumps),
    st.sampled_from([r'"\u00e9\/"', '"[{\\"messages\\":[]}]"', f'"{"x" * LARGE_BYTES}"']),
)


@st.composite
def arrays(draw: st.DrawFn, of: st.SearchStrategy[str]) -> str:
    """Draw an array, spaced oddly."""
    blank = draw(blanks)
    return f"[{blank}{f'{blank},'.join(draw(st.lists(of, max_size=4)))}{blank}]"


@st.composite
def objects(draw: st.DrawFn, of: st.SearchStrategy[str]) -> str:
    """Draw an object, spaced oddly, its keys in any order."""
    names = draw(st.permutations(["messages", "system", "tools", "model", 'x"y', "é"]))
    blank = draw(blanks)
    fields = [f"{json.dumps(name)}{blank}:{blank}{draw(of)}" for name in names]
    kept = fields[: draw(st.integers(0, len(fields)))]
    return f"{blank}{{{f'{blank},{blank}'.join(kept)}{blank}}}{blank}"


values = st.recursive(
    st.one_of(numbers, strings, st.sampled_from(["true", "null", "[]", "{}"])),
    lambda inner: st.one_of(arrays(inner), objects(inner)),
    max_leaves=8,
)
bodies = st.one_of(objects(values), values)


@given(bodies)
@example('{"m":1,"messages":[1,1,1,11,1]}')
@example('{"messages":{"messages":[1]}}')
@example("not JSON")
def test_pieces_joined_are_the_body(text: str) -> None:
    body = text.encode(errors="surrogatepass")
    pieces = cut(body)
    assert b"".join(pieces.all) == body
    assert len(pieces.turns_of(pieces.all)) == pieces.turn_count


@given(st.lists(bodies, min_size=1, max_size=6))
def test_bodies_that_share_pieces_are_joined_again(texts: list[str]) -> None:
    conversations = Conversations(b"key")
    compositions: dict[str, Composition] = {}
    stored: dict[str, bytes] = {}
    for number, text in enumerate([*texts, *reversed(texts)]):
        body, exchange_id = text.encode(errors="surrogatepass"), ExchangeId(f"e{number}")
        pieces = cut(body)
        digests = conversations.digest(pieces.all)
        base, parts = conversations.relate(KIN, pieces, digests)
        conversations.remember(KIN, exchange_id, digests, ())
        compositions[exchange_id] = Composition(base, _rows(exchange_id, parts, stored))
        assert join(stored, request_pieces(exchange_id, compositions)) == body


def _rows(exchange_id: str, parts: tuple[Part, ...], stored: dict[str, bytes]) -> list[Row]:
    """Store new pieces and return the parts as the table has them."""
    rows = []
    for part in parts:
        if isinstance(part, Kept):
            rows.append(Row("", part.start, part.count))
        else:
            rows.append(Row(f"{exchange_id}.{len(rows)}", 0, 1))
            stored[rows[-1].piece_id] = part
    return rows


def turn(role: str, text: str) -> dict[str, Any]:
    """Return a message."""
    return {"role": role, "content": text}


def test_a_turn_holds_only_what_is_new() -> None:
    system = "s" * 5000
    history = [turn("user" if n % 2 == 0 else "assistant", f"{n} " * 200) for n in range(41)]
    conversations = Conversations(b"key")
    new_bytes = []
    for length in range(1, len(history) + 1, 2):
        body = json.dumps({"model": "m", "messages": history[:length], "system": system}).encode()
        pieces = cut(body)
        digests = conversations.digest(pieces.all)
        _, parts = conversations.relate(KIN, pieces, digests)
        conversations.remember(KIN, ExchangeId(f"e{length}"), digests, ())
        new_bytes.append(sum(len(part) for part in parts if isinstance(part, bytes)))
        assert sum(isinstance(part, Kept) for part in parts) <= 2
    assert new_bytes[0] > len(system)
    assert max(new_bytes[1:]) < 2000


@given(st.sampled_from(Kinship._fields))
def test_nothing_is_shared_beyond_kinship(field: str) -> None:
    conversations = Conversations(b"key")
    pieces = cut(json.dumps({"messages": [turn("user", "a")]}).encode())
    digests = conversations.digest(pieces.all)
    conversations.remember(KIN, ExchangeId("e1"), digests, ())
    values = KIN._asdict() | {field: 2 if field == "day" else "other"}
    other = Kinship(**values)
    assert conversations.relate(other, pieces, digests) == (None, pieces.all)
    assert conversations.relate(KIN, pieces, digests)[0] == "e1"


def beginnings_of(conversations: Conversations, *texts: str) -> Beginnings:
    """Return the beginnings of a conversation."""
    messages = [turn("user", text) for text in texts]
    pieces = cut(json.dumps({"messages": messages}).encode())
    return find_beginnings(pieces.turns_of(conversations.digest(pieces.all)))


def test_a_conversation_is_recognised_by_what_it_began_with() -> None:
    conversations = Conversations(b"key")

    def sent(*texts: str, session_id: str) -> None:
        kin = KIN._replace(session_id=session_id)
        conversations.remember(kin, ExchangeId("e"), (), beginnings_of(conversations, *texts))

    def recognised(*texts: str, sub: str = "dev") -> str:
        return conversations.recognise(KIN.issuer, sub, beginnings_of(conversations, *texts))

    sent("hello", session_id="first")
    sent("hello", "hi, one", "more", session_id="first")
    sent("hello", session_id="second")
    assert recognised("hello", "hi, one", "more", "sure", "and") == "first"
    assert recognised("hello", "hi, two", "more") == "second"
    assert recognised("hello") == ""
    assert recognised("other", "hi", "more") == ""
    assert recognised("hello", "hi, one", "more", "sure", "and", sub="ada") == ""
