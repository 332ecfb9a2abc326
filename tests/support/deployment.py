"""A whole deployment for tests: `countersign up --demo` as its users run it."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.published import ProcessesReport, ProcessReport, processes_file, read_published

ROOT = Path(__file__).parents[2]
START_S = 60
COUNTERSIGN = [sys.executable, "-m", "gateway"]


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A running deployment; every path and port is its own."""

    folder: Path
    base_port: int
    process: "subprocess.Popen[bytes]"

    @property
    def base_url(self) -> str:
        """What clients use as base URL."""
        return f"http://127.0.0.1:{self.base_port}"

    @property
    def console_url(self) -> str:
        """Where the console's API is."""
        return f"http://127.0.0.1:{self.base_port + 1}"

    @property
    def recorder_url(self) -> str:
        """Where the recorder's API is."""
        return f"http://127.0.0.1:{self.base_port + 6}"

    @property
    def processes(self) -> dict[str, ProcessReport]:
        """Its processes by name, as their supervisor published them last."""
        report = read_published(processes_file(self.folder), ProcessesReport)
        return {process.name: process for process in report.processes} if report else {}

    def run(self, *arguments: str, token: str = "", check: bool = True) -> str:
        """Run a `countersign` command against this deployment and return what it prints."""
        environment = {
            **os.environ,
            "COUNTERSIGN_FOLDER": str(self.folder),
            "COUNTERSIGN_TOKEN": token,
        }
        done = subprocess.run(
            [*COUNTERSIGN, *arguments],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments} failed: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def token(self, user: str = "dev", groups: str = "eng", ttl: str = "1h", **claims: str) -> str:
        """Return a token of the demo issuer."""
        pairs = [item for k, v in claims.items() for item in ("--claim", f"{k}={v}")]
        command = ("demo", "token", "--user", user, "--groups", groups, "--ttl", ttl, *pairs)
        return self.run(*command).strip()

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Return the rows of a query over the live tables."""
        lines = self.run("sql", "--json", query).splitlines()
        return [json.loads(line) for line in lines]

    def wait_for(self, query: str, count: int = 1, timeout_s: float = 20) -> list[dict[str, Any]]:
        """Return the rows of a query as soon as there are `count` of them."""
        until = time.monotonic() + timeout_s
        while True:
            rows = self.sql(query)
            if len(rows) >= count:
                return rows
            if time.monotonic() > until:
                raise AssertionError(f"{len(rows)} of {count} rows after {timeout_s} s: {query}")
            time.sleep(0.3)


def free_base_port(count: int = 7) -> int:
    """Return the first of `count` free ports in a row, below the ephemeral range."""
    while True:
        base = random.randrange(20000, 30000)
        try:
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base


@contextmanager
def running(
    folder: Path,
    *arguments: str,
    environment: dict[str, str] | None = None,
    config: Path | None = None,
    base_port: int | None = None,
) -> Iterator[Deployment]:
    """Start a deployment in `folder`, and stop it as Ctrl-C does; without `config`, the demo."""
    base_port = base_port or free_base_port()
    kind = ["--config", str(config)] if config else ["--demo"]
    command = [*COUNTERSIGN, "up", *kind, "--folder", str(folder)]
    process = subprocess.Popen(
        [*command, "--base-port", str(base_port), *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_until_ready(process)
        yield Deployment(folder=folder, base_port=base_port, process=process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def _wait_until_ready(process: "subprocess.Popen[bytes]") -> None:
    said = b""
    for line in process.stdout or ():
        said += line
        if b"Ctrl-C stops everything" in line:
            return
    raise AssertionError(f"the deployment did not start: {said.decode()}")
