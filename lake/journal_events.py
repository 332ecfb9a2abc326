"""What the recorder notes in its own journal: damage and ends of others, a clock set back.

So the record itself says it, signed like any event. Pure.
"""

from typing import Final

import msgspec

from gateway.records import Event, Position

DAMAGED: Final = "journal.damaged"
ENDED: Final = "journal.ended"
SET_BACK: Final = "clock.set_back"


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """Where a journal could not be read on."""

    journal_id: str
    segment: int
    offset: int
    next_sequence: int
    """Of the first record that is in no table."""


def damaged(journal_id: str, position: Position, next_sequence: int, at_ns: int) -> Event:
    """Return the event that a journal is damaged; each start of a recorder notes it anew."""
    damage = Damage(
        journal_id=journal_id,
        segment=position.segment,
        offset=position.offset,
        next_sequence=next_sequence,
    )
    return Event(
        event_id=f"{journal_id}/{DAMAGED}/{at_ns}",
        at_ns=at_ns,
        kind=DAMAGED,
        message=f"Journal {journal_id} is damaged: its record {next_sequence} and what follows "
        "can't be read.",
        detail_json=msgspec.json.encode(damage).decode(),
    )


class End(msgspec.Struct, frozen=True, kw_only=True):
    """Where a journal's proofs ended when it was let go of."""

    journal_id: str
    root: str
    """Of its last proof."""
    next_sequence: int
    """After its last record."""


def ended(journal_id: str, root: str, next_sequence: int, at_ns: int) -> Event:
    """Return the event that a journal is in the tables whole; noted again after a failure."""
    end = End(journal_id=journal_id, root=root, next_sequence=next_sequence)
    return Event(
        event_id=f"{journal_id}/{ENDED}/{at_ns}",
        at_ns=at_ns,
        kind=ENDED,
        message=f"Journal {journal_id} ended with record {next_sequence - 1}.",
        detail_json=msgspec.json.encode(end).decode(),
    )


class SetBack(msgspec.Struct, frozen=True, kw_only=True):
    """That a clock was set back; microseconds since the epoch."""

    from_us: int
    to_us: int


def set_back(from_us: int, to_us: int) -> Event:
    """Return the event that what is sealed next has an earlier time than what was sealed."""
    return Event(
        event_id=f"{SET_BACK}/{from_us}/{to_us}",
        at_ns=to_us * 1000,
        kind=SET_BACK,
        message=f"The clock was set back by {(from_us - to_us) / 1e6:.3f} s.",
        detail_json=msgspec.json.encode(SetBack(from_us=from_us, to_us=to_us)).decode(),
    )
