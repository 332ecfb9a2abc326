"""What is measured: the demo Claude itself, a bare proxy before it, and the whole product."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
from support.deployment import Deployment, free_base_port

from bench.load import Job, Result
from gateway.cli.terminal import settings_in_force
from gateway.demo_setup import mint_token

TESTS = Path(__file__).parents[1]
END_S = 10
_USUAL_HEADERS = {
    "content-type": "application/json",
    "accept": "application/json",
    "anthropic-version": "2023-06-01",
    "user-agent": "bench/1.0",
}
_QUIET_SHARE = 0.1
"""Of a core: what a recorder with nothing to do stays below."""
_QUIET_WINDOW_S = 0.4


class BadAnswers(Exception):
    """A target did not answer as it must, so that its figures mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that answers calls."""

    name: str
    port: int
    headers: dict[str, str]
    processes: dict[str, psutil.Process]
    """By part; the part `gateway` is the proxy itself."""

    def cpu_s(self) -> dict[str, float]:
        """Return the user and system time that each process has used so far."""
        times = {part: process.cpu_times() for part, process in self.processes.items()}
        return {part: spent.user + spent.system for part, spent in times.items()}

    def settle(self, at_most_s: float = 6.0) -> None:
        """Wait until the recorder has caught up, so that it disturbs nobody's turn."""
        if "recorder" not in self.processes:
            return
        until = time.monotonic() + at_most_s
        spent = self.cpu_s()["recorder"]
        while time.monotonic() < until:
            time.sleep(_QUIET_WINDOW_S)
            before, spent = spent, self.cpu_s()["recorder"]
            if spent - before < _QUIET_SHARE * _QUIET_WINDOW_S:
                return


class Load:
    """The load generator's process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def run(self, job: Job) -> Result:
        """Run a job to its end.

        Raises:
            BadAnswers: an answer was refused or not whole.
        """
        requests, results = self._process.stdin, self._process.stdout
        assert requests is not None
        assert results is not None
        requests.write(msgspec.json.encode(job) + b"\n")
        requests.flush()
        line = results.readline()
        if not line:
            raise BadAnswers("the load generator ended")
        result = msgspec.json.decode(line, type=Result)
        if result.bad or not result.exchanges:
            raise BadAnswers(f"{result.bad} bad answers; the first: {result.first_bad}")
        return result


@contextmanager
def _started(module: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a module of this benchmark; it ends with its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def started_load() -> Iterator[Load]:
    """Start the load generator."""
    with _started("bench.load") as process:
        yield Load(process)


@contextmanager
def started_bare(upstream: Target) -> Iterator[Target]:
    """Start the bare proxy before a target."""
    port = free_base_port(1)
    with _started("bench.bare", str(port), f"http://127.0.0.1:{upstream.port}") as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise BadAnswers("the bare proxy did not start")
        processes = {"gateway": psutil.Process(process.pid), **upstream.processes}
        yield Target(name="bare", port=port, headers=upstream.headers, processes=processes)


def direct(deployment: Deployment) -> Target:
    """Return the demo Claude of a deployment, with its own key."""
    key = (deployment.folder / "demo" / "claude.key").read_text()
    return Target(
        name="direct",
        port=deployment.base_port + 5,
        headers={**_USUAL_HEADERS, "x-api-key": key},
        processes={"claude": find_processes(deployment)["claude"]},
    )


def countersign(deployment: Deployment, name: str = "countersign") -> Target:
    """Return a whole deployment, with a token of its demo issuer."""
    settings = settings_in_force(deployment.folder)
    token = mint_token(settings, "dev", ("eng",), {}, 3600)
    processes = find_processes(deployment)
    return Target(
        name=name,
        port=deployment.base_port,
        headers={**_USUAL_HEADERS, "authorization": f"Bearer {token}"},
        processes={part: processes[part] for part in ("gateway", "opa", "recorder", "claude")},
    )


def find_processes(deployment: Deployment) -> dict[str, psutil.Process]:
    """Return a deployment's processes by part: told by their ports, the recorder by having none."""
    base = deployment.base_port
    parts = {base: "gateway", base + 1: "console", base + 2: "relay", base + 3: "opa"}
    parts |= {base + 5: "claude", base + 6: "hot"}
    found: dict[str, psutil.Process] = {}
    for child in psutil.Process(deployment.process.pid).children():
        ports = {
            connection.laddr.port
            for connection in child.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        names = [part for port, part in parts.items() if port in ports] or ["recorder"]
        if names[0] in found:
            raise BadAnswers(f"there are two processes for {names[0]}")
        found[names[0]] = child
    return found
