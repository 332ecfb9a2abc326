"""Open exchanges beyond the memory that is theirs: let go, and read again at their end."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.records import START_NS, answered, chunk, closing, opening

from gateway.journal import Journal
from gateway.journal_folder import JournalFolder
from gateway.records import Answered, Chunk, Closing, Opening, Position, Record
from lake.joining import OpenExchanges
from lake.rows import Exchange

BOUND = 20_000
NAMES = "abcdef"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path, "proxy", lambda: START_NS, segment_bytes=8_000)
    opened.open()
    yield opened
    opened.close()


def interleaved() -> list[Record]:
    """Six streams at a time, of six times the bound together."""
    records: list[Record] = [opening(name) for name in NAMES]
    records += [answered(name) for name in NAMES]
    for number in range(40):
        records += [chunk(name, f"{name}{number:02}".encode() * 200, number) for name in NAMES]
    return records


def take_all(journal: Journal, folder: Path, records: list[Record]) -> tuple[OpenExchanges, int]:
    """Write records, read them into open exchanges; returns these, and the most they held."""
    for record in records:
        journal.append(record)
    opened, reader = OpenExchanges(BOUND), JournalFolder(folder)
    position, most = Position(0, 0), 0
    while True:
        frames, position = reader.read("proxy", position, 4_000)
        if not frames:
            return opened, most
        for begin, end, frame in frames:
            match frame.record:
                case Opening() as record:
                    opened.open(record, "proxy", begin, end)
                case Answered() | Chunk() as record:
                    opened.add(record, begin, end)
                case _:
                    continue
            most = max(most, opened.held_bytes)


def test_content_beyond_the_bound_is_let_go_and_read_again(
    journal: Journal, tmp_path: Path
) -> None:
    records = interleaved()
    opened, most = take_all(journal, tmp_path, records)
    assert most <= BOUND
    for name in NAMES:
        exchange = opened.take(name)
        assert exchange is not None
        exchange.fetch(JournalFolder(tmp_path))
        assert exchange.close(closing(name), "proxy", 9) == Exchange(
            opening=opening(name),
            answered=answered(name),
            chunks=tuple(r for r in records if isinstance(r, Chunk) and r.exchange_id == name),
            closing=closing(name),
            journal_id="proxy",
            sequence=9,
        )
    assert opened.held_bytes == 0


def test_an_interrupted_one_says_what_was_released_though_it_was_let_go(
    journal: Journal, tmp_path: Path
) -> None:
    opened, _ = take_all(journal, tmp_path, interleaved())
    exchange = opened.take("a")
    assert exchange is not None
    assert not exchange.is_held
    end = exchange.interrupted(START_NS)
    assert isinstance(end, Closing)
    assert (end.first_byte_ns, end.released_bytes) == (START_NS, 40 * 600)


def test_small_ones_stay_while_a_large_one_goes(journal: Journal, tmp_path: Path) -> None:
    records: list[Record] = [opening("small"), opening("large")]
    records += [chunk("large", b"x" * 1_000) for _ in range(40)]
    opened, _ = take_all(journal, tmp_path, records)
    small, large = opened.take("small"), opened.take("large")
    assert small is not None
    assert large is not None
    assert (small.is_held, large.is_held) == (True, False)
