"""A small recorded history: real journals, a real recorder, tables in a folder; for tampering."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.births import read_births
from gateway.domain import Ending, ExchangeId
from gateway.journal import Journal
from gateway.journal_folder import JournalFolder
from gateway.records import (
    Answered,
    Chunk,
    Closing,
    Event,
    Kept,
    Record,
)
from lake.catalog import open_lake
from lake.recorder import Recorder
from lake.recorder_state import RecorderSettings
from lake.signing import Signer, add_endorsed, first_keys, read_public_keys
from lake.verify.journals import Birth, Host, read_host
from lake.verify.report import Report
from lake.verify.run import verify
from lake.verify.tables import of_copy, opened
from lake.witness import FileWitness, Witnesses
from support.records import opening

SECOND = 10**9
START_NS = 1_790_000_000 * SECOND


class PlainTexts:
    """Texts as they are."""

    def prompt_text(self, pieces: Sequence[bytes]) -> str:
        """Return the pieces."""
        return b"".join(pieces).decode()

    def response_text(self, content_type: str, body: bytes) -> str:
        """Return the body."""
        return body.decode()


def exchange(name: str, at_s: int, base: str | None = None) -> list[Record]:
    """Return the records of an exchange; with a base it keeps a piece of it."""
    exchange_id, at_ns = ExchangeId(name), START_NS + at_s * SECOND
    return [
        opening(
            name,
            at_ns=at_ns,
            session="s1",
            base=base or "",
            parts=(*([Kept(start=0, count=1)] if base else []), f"asked {name}".encode()),
        ),
        Answered(
            exchange_id=exchange_id,
            at_ns=at_ns + 1000,
            status=200,
            headers={"content-type": "text/plain"},
            upstream_request_id="req_1",
        ),
        Chunk(exchange_id=exchange_id, at_ns=at_ns + 2000, data=b"answer", size=6),
        Closing(
            exchange_id=exchange_id,
            at_ns=at_ns + 3000,
            ending=Ending.DELIVERED,
            status=200,
            released_bytes=6,
        ),
    ]


@contextmanager
def journal(root: Path, name: str, segment_bytes: int = 600) -> Iterator[Journal]:
    """Open a journal that is at its next segment soon."""
    opened_journal = Journal(root, name, lambda: START_NS, segment_bytes=segment_bytes)
    opened_journal.open()
    try:
        yield opened_journal
    finally:
        opened_journal.close()


def record(
    folder: Path,
    batches: Sequence[Sequence[Record]],
    *,
    run: str = "",
    clock_s: Sequence[int] = (),
) -> None:
    """Record batches in turn by two journals, each with commits of its own, at its time.

    Another `run` in the same folder has journals of other names.
    """
    times_s = clock_s or [0] * len(batches)
    root = folder / "journal"
    root.mkdir(parents=True, exist_ok=True)
    lake = open_lake(f"sqlite:///{folder}/catalog.db", folder / "warehouse")
    with journal(root, f"recorder{run}") as own:
        recorder = Recorder(
            lake,
            JournalFolder(root),
            own,
            PlainTexts(),
            Signer(folder / "keys"),
            Witnesses([FileWitness(folder / "witness")]),
            RecorderSettings(),
        )
        with journal(root, f"proxy-a{run}") as first, journal(root, f"proxy-b{run}") as second:
            for number, batch in enumerate(batches):
                for each in batch:
                    (first, second)[number % 2].append(each)
                step(recorder, times_s[number])
        step(recorder, times_s[-1])
    lake.close()


def record_all(folder: Path, own: str = "recorder") -> None:
    """Record what journals in a folder hold."""
    root = folder / "journal"
    lake = open_lake(f"sqlite:///{folder}/catalog.db", folder / "warehouse")
    with journal(root, own) as written:
        step(
            Recorder(
                lake,
                JournalFolder(root),
                written,
                PlainTexts(),
                Signer(folder / "keys"),
                Witnesses([]),
                RecorderSettings(),
            )
        )
    lake.close()


def step(recorder: Recorder, at_s: int = 0) -> None:
    """Step until nothing is left to do, also of what the last step of all wrote itself."""
    now_ns = START_NS + at_s * SECOND
    while any(recorder.step(now_ns, flush=True)) or any(recorder.step(now_ns, flush=True)):
        pass


def live(folder: Path) -> Host:
    """Return the journals on disk."""
    births = [Birth(*birth) for birth in read_births(folder / "journal")]
    return read_host(births, JournalFolder(folder / "journal"), lambda *_: None)


def verified(
    folder: Path, *, host: Host | None = None, is_witnessed: bool = False, since: int = 0
) -> Report:
    """Verify the warehouse in a folder, trusting its first key."""
    keys = add_endorsed(read_public_keys(first_keys(folder / "keys")), folder / "keys" / "public")
    witness = (folder / "witness").read_bytes().splitlines() if is_witnessed else ()
    spill = folder / "spill"
    spill.mkdir(exist_ok=True)
    with opened(of_copy(folder / "warehouse", spill)) as tables:
        return verify(tables, keys, lambda *_: None, since=since, host=host, witness=witness)


def event(name: str, at_s: int) -> Event:
    """Return an audit event."""
    return Event(event_id=name, at_ns=START_NS + at_s * SECOND, kind="test.happened")
