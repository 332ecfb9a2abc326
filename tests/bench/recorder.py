"""What recording costs, and how soon it is seen: `.venv/bin/python tests/bench/recorder.py`.

Throughput: prepared journals into a fresh lake; what each exchange takes in the tables and of CPU.
Freshness: a recorder's process under a steady load; from before the write of a frame until a
console reads it. Prints a table and writes build/recorder.json.
"""

import argparse
import asyncio
import cProfile
import json
import multiprocessing
import os
import pstats
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[0] = str(ROOT / "tests")

import msgspec  # noqa: E402 - after the path
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from support.records import Texts, answered, chunk, closing, delta, opening  # noqa: E402

from bench.figures import summarize  # noqa: E402
from bench.report import ROOT as BUILD_ROOT  # noqa: E402
from gateway import app, processes  # noqa: E402
from gateway.config import Settings  # noqa: E402
from gateway.console.recorders import RecorderClient  # noqa: E402
from gateway.domain import Outcome  # noqa: E402
from gateway.hot_api import STEP_S  # noqa: E402
from gateway.journal import Journal  # noqa: E402
from gateway.journal_folder import JournalFolder  # noqa: E402
from gateway.recording import spare_the_collector  # noqa: E402
from gateway.records import Decided, Record  # noqa: E402
from lake.catalog import open_lake  # noqa: E402
from lake.cursors import Cursors  # noqa: E402
from lake.hot import HotIndex  # noqa: E402
from lake.hot_read import HotReader, UnreachableError  # noqa: E402
from lake.read import LakeReader  # noqa: E402
from lake.recorder import Recorder  # noqa: E402
from lake.recorder_state import RecorderSettings  # noqa: E402
from lake.shown import Owner  # noqa: E402
from lake.signing import Signer  # noqa: E402
from lake.witness import Witnesses  # noqa: E402

WORDS = (ROOT / "README.md").read_text().split()
REQUEST_BYTES = ANSWER_BYTES = 4_096
CHUNKS = 8
OWNER = Owner("https://id", "ada")
TOKEN = "bench"
POLL_S = 0.05
"""How often who waits looks: part of what is measured."""


def exchange(name: str, session: str, chance: random.Random) -> list[Record]:
    """Return the records of an exchange of 8 KB: 4 KB asked, 4 KB answered in eight chunks."""
    now_ns = time.time_ns()
    asked = " ".join(chance.choices(WORDS, k=REQUEST_BYTES // 7))[:REQUEST_BYTES]
    message = msgspec.json.encode({"role": "user", "content": asked})
    opened = opening(name, at_ns=now_ns, session=session, parts=(b'{"messages":[', message, b"]}"))
    question = msgspec.json.encode(
        {"principal": msgspec.to_builtins(opened.principal), "request": name, "now": now_ns}
    )
    decided = Decided(
        number=1,
        outcome=Outcome.ALLOW,
        reasons=(),
        revision="4f2a",
        input_json=question * 4,
        result_json=question * 2,
    )
    answer = [
        chunk(name, delta(" ".join(chance.choices(WORDS, k=ANSWER_BYTES // CHUNKS // 10))), number)
        for number in range(CHUNKS)
    ]
    return [
        msgspec.structs.replace(opened, decision=decided),
        answered(name),
        *answer,
        closing(name),
    ]


def prepare(folder: Path, count: int) -> None:
    """Write journals as two workers would."""
    chance = random.Random(1)
    journals = [Journal(folder, f"proxy-{n}", time.time_ns) for n in range(2)]
    for journal in journals:
        journal.open()
    for number in range(count):
        records = exchange(f"x{number:07}", f"s{number % 500}", chance)
        for record in records:
            journals[number % 2].append(record)
    for journal in journals:
        journal.close()


def measure_throughput(folder: Path, count: int, profile: Path | None) -> dict[str, float]:
    """Return how fast journals become rows, and how large these are."""
    prepare(folder / "journal", count)
    shutil.copytree(folder, folder.with_name("beside"))
    journal_bytes = sum(p.stat().st_size for p in (folder / "journal").rglob("*.segment"))
    hot = _drained(lambda: _follow(folder, dict), None)
    spare_the_collector()
    cold = _record(folder, count, profile, is_followed=False)
    beside = _record(folder.with_name("beside"), count, None, is_followed=True)
    stored = sum(p.stat().st_size for p in (folder / "warehouse").rglob("*.parquet"))
    return {
        "exchanges": count,
        "exchanges_per_s": count / cold[0],
        "exchanges_per_s_with_hot_index_beside": count / beside[0],
        "recorder_cpu_ms": cold[1] * 1000 / count,
        "hot_index_cpu_ms": hot[1] * 1000 / count,
        "hot_index_exchanges_per_s": count / hot[0],
        "journal_bytes": journal_bytes / count,
        "table_bytes": stored / count,
    }


def _record(
    folder: Path, count: int, profile: Path | None, *, is_followed: bool
) -> tuple[float, float]:
    """Record all of the journals; returns wall and CPU seconds."""
    lake = open_lake(f"sqlite:///{folder}/catalog.db", folder / "warehouse")
    own = Journal(folder / "journal", "recorder", time.time_ns)
    own.open()
    reader = JournalFolder(folder / "journal")
    recorder = Recorder(
        lake,
        reader,
        own,
        Texts(),
        Signer(folder / "keys"),
        Witnesses([]),
        RecorderSettings(commit_every_s=15),
    )

    def record() -> None:
        while recorder.step(time.time_ns()).records:
            pass
        recorder.step(time.time_ns(), flush=True)

    stop = threading.Event()
    following = threading.Thread(target=_follow, args=(folder, recorder.committed, stop))
    if is_followed:
        following.start()
    took = _drained(record, profile)
    if is_followed:
        stop.set()
        following.join()
    rows = lake.load("exchanges").scan(selected_fields=("sequence",)).to_arrow().num_rows
    assert rows == count, f"{rows} of {count} exchanges"
    lake.close()
    own.close()
    return took


def _follow(
    folder: Path, committed: Callable[[], Cursors], stop: threading.Event | None = None
) -> None:
    index = HotIndex(folder / "hot.db", JournalFolder(folder / "journal"), Texts(), committed)
    while index.step() or (stop is not None and not stop.wait(STEP_S)):
        pass
    index.close()


def _drained(run: Callable[[], None], profile: Path | None) -> tuple[float, float]:
    """Return wall and CPU seconds of a run."""
    profiler = cProfile.Profile() if profile else None
    began, cpu = time.perf_counter(), time.process_time()
    if profiler and profile:
        profiler.runcall(run)
        profiler.dump_stats(profile)
    else:
        run()
    return time.perf_counter() - began, time.process_time() - cpu


@contextmanager
def recording(settings: Settings) -> Iterator[None]:
    """Run a recorder and a hot index."""
    context = multiprocessing.get_context("fork")
    readies = [context.Event(), context.Event()]
    started = [
        context.Process(target=processes.run_recorder, args=(settings, readies[0].set)),
        context.Process(target=lambda: asyncio.run(processes.run_hot(settings, readies[1].set))),
    ]
    for process in started:
        process.start()
    for ready in readies:
        ready.wait(30)
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.join(30)


def measure_freshness(folder: Path, per_s: int, seconds: float) -> dict[str, Any]:
    """Return how soon openings and closings are seen under a steady load."""
    port = 20_000 + os.getpid() % 10_000
    settings = Settings(
        folder=folder,
        demo=True,
        recorder={"port": port},
        lake={"commit_every_s": 5},
    )
    (folder / "run").mkdir(parents=True)
    (folder / "journal").mkdir()
    app.recorder_token_file(settings).write_text(TOKEN)
    written: dict[tuple[str, str], float] = {}
    seen: dict[tuple[str, str], float] = {}
    stop = threading.Event()
    client = RecorderClient(settings.recorder_url, TOKEN)

    def poll() -> None:
        epoch, changed = "", 0
        while not stop.is_set():
            try:
                page = client.page(epoch, changed)
            except UnreachableError:  # too slow once; what it has is seen later, and counts so
                continue
            now = time.perf_counter()
            epoch, changed = page.epoch, page.changed
            for row in page.rows:
                state = "running" if row["ending"] == "running" else "closed"
                seen.setdefault((str(row["exchange_id"]), state), now)
            time.sleep(POLL_S)

    with recording(settings):
        polling = threading.Thread(target=poll)
        polling.start()
        lake = open_lake(settings.catalog_url, Path(settings.warehouse))
        hot = HotReader([client], lake.arrow_schema("exchanges"), time.monotonic)
        reader = LakeReader(lake, hot)
        probing = _Probes(reader)
        prober = threading.Thread(target=probing.run, args=(stop,))
        prober.start()
        count = _load(folder / "journal", per_s, seconds, written, probing)
        time.sleep(2)
        stop.set()
        polling.join()
        prober.join()
        reader.close()
        lake.close()
    waits = {
        state: summarize(
            [(seen[k] - at) * 1000 for k, at in written.items() if k[1] == state and k in seen]
        )
        for state in ("running", "closed")
    }
    return {
        "exchanges_per_s": count / seconds,
        "recorder_api_running_ms": waits["running"],
        "recorder_api_closed_ms": waits["closed"],
        "console_read_ms": summarize(probing.waits_ms),
        "console_list_ms": summarize(probing.lists_ms),
    }


class _Probes:
    """Looks for single exchanges through the console's reads until they are there."""

    def __init__(self, reader: LakeReader) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._wanted: tuple[str, float] | None = None
        self.waits_ms: list[float] = []
        self.lists_ms: list[float] = []

    def want(self, session: str, at: float) -> None:
        """Look for a session, unless another is still looked for."""
        with self._lock:
            self._wanted = self._wanted or (session, at)

    def run(self, stop: threading.Event) -> None:
        """Look until stopped."""
        while not stop.is_set():
            with self._lock:
                wanted = self._wanted
            time.sleep(POLL_S)
            if wanted is None:
                continue
            began = time.perf_counter()
            found = self._reader.exchanges(OWNER, wanted[0])
            now = time.perf_counter()
            self.lists_ms.append((now - began) * 1000)
            if found:
                self.waits_ms.append((now - wanted[1]) * 1000)
                with self._lock:
                    self._wanted = None


def _load(
    folder: Path,
    per_s: int,
    seconds: float,
    written: dict[tuple[str, str], float],
    probing: _Probes,
) -> int:
    """Open and close exchanges at a steady rate, each closed half a second after its opening."""
    journal = Journal(folder, "proxy", time.time_ns)
    journal.open()
    chance, begun = random.Random(2), time.perf_counter()
    due: list[tuple[float, str, list[Record]]] = []
    number = 0
    while (now := time.perf_counter()) < begun + seconds:
        while due and due[0][0] <= now:
            _, name, records = due.pop(0)
            written[name, "closed"] = time.perf_counter()
            journal.append(*records)
        if number <= (now - begun) * per_s:
            name = f"y{number:07}"
            first, *records = exchange(name, f"s{number}", chance)
            at = written[name, "running"] = time.perf_counter()
            journal.append(first)
            due.append((at + 0.5, name, records))
            if number % 50 == 0:
                probing.want(f"s{number}", at)
            number += 1
        else:
            time.sleep(0.001)
    for _, _, records in due:
        journal.append(*records)
    journal.close()
    return number


def main() -> int:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=20_000)
    parser.add_argument("--per-s", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--profile", type=Path, help="Where to write the recorder's profile.")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="countersign-bench-"))
    try:
        # First what forks: the other starts threads.
        freshness = (
            measure_freshness(folder / "f", options.per_s, options.seconds) if options.per_s else {}
        )
        throughput = measure_throughput(folder / "t", options.exchanges, options.profile)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = {"throughput": throughput, "freshness": msgspec.to_builtins(freshness)}
    _show(Console(), figures)
    if options.profile:
        pstats.Stats(str(options.profile)).sort_stats("tottime").print_stats(30)
    out = BUILD_ROOT / "build" / "recorder.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(figures, indent=1))
    return 0


def _show(console: Console, figures: dict[str, dict[str, Any]]) -> None:
    table = Table(title="Recorder, exchanges of 8 KB", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for part in figures.values():
        for name, value in part.items():
            if isinstance(value, dict):
                text = (
                    f"p50 {value['p50']:.0f}, p99 {value['p99']:.0f}, most {value['largest']:.0f}"
                )
            else:
                text = f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
            table.add_row(name, text)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
