"""What a commit costs as commits add up: `.venv/bin/python tests/bench/commits.py [COMMITS]`.

Commits batches of 50 events with a cursor, as the recorder does, expiring snapshots when it does.
Prints the CPU time of the commits before 100, 1,000 and 10,000; writes build/commits.json.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[0] = str(ROOT / "tests")

import pyarrow as pa  # noqa: E402 - after the path

from gateway.records import Event  # noqa: E402
from lake.catalog import open_lake  # noqa: E402
from lake.recorder_state import RecorderSettings  # noqa: E402
from lake.rows import event_row  # noqa: E402

ROWS: Final = 50
MARKS: Final = (100, 1_000, 10_000)
WINDOW: Final = 50
"""Commits before a mark that are taken together."""


def batch(schema: pa.Schema, number: int) -> pa.Table:
    """Return the rows of a commit."""
    events = (
        Event(event_id=f"e{number}.{n}", at_ns=time.time_ns(), kind="bench.happened", sub="dev")
        for n in range(ROWS)
    )
    rows = [event_row(event, "j", number * ROWS + n, "events") for n, event in enumerate(events)]
    return pa.Table.from_pydict({c: [r.get(c) for r in rows] for c in schema.names}, schema=schema)


def measure(folder: Path, commits: int) -> list[dict[str, Any]]:
    """Commit, and return the figures at each mark."""
    lake = open_lake(f"sqlite:///{folder}/catalog.db", folder / "warehouse")
    schema, bounds = lake.arrow_schema("events"), RecorderSettings()
    took: list[tuple[float, float]] = []
    figures: list[dict[str, Any]] = []
    metadata = folder / "warehouse" / "countersign" / "events" / "metadata"
    for number in range(1, commits + 1):
        rows = batch(schema, number)
        cpu, wall = time.process_time(), time.perf_counter()
        table = lake.load("events")
        lake.commit(table, rows, {"countersign.cursor.j": f"[[1,{number}],[1,{number}]]"})
        if len(lake.load("events").snapshots()) > bounds.most_snapshots:
            lake.expire("events", bounds.kept_snapshots)
        took.append((time.process_time() - cpu, time.perf_counter() - wall))
        if number in MARKS or number == commits:
            last = took[-WINDOW:]
            newest, table = max(metadata.glob("*.metadata.json")), lake.load("events")
            snapshot = table.current_snapshot()
            figures.append(
                {
                    "commits": number,
                    "cpu_ms": statistics.median(c for c, _ in last) * 1000,
                    "mean_cpu_ms": statistics.mean(c for c, _ in last) * 1000,
                    "worst_wall_ms": max(w for _, w in last) * 1000,
                    "metadata_json_kb": newest.stat().st_size / 1024,
                    "manifests": len(snapshot.manifests(table.io)) if snapshot else 0,
                }
            )
            print({k: round(v, 1) for k, v in figures[-1].items()}, flush=True)
    lake.close()
    return figures


def main() -> int:
    """Measure, print and write."""
    commits = int(sys.argv[1]) if len(sys.argv) > 1 else MARKS[-1]
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), commits)
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "commits.json").write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
