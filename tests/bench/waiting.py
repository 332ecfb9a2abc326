"""Memory of calls that wait for approval: `.venv/bin/python tests/bench/waiting.py`.

Writes build/waiting.json. A gate over fakes holds many bodies as large as a coding agent's;
what a worker's resident memory grows by is divided by their number.
"""

import asyncio
import gc
import json
import random
import sys
import zlib
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[0] = str(ROOT / "tests")

from support.fakes import HOLD, FakeApprovals, FakeCaller, FakePolicy, World  # noqa: E402

from gateway.domain import Approval  # noqa: E402 - after the path
from gateway.records import Record  # noqa: E402

CALLS: Final = 1000
BODY_BYTES: Final = 76_000


class EndlessApprovals(FakeApprovals):
    """Nobody ever decides."""

    waiting = 0

    async def wait(
        self, approval: Approval, timeout_s: float, gone: "asyncio.Future[None]"
    ) -> Approval:
        self.waiting += 1
        await gone
        return approval


def body_of(number: int) -> bytes:
    """Return a body with tools and a prompt of words, each body another."""
    words = random.Random(number)
    vocabulary = ["".join(words.choices("abcdefghijklmnop", k=7)) for _ in range(1500)]

    def text(count: int) -> str:
        return " ".join(words.choices(vocabulary, k=count))

    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    tools: list[dict[str, Any]] = [
        {"name": f"Tool{n}", "description": text(330), "input_schema": schema} for n in range(24)
    ]
    messages = [{"role": "user", "content": text(1300)}]
    body = {"model": "m", "max_tokens": 1, "system": text(50), "tools": tools}
    return json.dumps({**body, "messages": messages}).encode()


async def measure() -> dict[str, float]:
    """Hold the calls and return what they cost."""
    approvals = EndlessApprovals()
    world = World(caller=FakeCaller(), policy=FakePolicy(HOLD), approvals=approvals)
    world.journal.append = _forget  # type: ignore[method-assign]  # the record is not measured
    process = psutil.Process()
    callers = [FakeCaller() for _ in range(CALLS)]
    warm = FakeCaller(body=body_of(CALLS))
    sizes = packed = 0
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.gate.run(warm))
        while approvals.waiting < 1:
            await asyncio.sleep(0.01)
        gc.collect()
        before = process.memory_info().rss
        for number, caller in enumerate(callers):
            caller.body = body_of(number)
            sizes += len(caller.body)
            packed += len(zlib.compress(caller.body, 1))
            tasks.create_task(world.gate.run(caller))
            while approvals.waiting < number + 2:
                await asyncio.sleep(0)
            caller.body = b""  # a connection keeps no body that was read
            world.policy.questions.clear()
        gc.collect()
        grown = process.memory_info().rss - before
        for each in (warm, *callers):
            each.gone.set_result(None)
    return {
        "calls": CALLS,
        "body_bytes": sizes / CALLS,
        "packed_bytes": packed / CALLS,
        "memory_bytes_per_call": grown / CALLS,
    }


def _forget(*_records: Record) -> None:
    pass


def main() -> int:
    """Measure, print and write."""
    figures = asyncio.run(measure())
    for name, value in figures.items():
        print(f"{name:<22} {value:>10,.0f}")
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    (build / "waiting.json").write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
