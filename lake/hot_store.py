"""The database of the hot index: SQLite, one connection, thrown away and rebuilt at any doubt.

Knows no record; rows are JSON here. Not safe for several threads.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from gateway.records import Position
from lake.cursors import Cursors
from lake.hot_rows import Progress
from lake.spans import Span

VERSION: Final = 1
"""Of the tables below; a database of another is thrown away."""
BUSY_S: Final = 5.0

_TABLES: Final = """
CREATE TABLE journals (journal TEXT PRIMARY KEY, segment INTEGER, offset INTEGER) WITHOUT ROWID;
CREATE TABLE exchanges (
    exchange_id TEXT PRIMARY KEY, changed INTEGER NOT NULL,
    journal TEXT NOT NULL, segment INTEGER NOT NULL, begin INTEGER NOT NULL,
    closing_journal TEXT, closing_segment INTEGER, closing_begin INTEGER,
    started_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL, first_byte_ns INTEGER,
    status INTEGER, released_bytes INTEGER NOT NULL,
    response_type TEXT NOT NULL, text_kind TEXT NOT NULL, text_chars INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX by_change ON exchanges (changed);
CREATE INDEX by_opening ON exchanges (journal, segment, begin);
CREATE INDEX by_closing ON exchanges (closing_journal, closing_segment, closing_begin);
CREATE TABLE rows (
    exchange_id TEXT PRIMARY KEY REFERENCES exchanges ON DELETE CASCADE, row BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE texts (
    exchange_id TEXT REFERENCES exchanges ON DELETE CASCADE, changed INTEGER, text TEXT NOT NULL,
    PRIMARY KEY (exchange_id, changed)
) WITHOUT ROWID;
CREATE TABLE spans (
    exchange_id TEXT REFERENCES exchanges ON DELETE CASCADE,
    journal TEXT, segment INTEGER, begin INTEGER, "end" INTEGER, is_head INTEGER NOT NULL,
    PRIMARY KEY (exchange_id, journal, segment, begin)
) WITHOUT ROWID;
CREATE TABLE waiting (
    exchange_id TEXT PRIMARY KEY, journal TEXT, segment INTEGER, begin INTEGER, "end" INTEGER
) WITHOUT ROWID;
"""
_SETTINGS: Final = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
PRAGMA foreign_keys = ON;
PRAGMA secure_delete = ON;
"""


class Stored(NamedTuple):
    """A row as it is stored, with what changed since and the text so far."""

    changed: int
    row: bytes
    text: str
    progress: Progress


_PROGRESS: Final = (
    "started_ns, last_ns, first_byte_ns, status, released_bytes, response_type, "
    "text_kind, text_chars, closing_journal IS NOT NULL"
)


class HotStore:
    """The tables of the hot index."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._db = self._open()

    def rebuild(self) -> None:
        """Begin from nothing."""
        self.close()
        self._delete()
        self._db = self._open()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is written inside."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.rollback()
            raise
        self._db.commit()

    # --- how far, and what is gone --------------------------------------------------------------

    def positions(self) -> dict[str, Position]:
        """Return where to go on, by journal."""
        rows = self._db.execute("SELECT journal, segment, offset FROM journals")
        return {journal: Position(segment, offset) for journal, segment, offset in rows}

    def set_position(self, journal: str, position: Position) -> None:
        """Say where to go on."""
        self._db.execute("INSERT OR REPLACE INTO journals VALUES (?, ?, ?)", (journal, *position))

    def remove_committed(self, cursors: Cursors) -> list[str]:
        """Remove what the tables have, by its closing's place or its opening's; returns which."""
        gone: list[str] = []
        for journal, cursor in cursors.items():
            for prefix, before in (("closing_", cursor.closed), ("", cursor.open)):
                deleted = self._db.execute(
                    f"DELETE FROM exchanges WHERE {prefix}journal = ? "  # noqa: S608 - our columns
                    f"AND ({prefix}segment, {prefix}begin) < (?, ?) RETURNING exchange_id",
                    (journal, *before),
                )
                gone += [exchange_id for (exchange_id,) in deleted]
            self._db.execute(
                "DELETE FROM waiting WHERE journal = ? AND (segment, begin) < (?, ?)",
                (journal, *cursor.closed),
            )
        return gone

    def remove(self, exchange_id: str) -> bool:
        """Remove an exchange; returns whether it was here."""
        command = "DELETE FROM exchanges WHERE exchange_id = ?"
        return bool(self._db.execute(command, (exchange_id,)).rowcount)

    def last_change(self) -> int:
        """Return the number of the newest change."""
        return self._one("SELECT coalesce(max(changed), 0) FROM exchanges")

    def counts(self) -> tuple[int, int]:
        """Return how many exchanges there are, and how many of them are running."""
        return self._one("SELECT count(*) FROM exchanges"), self._one(
            "SELECT count(*) FROM exchanges WHERE closing_journal IS NULL"
        )

    # --- one exchange ---------------------------------------------------------------------------

    def progress(self, exchange_id: str) -> Progress | None:
        """Return how far an exchange is; None if it is not here."""
        found = self._db.execute(
            f"SELECT {_PROGRESS} FROM exchanges WHERE exchange_id = ?",  # noqa: S608
            (exchange_id,),
        ).fetchone()
        return Progress(*found) if found else None

    def add(
        self, exchange_id: str, changed: int, opened: Span, row: bytes, progress: Progress
    ) -> None:
        """Add an exchange that opened there."""
        self._db.execute(
            "INSERT INTO exchanges "
            "VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
            (exchange_id, changed, opened.journal, *opened.start, *progress[:-1]),
        )
        self.set_row(exchange_id, row)

    def go_on(self, exchange_id: str, changed: int, progress: Progress) -> None:
        """Renew how far an exchange is."""
        self._db.execute(
            "UPDATE exchanges SET changed = ?, last_ns = ?, first_byte_ns = ?, status = ?, "
            "released_bytes = ?, response_type = ?, text_kind = ?, text_chars = ? "
            "WHERE exchange_id = ?",
            (changed, *progress[1:-1], exchange_id),
        )

    def end(self, exchange_id: str, closed: Span) -> None:
        """Say where an exchange closed; its text is in its row then."""
        self._db.execute(
            "UPDATE exchanges SET closing_journal = ?, closing_segment = ?, closing_begin = ? "
            "WHERE exchange_id = ?",
            (closed.journal, *closed.start, exchange_id),
        )
        self._db.execute("DELETE FROM texts WHERE exchange_id = ?", (exchange_id,))

    def set_row(self, exchange_id: str, row: bytes) -> None:
        """Replace the row of an exchange."""
        self._db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?)", (exchange_id, row))

    def add_text(self, exchange_id: str, changed: int, text: str) -> None:
        """Add what a change brought of the answer's text."""
        self._db.execute("INSERT INTO texts VALUES (?, ?, ?)", (exchange_id, changed, text))

    def text(self, exchange_id: str) -> str:
        """Return the text of the answer so far."""
        command = "SELECT text FROM texts WHERE exchange_id = ? ORDER BY changed"
        return "".join(text for (text,) in self._db.execute(command, (exchange_id,)))

    def add_spans(self, exchange_id: str, spans: Iterable[tuple[Span, bool]]) -> None:
        """Say where further frames of an exchange lie, and which are no chunks."""
        self._db.executemany(
            "INSERT OR IGNORE INTO spans VALUES (?, ?, ?, ?, ?, ?)",
            [(exchange_id, *span, is_head) for span, is_head in spans],
        )

    def spans(self, exchange_id: str, *, heads_only: bool = False) -> list[Span]:
        """Return where the frames of an exchange lie, in order."""
        rows = self._db.execute(
            'SELECT journal, segment, begin, "end" FROM spans '
            "WHERE exchange_id = ? AND is_head >= ? ORDER BY journal, segment, begin",
            (exchange_id, heads_only),
        )
        return [Span(*row) for row in rows]

    # --- closings that were read before their opening -------------------------------------------

    def wait(self, exchange_id: str, closed: Span) -> None:
        """Keep the place of a closing whose opening was not read yet."""
        self._db.execute(
            "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?)", (exchange_id, *closed)
        )

    def take_waiting(self, exchange_id: str) -> Span | None:
        """Remove and return the place of a closing that waits."""
        row = self._db.execute(
            'DELETE FROM waiting WHERE exchange_id = ? RETURNING journal, segment, begin, "end"',
            (exchange_id,),
        ).fetchone()
        return Span(*row) if row else None

    # --- lists ----------------------------------------------------------------------------------

    def has_older(self, since: int) -> bool:
        """Return whether there is a row that did not change after `since`."""
        found = self._db.execute("SELECT 1 FROM exchanges WHERE changed <= ? LIMIT 1", (since,))
        return found.fetchone() is not None

    def changes(self, since: int) -> Iterator[Stored]:
        """Yield the rows that changed after `since`, the oldest change first."""
        rows = self._db.execute(
            f"SELECT exchange_id, changed, row, {_PROGRESS} "  # noqa: S608 - our columns
            "FROM exchanges JOIN rows USING (exchange_id) "
            "WHERE changed > ? ORDER BY changed",
            (since,),
        )
        for exchange_id, changed, row, *values in rows:
            progress = Progress(*values)
            text = "" if progress.is_closed else self.text(exchange_id)
            yield Stored(changed, row, text, progress)

    # --- the file -------------------------------------------------------------------------------

    def _one(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    def _open(self) -> sqlite3.Connection:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file.parent.chmod(0o700)
        try:
            return self._connect()
        except sqlite3.DatabaseError:
            self._delete()
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        self._file.touch(mode=0o600)
        db = sqlite3.connect(self._file, timeout=BUSY_S, isolation_level=None)
        try:
            db.executescript(_SETTINGS)
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
            elif version != VERSION:
                raise sqlite3.DatabaseError("of another version")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _delete(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
