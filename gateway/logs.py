"""Log lines: one per event to standard error or a file, in UTC."""

import logging
import sys
import time
from pathlib import Path


class _LineFormatter(logging.Formatter):
    """Formats a line; the second's text is kept, since a busy worker logs many in each."""

    _second = 0
    _text = ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record; one with a trace takes the library's longer way."""
        if record.exc_info or record.stack_info:
            return super().format(record)
        time_text = self.formatTime(record)
        return f"{time_text} {record.levelname} {record.name} {record.getMessage()}"

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - the library's signature
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int(record.msecs):03}Z"


def configure_logging(log: Path | None = None) -> None:
    """Log lines to a file or standard error, one per event; what no line shows is not looked up."""
    handler = logging.FileHandler(log) if log else logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # the documented way to spare the look-up of callers
    logging.raiseExceptions = False  # a full disk must not turn each line into a trace
