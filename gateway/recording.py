"""The recorder's process: hands the lake this host's journals, a journal of its own and texts."""

import fcntl
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway import hot_api
from gateway.config import Settings
from gateway.journal import Journal
from gateway.journal_folder import JournalFolder
from gateway.messages.answers import read_prompt_text, read_response_text, read_stream_part
from lake.catalog import open_lake
from lake.hot import HotIndex
from lake.recorder import Recorder, RecorderSettings
from lake.signing import Signer

YOUNG_OBJECTS = 200_000
"""How many new objects pass before cycles are looked for among them."""


class _MessageTexts:
    """Finds the readable text in recorded bodies."""

    def prompt_text(self, pieces: Sequence[bytes]) -> str:
        """Return the text of the last user turn among pieces of a request."""
        return read_prompt_text(pieces)

    def response_text(self, content_type: str, body: bytes) -> str:
        """Return the text of an answer, streamed or not."""
        return read_response_text(content_type, body)

    def text_part(self, content_type: str, part: bytes, *, is_first: bool) -> str | None:
        """Return what a part of an answer adds to its text; None if it must be read whole."""
        if not content_type.startswith("text/event-stream"):
            return None
        return read_stream_part(part, is_first=is_first)


def spare_the_collector() -> None:
    """Look for cycles seldom: a batch is a million objects without one, looked at again and again.

    The recorder looks once after each commit; the rest is for what happens between.
    """
    gc.freeze()  # what is there now lives as long as the process
    gc.set_threshold(YOUNG_OBJECTS, 50, 1000)


@contextmanager
def _only_recorder(root: Path) -> Iterator[None]:
    """Hold the lock on a journal folder; a second recorder raises `BlockingIOError`."""
    fd = os.open(root / "recorder.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def record_for_ever(
    settings: Settings,
    ready: Callable[[], None],
    new_id: Callable[[str], str],
    now_ns: Callable[[], int],
    *,
    listener: socket.socket,
    token: str,
) -> None:
    """Tail and commit until SIGTERM, then commit what is ready; show it all the while.

    Args:
        settings: Of the deployment.
        ready: Called when it works.
        new_id: Makes an id that begins with a word.
        now_ns: The clock.
        listener: Where consoles ask for what is not committed.
        token: What they must know.
    """
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
            RecorderSettings(commit_every_s=settings.lake.commit_every_s),
        )

        def open_index() -> HotIndex:
            file = settings.folder / "hot" / "index.db"
            return HotIndex(file, JournalFolder(root), _MessageTexts(), recorder.committed)

        spare_the_collector()
        with hot_api.serving(open_index, listener, token, lambda: recorder.state):
            ready()
            recorder.run(stop, now_ns)
        journal.close()
        lake.close()
