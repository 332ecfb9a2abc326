"""The suite: starts everything, measures row by row, prints the table and writes the figures.

It fails only if an answer was bad or a process did not start. A figure over its floor is shown and
no failure, since figures depend on the machine and on what else runs there.
"""

import json
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from support.deployment import Deployment, running

from bench import report
from bench.figures import Line
from bench.opa_cost import OpaTurn, measure_opa, opa_lines
from bench.rows import (
    PACED,
    PLAIN,
    STREAM,
    Bench,
    Row,
    added_lines,
    cpu_lines,
    masking_lines,
    memory_lines,
    pace_lines,
)
from bench.targets import BadAnswers, countersign, direct, started_bare, started_load

ROOT = report.ROOT
POLICIES = ROOT / "policies"
OUTPUT = ROOT / "build" / "bench.json"
ONE_WORKER = {"COUNTERSIGN_PROXY__WORKERS": "1"}
PACED_STREAMS = 64
LOG_WIDTH = 120
"""Of the table where there is no terminal."""
LIMIT_S = 600
"""After this the benchmark gives up."""


def run() -> int:
    """Run the whole benchmark; returns the exit code."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(LIMIT_S)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=LOG_WIDTH)
    began = time.monotonic()

    def say(words: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:4.0f} s[/]  {words}")

    product = report.digest_product()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
            rows, decisions = _measure(Path(folder), stack, say)
    except (BadAnswers, TimeoutError) as e:
        console.print(f"[bold red]No figures:[/] {e}")
        return 1
    lines = _lines(rows, decisions)
    report.show(console, lines)
    is_mixed = report.digest_product() != product
    if is_mixed:
        console.print("[bold red]Code or policies changed while measuring: run it again.[/]")
    raw: dict[str, Any] = {
        "product": product,
        "is_mixed": is_mixed,
        "settings": {"workers": 1, "durability": "strict", "took_s": time.monotonic() - began},
        "rows": rows,
        "opa": decisions,
    }
    report.write(OUTPUT, lines, raw)
    console.print(
        f"{time.monotonic() - began:.0f} s; every figure is in {OUTPUT.relative_to(ROOT)}"
    )
    return 0


def _measure(
    folder: Path, stack: ExitStack, say: Callable[[str], None]
) -> tuple[dict[str, Row], list[OpaTurn]]:
    say("OPA: building the policies of 20 teams")
    decisions = measure_opa(POLICIES, folder, say, rounds=4, seconds=1.2)
    say("starting the deployment, the bare proxy and the load generator")
    bench = Bench(stack.enter_context(started_load()), say)
    deployment = stack.enter_context(running(folder / "shipped-masking", environment=ONE_WORKER))
    rows = _measure_targets(bench, deployment, stack)
    say("starting two more deployments, whose policies mask everything and nothing")
    topics = [path.name for path in sorted((POLICIES / "gateway" / "masks").iterdir())]
    masked, unmasked = (
        stack.enter_context(_masking(folder / name, topics=names))
        for name, names in (("everything", topics), ("nothing", []))
    )
    rows |= _measure_masking(bench, masked, unmasked)
    return rows, decisions


def _measure_targets(bench: Bench, deployment: Deployment, stack: ExitStack) -> dict[str, Row]:
    """Measure the demo Claude, the bare proxy and the deployment against each other."""
    claude = direct(deployment)
    targets = (claude, stack.enter_context(started_bare(claude)), countersign(deployment))
    return {
        "plain": bench.measure(
            "plain exchanges, 16 callers", targets, PLAIN, rounds=4, callers=16, seconds=2.5
        ),
        "streamed": bench.measure(
            "streams of 64 deltas, 16 callers", targets, STREAM, rounds=3, callers=16, seconds=2.5
        ),
        "one_plain": bench.measure(
            "plain exchanges, one caller", targets, PLAIN, rounds=4, callers=1, seconds=2.5
        ),
        "one_streamed": bench.measure(
            "streams, one caller", targets, STREAM, rounds=3, callers=1, seconds=2.5
        ),
        "paced": bench.measure(
            f"{PACED_STREAMS} paced streams",
            targets,
            PACED,
            rounds=3,
            callers=PACED_STREAMS,
            seconds=2.0,
            spread_s=0.5,
        ),
    }


def _measure_masking(bench: Bench, masked: Deployment, unmasked: Deployment) -> dict[str, Row]:
    targets = (countersign(masked, "masked"), countersign(unmasked, "unmasked"))
    return {
        "masking_plain": bench.measure(
            "masking, plain exchanges", targets, PLAIN, rounds=4, callers=16, seconds=2.5
        ),
        "masking_streamed": bench.measure(
            "masking, streams", targets, STREAM, rounds=4, callers=16, seconds=2.5
        ),
    }


def _lines(rows: dict[str, Row], decisions: list[OpaTurn]) -> list[Line]:
    measured = [row for name, row in rows.items() if not name.startswith("masking")]
    return [
        *cpu_lines(rows["plain"], "plain exchange", 1),
        *opa_lines(decisions),
        *added_lines(rows["one_plain"], "latency", 3, {"p50": (4, 2), "p99": (15, 6)}),
        *added_lines(rows["one_streamed"], "time to first token", 4, {"p50": (4, 2)}),
        *masking_lines(rows["masking_plain"], "plain"),
        *masking_lines(rows["masking_streamed"], "stream"),
        *cpu_lines(rows["streamed"], "stream", 0),
        *pace_lines(rows["paced"], PACED_STREAMS),
        *memory_lines(measured),
    ]


def _masking(folder: Path, *, topics: list[str]) -> AbstractContextManager[Deployment]:
    """Return a deployment with the shipped policies that masks these topics for everyone."""
    source = folder / "policies"
    shutil.copytree(POLICIES, source)
    path = source / "gateway" / "config" / "data.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "masking": topics}))
    environment = ONE_WORKER | {"COUNTERSIGN_POLICY__SOURCE": str(source)}
    return running(folder / "var", environment=environment)


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"the benchmark took longer than {LIMIT_S} s")
