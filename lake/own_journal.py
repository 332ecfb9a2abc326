"""What the recorder writes into its own journal: endings owed, damage, ends, a clock set back.

Read back and committed like any other record. A write that fails is tried again at a later step.
"""

import logging
from collections.abc import Mapping

from gateway.domain import Failure
from gateway.records import Closing, Event
from lake.chains import Link
from lake.intake import Intake
from lake.journal_events import damaged, ended, set_back
from lake.sources import Writer

logger = logging.getLogger(__name__)


class OwnJournal:
    """The recorder's own journal."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._interrupted: set[str] = set()
        self._damaged: set[str] = set()
        self._ended: dict[str, Link] = {}
        """Where journals ended that were let go of, and no record says so yet."""
        self._set_back: list[Event] = []
        """That the clock was set back, as far as no record says so yet."""

    def interrupt(self, intake: Intake, now_ns: int) -> int:
        """Write the closings that dead writers owe; returns how many that were."""
        owed = [
            exchange
            for exchange in intake.orphans()
            if exchange.opening.exchange_id not in self._interrupted
        ]
        for number, exchange in enumerate(owed):
            is_damaged = exchange.journal_id in intake.corrupt
            if not self._write(exchange.interrupted(now_ns, is_damaged=is_damaged)):
                return number
            self._interrupted.add(exchange.opening.exchange_id)
        return len(owed)

    def note_damage(self, intake: Intake, now_ns: int) -> None:
        """Note which journals are damaged, once each."""
        for journal in sorted(intake.corrupt.keys() - self._damaged):
            position = intake.corrupt[journal]
            logger.error("journal_corrupt journal=%s position=%s", journal, position)
            following = intake.chains.next_sequence(journal)
            if self._write(damaged(journal, position, following, now_ns)):
                self._damaged.add(journal)

    def note_ends(self, links: Mapping[str, Link], now_ns: int) -> None:
        """Note where journals ended that are let go of, and what could not be noted before."""
        self._ended |= links
        for journal, link in list(self._ended.items()):
            if self._write(ended(journal, link.root, link.next_sequence, now_ns)):
                del self._ended[journal]

    def note_clock(self, sealed_us: int, now_us: int) -> None:
        """Note that the clock was set back, if it is behind what was sealed last."""
        if now_us < sealed_us:
            self._set_back.append(set_back(sealed_us, now_us))
        while self._set_back and self._write(self._set_back[0]):
            del self._set_back[0]

    def _write(self, record: Closing | Event) -> bool:
        """Return whether it was written; no failure is passed on.

        Else nothing would be committed, and so no room ever made.
        """
        try:
            self._writer.append(record)
        except (Failure, OSError) as e:
            logger.error("record_not_written kind=%s error=%r", type(record).__name__, e)  # noqa: TRY400 - a full disk is no surprise
            return False
        return True
