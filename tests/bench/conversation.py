"""A long coding session: its last turns against its first, and what it takes to store it.

`.venv/bin/python tests/bench/conversation.py`; writes build/conversation.json. A made-up session
of 200 turns with a system prompt and tools as large as a coding agent's (10 and 60 KB); each turn
adds a tool call and its result. CPU times of the steps of a worker, in one process.
"""

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

ROOT: Final = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[0] = str(ROOT / "tests")

import msgspec  # noqa: E402 - after the path
import pyarrow as pa  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from support.ledger import exchange, record_all  # noqa: E402

from gateway.conversations import Conversations, Kinship  # noqa: E402
from gateway.incoming import read_prompt  # noqa: E402
from gateway.journal import Journal  # noqa: E402
from gateway.messages.body import parse  # noqa: E402
from gateway.messages.facts import read_facts  # noqa: E402
from gateway.messages.pieces import cut  # noqa: E402
from gateway.records import Opening  # noqa: E402
from gateway.scans import Scans  # noqa: E402
from gateway.tables import SignalSpec, Tables  # noqa: E402

TURNS: Final = 200
GROWING: Final = ("parse", "cut", "hash")
"""Steps that look at the whole body; reported apart."""
SAME: Final = ("prompt", "facts", "signals", "relate", "journal", "remember")
"""Steps that should cost what is new."""
COLD_BYTES: Final = 64 * 1024 * 1024
"""More than the caches of common processors hold."""
KIN: Final = Kinship(
    "https://idp", "dev", "s", "", "messages", "m", 1, "standard", "plain", "full", "r", ()
)
SIGNALS: Final = {
    "production": SignalSpec(title="", pattern=r"(?i)\bprod(uction)?\b"),
    "repository": SignalSpec(
        title="", pattern=r"git@[^:]+:(\S+)\.git", captures=True, alphabet="[a-z0-9/_-]"
    ),
}
WORDS: Final = [
    "def",
    "return",
    "self",
    "value",
    "list",
    "of",
    "the",
    "record",
    "frame",
    "journal",
    "for",
    "while",
    "if",
    "not",
    "is",
    "None",
    "error",
    "line",
    "file",
    "path",
    "read",
    "write",
    "test",
    "assert",
    "import",
    "from",
    "class",
    "open",
    "close",
    "turn",
    "exchange",
    "caller",
    "answer",
]

_T = TypeVar("_T")


def words(chance: random.Random, count: int) -> str:
    """Return text that compresses about as code and prose do."""
    return " ".join(
        chance.choice(WORDS) + (str(chance.randrange(1000)) if chance.random() < 0.3 else "")
        for _ in range(count)
    )


def bodies(chance: random.Random) -> list[bytes]:
    """Return the request of each turn."""
    tools = [
        {"name": f"Tool{n}", "description": words(chance, 480), "input_schema": {"type": "object"}}
        for n in range(20)
    ]
    system = [{"type": "text", "text": words(chance, 1600)}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": words(chance, 60)}]
    sent = []
    for turn in range(TURNS):
        request = {"model": "claude-opus-5-5", "messages": messages, "system": system}
        sent.append(json.dumps(request | {"tools": tools, "max_tokens": 32000}).encode())
        call = {"type": "tool_use", "id": f"toolu_{turn}", "name": "Tool1", "input": {"x": turn}}
        answer = [{"type": "text", "text": words(chance, 40)}, call]
        result = {"type": "tool_result", "tool_use_id": f"toolu_{turn}"}
        messages = [
            *messages,
            {"role": "assistant", "content": answer},
            {"role": "user", "content": [result | {"content": words(chance, 350)}]},
        ]
    return sent


class Worker:
    """The steps that a worker takes with each turn, each measured."""

    def __init__(self, root: Path) -> None:
        self.conversations, self.scans = Conversations(b"bench"), Scans()
        self.tables = Tables("r", {}, SIGNALS)
        self.journal = Journal(root, "proxy", time.time_ns)
        self.journal.open()
        self._other = random.Random(2).randbytes(COLD_BYTES)
        self.took: list[dict[str, float]] = []

    def _cool(self) -> None:
        """Fill the processor's caches with something else, as other calls do in between.

        Else a late turn's steps are measured after its 5 ms of parsing, and an early turn's warm.
        """
        self._other = bytes(self._other)[1:] + b"x"

    def turn(self, number: int, body: bytes) -> None:
        """Take a turn."""
        took: dict[str, float] = {}

        def timed(step: str, run: Callable[[], _T]) -> _T:
            began = time.thread_time()
            result = run()
            took[step] = (time.thread_time() - began) * 1e6
            return result

        value = timed("parse", lambda: parse(body))
        pieces = timed("cut", lambda: cut(body))
        digests = timed("hash", lambda: self.conversations.digest(pieces.all))
        self._cool()
        prompt = timed("prompt", lambda: read_prompt(value, pieces, digests))
        timed("facts", lambda: read_facts(value, self.scans.hear(prompt)))
        timed("signals", lambda: self.scans.find_signals(self.tables, prompt))
        base, kept = timed("relate", lambda: self.conversations.relate(KIN, pieces, digests))
        opening, *others = exchange(f"x{number:03}", number)
        assert isinstance(opening, Opening)
        opening = msgspec.structs.replace(opening, base=base, parts=kept)
        timed("journal", lambda: self.journal.append(opening))
        begun = prompt.beginnings
        timed(
            "remember",
            lambda: self.conversations.remember(KIN, opening.exchange_id, digests, begun),
        )
        self.journal.append(*others)
        self.took.append(took)


def measure(folder: Path) -> dict[str, Any]:
    """Return the figures."""
    sent = bodies(random.Random(1))
    (folder / "journal").mkdir(parents=True)
    worker = Worker(folder / "journal")
    for number, body in enumerate(sent):
        worker.turn(number, body)
    worker.journal.close()
    journal_bytes = sum(p.stat().st_size for p in (folder / "journal").rglob("*.segment"))
    record_all(folder)
    stored = sum(p.stat().st_size for p in (folder / "warehouse").rglob("contents/**/*.parquet"))
    zstd = pa.Codec("zstd", 3)
    early, late = worker.took[1:11], worker.took[-10:]
    return {
        "body_bytes_last": len(sent[-1]),
        "body_bytes_all": sum(map(len, sent)),
        "journal_bytes": journal_bytes,
        "stored_bytes": stored,
        "each_compressed_bytes": sum(len(zstd.compress(body)) for body in sent),
        "one_stream_bytes": len(zstd.compress(b"".join(sent))),
        "early_us": {step: statistics.median(t[step] for t in early) for step in early[0]},
        "late_us": {step: statistics.median(t[step] for t in late) for step in late[0]},
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures."""
    early, late = figures["early_us"], figures["late_us"]
    table = Table(title="A session of 200 turns: medians of turns 2-11 and 191-200")
    for column in ("step, CPU", "early", "late", "ratio"):
        table.add_column(column, justify="left" if column.startswith("step") else "right")
    sums = {
        "what is new: " + ", ".join(SAME): SAME,
        "whole body: " + ", ".join(GROWING): GROWING,
    }
    rows = {step: (step,) for step in (*SAME, *GROWING)} | sums
    for name, steps in rows.items():
        before, after = sum(early[s] for s in steps), sum(late[s] for s in steps)
        table.add_row(name, f"{before:.0f} us", f"{after:.0f} us", f"{after / before:.2f} x")
    console = Console()
    console.print(table)
    stored = figures["stored_bytes"]
    for name in ("body_bytes_all", "each_compressed_bytes", "one_stream_bytes", "journal_bytes"):
        console.print(f"{name:<24} {figures[name]:>12,}  {figures[name] / stored:7.1f} x stored")
    console.print(f"{'stored_bytes':<24} {stored:>12,}")


def main() -> int:
    """Measure, print and write."""
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    show(figures)
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "conversation.json").write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
