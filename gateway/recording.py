"""The recorder's process: hands the lake this host's journals, a journal of its own and texts."""

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.config import Settings
from gateway.domain import Failure
from gateway.journal import Journal
from gateway.journal_folder import JournalFolder
from gateway.messages.answers import read_prompt_text, read_response_text
from lake.catalog import open_lake
from lake.recorder import Recorder, RecorderSettings
from lake.signing import Signer
from lake.witness import FileWitness, HttpWitness, Witnesses


class _MessageTexts:
    """Finds the readable text in recorded bodies."""

    def prompt_text(self, pieces: Sequence[bytes]) -> str:
        """Return the text of the last user turn among pieces of a request."""
        return read_prompt_text(pieces)

    def response_text(self, content_type: str, body: bytes) -> str:
        """Return the text of an answer, streamed or not."""
        return read_response_text(content_type, body)


@contextmanager
def _only_recorder(root: Path) -> Iterator[None]:
    """Hold the lock on a journal folder; a second recorder raises `Failure`."""
    fd = os.open(root / "recorder.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as e:
        raise Failure(
            "recorder.second", f"another recorder commits the journals in {root}: one is enough"
        ) from e
    finally:
        os.close(fd)


def _witnesses(settings: Settings) -> Witnesses:
    file, url = settings.lake.witness_file, settings.lake.witness_url
    return Witnesses(
        [*([FileWitness(Path(file))] if file else []), *([HttpWitness(url)] if url else [])]
    )


def record_for_ever(
    settings: Settings,
    ready: Callable[[], None],
    new_id: Callable[[str], str],
    now_ns: Callable[[], int],
) -> None:
    """Tail and commit until SIGTERM, then commit what is ready."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    root = settings.journal_folder
    with _only_recorder(root):
        lake = open_lake(settings.catalog_url, Path(settings.warehouse))
        journal = Journal(root, new_id("recorder"), now_ns)
        journal.open()
        recorder = Recorder(
            lake,
            JournalFolder(root),
            journal,
            _MessageTexts(),
            Signer(settings.keys_folder),
            _witnesses(settings),
            RecorderSettings(commit_every_s=settings.lake.commit_every_s),
        )
        ready()
        recorder.run(stop, now_ns)
        journal.close()
        lake.close()
