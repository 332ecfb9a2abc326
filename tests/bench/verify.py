"""How fast a record is verified: `.venv/bin/python tests/bench/verify.py`.

Writes build/verify.json.
Exchanges with prompt, answer and a piece each, recorded and signed as the recorder does it.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[0] = str(ROOT / "tests")

from support.ledger import exchange, record_all, verified  # noqa: E402 - after the path

from gateway.journal import Journal  # noqa: E402

EXCHANGES: Final = 100_000


def main() -> int:
    """Record, verify, print and write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "journal").mkdir()
        journal = Journal(folder / "journal", "proxy", time.time_ns)
        journal.open()
        for number in range(EXCHANGES):
            for record in exchange(f"x{number}", number // 100):
                journal.append(record)
        journal.close()
        record_all(folder)
        began, cpu = time.perf_counter(), time.process_time()
        report = verified(folder)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert report.is_clean, report.findings[:3]
    figures = {
        "rows": report.coverage.rows,
        "pieces": report.coverage.pieces,
        "rows_per_s": report.coverage.rows / took,
        "cpu_us_per_row": cpu / report.coverage.rows * 1e6,
        "seconds": took,
        "most_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    for key, value in figures.items():
        print(f"{key:<16} {value:>12,.1f}")
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "verify.json").write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
