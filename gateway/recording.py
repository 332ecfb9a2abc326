"""The recorder's process: hands the lake this host's journals, a journal of its own and texts."""

import fcntl
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateway.config import Settings
from gateway.domain import Failure
from gateway.journal import Journal
from gateway.journal_folder import JournalFolder
from gateway.message_texts import MessageTexts
from gateway.published import PUBLISH_EVERY_S, publish, recorder_file
from gateway.recorder_report import RecorderReport
from gateway.records import Closing, Event
from lake.catalog import open_lake
from lake.recorder import Recorder
from lake.recorder_state import RecorderSettings
from lake.signing import Signer
from lake.witness import FileWitness, HttpWitness, Witnesses

_log = logging.getLogger(__name__)

YOUNG_OBJECTS = 200_000
"""How many new objects pass before cycles are looked for among them."""


def spare_the_collector() -> None:
    """Look for cycles seldom: a batch is a million objects without one, looked at again and again.

    The recorder looks once after each commit; the rest is for what happens between.
    """
    gc.freeze()  # what is there now lives as long as the process
    gc.set_threshold(YOUNG_OBJECTS, 50, 1000)


@contextmanager
def _only_recorder(root: Path) -> Iterator[None]:
    """Hold the lock on a journal folder; a second recorder raises `Failure`."""
    fd = os.open(root / "recorder.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise Failure(
                "recorder.second", f"another recorder commits the journals in {root}: one is enough"
            ) from e
        yield
    finally:
        os.close(fd)


def _witnesses(settings: Settings) -> Witnesses:
    file, url = settings.lake.witness_file, settings.lake.witness_url
    return Witnesses(
        [*([FileWitness(Path(file))] if file else []), *([HttpWitness(url)] if url else [])]
    )


class _OwnJournal:
    """The recorder's own journal; when it takes nothing any more, the recorder has to end."""

    def __init__(self, journal: Journal, stop: threading.Event) -> None:
        self._journal = journal
        self._stop = stop

    def append(self, record: Closing | Event) -> None:
        """Write a record; on an error it may or may not be there."""
        try:
            self._journal.append(record)
        finally:
            if self._journal.broken_by is not None:
                self._stop.set()


@contextmanager
def _opened(root: Path, journal_id: str, now_ns: Callable[[], int]) -> Iterator[Journal]:
    """Open the recorder's own journal; one that broke raises `Failure` once it is closed."""
    journal = Journal(root, journal_id, now_ns)
    journal.open()
    try:
        yield journal
        broken_by = journal.broken_by
    finally:
        journal.close()
    if broken_by is not None:
        raise Failure(
            "recorder.journal_broken",
            f"journal {journal_id} can't be written any more ({broken_by}): a new one is needed",
        )


@contextmanager
def _publishing(recorder: Recorder, path: Path, now_ns: Callable[[], int]) -> Iterator[None]:
    """Publish the recorder's state every second, from a thread, since a step may take long."""
    is_over = threading.Event()

    def publish_for_ever() -> None:
        state, renewed_ns = recorder.state, now_ns()
        while not is_over.wait(PUBLISH_EVERY_S):
            if recorder.state is not state:
                state, renewed_ns = recorder.state, now_ns()
            report = RecorderReport(
                at_ns=now_ns(),
                renewed_ns=renewed_ns,
                state=state,
                committed=recorder.committed(),
            )
            try:
                publish(path, report)
            except OSError as e:
                _log.error("recorder_not_published error=%r", e)

    thread = threading.Thread(target=publish_for_ever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def record_for_ever(
    settings: Settings,
    ready: Callable[[], None],
    new_id: Callable[[str], str],
    now_ns: Callable[[], int],
) -> None:
    """Tail and commit until SIGTERM, or until the own journal breaks, then commit what is ready.

    Args:
        settings: Of the deployment.
        ready: Called when it works.
        new_id: Makes an id that begins with a word.
        now_ns: The clock.

    Raises:
        Failure: another recorder runs, or the own journal broke: a new life begins a new one.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    root = settings.journal_folder
    with (
        _only_recorder(root),
        closing(open_lake(settings.catalog_url, Path(settings.warehouse))) as lake,
        _opened(root, new_id("recorder"), now_ns) as journal,
    ):
        recorder = Recorder(
            lake,
            JournalFolder(root),
            _OwnJournal(journal, stop),
            MessageTexts(),
            Signer(settings.keys_folder),
            _witnesses(settings),
            RecorderSettings(commit_every_s=settings.lake.commit_every_s),
        )

        spare_the_collector()
        with _publishing(recorder, recorder_file(settings.folder), now_ns):
            ready()
            recorder.run(stop, now_ns)
