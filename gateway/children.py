"""One child process of the supervisor: started, heard, ended, started again; knows no other child.

Children die with their parent (Linux: parent-death signal), which has no threads and no event
loop, so that it may fork.
"""

import asyncio
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from sqlalchemy.exc import SQLAlchemyError

from gateway.domain import Failure
from gateway.logs import configure_logging

STOP_S = 10.0
"""How long a child without running calls may take to end."""
FIRST_WAIT_S = 0.2
"""Before the first restart of a child that ran well; doubles with each that follows."""
LONGEST_WAIT_S = 30.0
"""So that what needs a person (a full disk, a taken port) costs little until one came."""
WELL_S = 60.0
"""A child that ran this long has outlived what killed it before: its waits begin anew."""
SAID_BYTES = 4096
"""How much of a log's end is read for its last line."""

_PR_SET_PDEATHSIG = 1
_context = multiprocessing.get_context("fork")

Process = multiprocessing.process.BaseProcess | subprocess.Popen[bytes]


class Life(NamedTuple):
    """A running process, from its start to its end."""

    process: Process
    ready: Connection | None
    """Where it says that it is ready, or why not; None for a program that says nothing."""


class BackOff:
    """How long to wait before a child is started again."""

    def __init__(self) -> None:
        self._deaths = 0

    def wait_s(self, ran_s: float) -> float:
        """Return the wait after a life of `ran_s`."""
        self._deaths = 0 if ran_s >= WELL_S else self._deaths
        wait_s = min(FIRST_WAIT_S * 2.0 ** min(self._deaths, 16), LONGEST_WAIT_S)
        self._deaths += 1
        return wait_s


class Child:
    """A process that should always run, by whatever name and number it does just now."""

    def __init__(
        self, name: str, log: Path, launch: Callable[[], Life], *, stop_s: float = STOP_S
    ) -> None:
        self.name = name
        self.log = log
        self.restarts = 0
        self.started_ns = 0
        self.last_end = ""
        """How its last life ended; empty during the first."""
        self._launch = launch
        self._stop_s = stop_s
        self._back_off = BackOff()
        self._started = 0.0
        self._due: float | None = None
        """When it is to be started again; None while it runs."""
        self._is_ready = False
        self._life: Life | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 before its first start."""
        return (self._life.process.pid or 0) if self._life else 0

    @property
    def exit_code(self) -> int | None:
        """How its process ended, a signal as a negative number; None while it runs."""
        process = self._life.process if self._life else None
        return process.poll() if isinstance(process, subprocess.Popen) else _exit_code_of(process)

    @property
    def state(self) -> str:
        """Running, starting, or waiting for its next start."""
        if self._due is not None:
            return "waiting"
        return "running" if self._is_ready else "starting"

    @property
    def ready(self) -> Connection | None:
        """Where it will say that it is ready; None when nothing more is to be heard."""
        return self._life.ready if self._life and not self._is_ready else None

    def start(self) -> None:
        """Begin its first or next life."""
        if self._life is not None and self._life.ready is not None:
            self._life.ready.close()
        self._due, self._started, self.started_ns = None, time.monotonic(), time.time_ns()
        self._life = self._launch()
        self._is_ready = self._life.ready is None

    def hear(self) -> str:
        """Take what it says: nothing when it is ready, else why it is not.

        Raises:
            EOFError: it ended without a word.
        """
        said = self.ready.recv() if self.ready else ""
        self._is_ready = not said
        return str(said)

    def listen(self) -> None:
        """Note that it is ready, if it said so; what else it said its log holds too."""
        with suppress(EOFError, OSError):
            if self.ready is not None and self.ready.poll():
                self.hear()

    def mourn(self) -> float | None:
        """Note an end that was not noted yet, and return the wait until it is started again."""
        if self._due is not None or self.exit_code is None:
            return None
        self.last_end = describe_end(self.exit_code)
        now = time.monotonic()
        wait_s = self._back_off.wait_s(now - self._started)
        self._due = now + wait_s
        return wait_s

    def is_stuck(self, longest_s: float) -> bool:
        """Say whether it has been starting for too long."""
        return self.state == "starting" and time.monotonic() - self._started > longest_s

    def kill(self) -> None:
        """End it at once."""
        if self._life is not None and self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)

    def is_due(self) -> bool:
        """Say whether it waited long enough for its next life."""
        return self._due is not None and time.monotonic() >= self._due

    def restart(self) -> None:
        """Begin the next life."""
        self.restarts += 1
        self.start()

    def ask_to_end(self) -> None:
        """Ask it to end in its own time."""
        if self._life is not None and self.exit_code is None:
            os.kill(self.pid, signal.SIGTERM)

    def join(self) -> None:
        """Wait for its end; one that does not end in time is killed."""
        if self._life is None:
            return
        until = time.monotonic() + self._stop_s
        while self.exit_code is None and time.monotonic() < until:
            time.sleep(0.02)
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)
            process = self._life.process
            process.wait() if isinstance(process, subprocess.Popen) else process.join()

    def last_words(self) -> str:
        """Return the last line of its log that has a word; a trace may end in a ruled line."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - SAID_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        words = [line.strip(" |+-") for line in lines]
        return next((line[:300] for line in reversed(words) if line), "")


def describe_end(exit_code: int) -> str:
    """Return how a process ended in two words."""
    if exit_code >= 0:
        return f"exit {exit_code}"
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"


def _exit_code_of(process: "multiprocessing.process.BaseProcess | None") -> int | None:
    return process.exitcode if process is not None else None


# --- lives ----------------------------------------------------------------------------------------


def spawn(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Life:
    """Start a program."""
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the pinned opa program
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads in the parent
        )
    return Life(process, None)


def fork(
    run: Callable[..., Any],
    arguments: Sequence[Any],
    log: Path,
    let_go: Callable[[], None],
) -> Life:
    """Start a child that runs a function of ours.

    Args:
        run: What it does, a coroutine function or a plain one; its last argument says "ready".
        arguments: The others.
        log: Where its output goes.
        let_go: Called in the child first: closes what only the parent may hold.
    """
    ours, theirs = _context.Pipe(duplex=False)
    process = _context.Process(
        target=_run_child, args=(run, arguments, theirs, log, os.getpid(), let_go)
    )
    process.start()
    theirs.close()
    return Life(process, ours)


def _die_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run_child(
    run: Callable[..., Any],
    arguments: Sequence[Any],
    ready: Connection,
    log: Path,
    parent: int,
    let_go: Callable[[], None],
) -> None:
    """The life of a forked child: no input, output to its log, ends on SIGTERM only."""
    let_go()
    _die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    output = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    configure_logging()
    try:
        _run(run, arguments, lambda: ready.send(""))
    except* (Failure, OSError, SQLAlchemyError) as group:
        with suppress(OSError):
            ready.send("; ".join(str(error).partition("\n")[0] for error in _leaves(group)))
        raise


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _run(run: Callable[..., Any], arguments: Sequence[Any], say_ready: Callable[[], None]) -> None:
    if asyncio.iscoroutinefunction(run):
        uvloop.run(run(*arguments, say_ready))
    else:
        run(*arguments, say_ready)
