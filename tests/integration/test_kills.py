"""Kills at random and at named points, under load: nothing that was delivered is lost or doubled.

COUNTERSIGN_TEST_KILLS sets how many (`make soak`: 1,000).
"""

import http.client
import itertools
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Self

import pytest
from support.deployment import ROOT, Deployment, running

KILLS = int(os.environ.get("COUNTERSIGN_TEST_KILLS", "50"))
CALLERS = 6
LONGEST_WAIT_S = 60.0
"""For a point to be come by, and for all processes to be back."""

POINTS = (
    "after frame",
    "after fdatasync",
    "after data file",
    "after manifest",
    "after catalog swap",
    "between tables",
)
RANDOM = ("proxy-1", "proxy-2", "recorder", "opa", "hot")


class Received(NamedTuple):
    """What a caller got of one exchange."""

    status: int
    body: bytes
    is_whole: bool
    exchange_id: str
    """Of an error of the gateway's own."""


class Load:
    """Callers that send plain and streamed exchanges, one after the other, until they are told."""

    def __init__(self, deployment: Deployment, token: str) -> None:
        self._deployment = deployment
        self._token = token
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self.received: dict[str, Received] = {}
        self.unanswered = 0
        self._threads = [threading.Thread(target=self._call_on) for _ in range(CALLERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _call_on(self) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            name = f"k{number}"
            received = self._call(name, is_stream=number % 2 == 0)
            if received is None:
                self.unanswered += 1
                time.sleep(0.05)
            else:
                self.received[name] = received

    def _call(self, name: str, *, is_stream: bool) -> Received | None:
        pace = " [[demo length=400 pace=8]]" if is_stream else ""
        request = {
            "model": "claude-sonnet-4-5",
            "max_tokens": 900,
            "stream": is_stream,
            "messages": [{"role": "user", "content": f"{name} {pace}"}],
        }
        body, headers = b"", {"authorization": f"Bearer {self._token}"}
        port = self._deployment.base_port
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            try:
                connection.request("POST", "/v1/messages", json.dumps(request), headers)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException):
                return None
            # An answer that ends with its connection owns the socket: closed by itself.
            with response:
                try:
                    while data := response.read1(65536):
                        body += data
                    is_whole = b"message_stop" in body if is_stream else True
                except http.client.IncompleteRead as e:
                    body, is_whole = body + e.partial, False
                except (OSError, http.client.HTTPException):
                    is_whole = False
        exchange_id = response.headers.get("request-id", "") if response.status != 200 else ""
        return Received(response.status, body, is_whole, exchange_id)


def kill_one(deployment: Deployment, order: Path, chance: random.Random, number: int) -> str:
    """Kill a process, at random or at a named point; returns what it was."""
    if number % 2:
        name = chance.choice(RANDOM)
        process = deployment.processes.get(name)
        if process is not None and process.state == "running":
            os.kill(process.pid, signal.SIGKILL)
        return name
    point = POINTS[number // 2 % len(POINTS)]
    order.with_suffix(".part").write_text(point)
    order.with_suffix(".part").rename(order)
    until = time.monotonic() + LONGEST_WAIT_S
    while order.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not order.exists(), f"no process came by the point {point!r}"
    return point


def wait_until_all_run(deployment: Deployment) -> None:
    """Wait until every process is back."""
    until = time.monotonic() + LONGEST_WAIT_S
    while {process.state for process in deployment.processes.values()} != {"running"}:
        assert time.monotonic() < until, deployment.processes
        time.sleep(0.05)


@pytest.mark.timeout(60 + 20 * KILLS)
def test_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    order, seed = tmp_path / "order", random.randrange(2**32)
    environment = {
        "COUNTERSIGN_TEST_FAULT": str(order),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "support" / "faults"), str(ROOT)]),
        "COUNTERSIGN_LAKE__COMMIT_EVERY_S": "0.5",
        "COUNTERSIGN_PROXY__WORKERS": "2",
    }
    chance, kills = random.Random(seed), Counter[str]()
    with running(tmp_path / "var", environment=environment) as deployment:
        with Load(deployment, deployment.token(ttl="12h")) as load:
            for number in range(KILLS):
                time.sleep(chance.uniform(0, 0.4))
                kills[kill_one(deployment, order, chance, number)] += 1
                if number % 4 == 3:
                    wait_until_all_run(deployment)
            wait_until_all_run(deployment)
        check(deployment, load, f"seed {seed}, kills {dict(kills)}")


def check(deployment: Deployment, load: Load, told: str) -> None:
    """Compare what callers got with the tables."""
    delivered = {n: r for n, r in load.received.items() if r.status == 200}
    refused = {r.exchange_id for r in load.received.values() if r.exchange_id}
    wait_for_record(deployment, delivered.keys(), refused, told)
    rows = deployment.sql(
        "select split_part(prompt_text, ' ', 1) as name, ending, hex(response_body) as body "
        "from exchanges left join bodies using (exchange_id) where prompt_text like 'k%'"
    )
    doubled = [name for name, count in Counter(row["name"] for row in rows).items() if count > 1]
    assert not doubled, told
    found = {row["name"]: row for row in rows}
    for name, received in delivered.items():
        recorded = bytes.fromhex(found[name]["body"] or "")
        assert recorded.startswith(received.body), f"{name}: {told}"
        if received.is_whole:
            assert (found[name]["ending"], recorded) == ("delivered", received.body), told
    (twice,) = deployment.sql(
        "select count(*) - count(distinct exchange_id) as rows, "
        "(select count(*) - count(distinct piece_id) from contents) as pieces, "
        "(select count(*) - count(distinct event_id) from events) as events from exchanges"
    )
    assert set(twice.values()) == {0}, told
    assert "as it was recorded" in deployment.run("verify"), told
    endings = Counter(row["ending"] for row in rows)
    whole = sum(received.is_whole for received in delivered.values())
    print(  # noqa: T201 - the figures of a run, shown by `make soak`
        f"\n{told}\n{len(delivered)} answers, {whole} of them whole, {len(refused)} refused, "
        f"{load.unanswered} calls without an answer; rows by ending: {dict(endings)}"
    )
    assert delivered
    assert whole < len(delivered) or KILLS < 20


def wait_for_record(
    deployment: Deployment, names: Iterable[str], refused: set[str], told: str
) -> None:
    """Wait until every exchange that a caller got something of has its row."""
    until = time.monotonic() + 60
    while True:
        rows = deployment.sql(
            "select exchange_id, split_part(prompt_text, ' ', 1) as name from exchanges"
        )
        missing = set(names) - {row["name"] for row in rows}
        missing |= refused - {row["exchange_id"] for row in rows}
        if not missing:
            return
        assert time.monotonic() < until, f"not recorded: {sorted(missing)}; {told}"
        time.sleep(0.5)
