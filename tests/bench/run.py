"""Entry point of the benchmark: `.venv/bin/python tests/bench/run.py`; see `bench.suite`."""

import sys
from pathlib import Path


def main() -> int:
    """Make the packages under `tests` importable and run the suite."""
    sys.path[0] = str(Path(__file__).parents[1])
    from bench.suite import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
