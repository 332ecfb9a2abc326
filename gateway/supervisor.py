"""The embedded deployment: starts every process of `countersign up`, watches and ends them.

Children die with their parent (Linux: parent-death signal). The parent has no threads and no event
loop, so that it may fork.
"""

import asyncio
import ctypes
import multiprocessing
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import uvloop
from sqlalchemy.exc import SQLAlchemyError

from gateway import app
from gateway.bundles import build_bundle
from gateway.config import Settings
from gateway.domain import Failure
from gateway.sidecar import opa_command, opa_environment
from gateway.state import create_state

START_S = 60.0
"""How long a child may take to become ready."""
STOP_S = 10.0
"""How long a child without running calls may take to end."""

_PR_SET_PDEATHSIG = 1
_context = multiprocessing.get_context("fork")


class CannotStart(Exception):
    """The deployment can't start or go on; one line says why."""


class _Child(NamedTuple):
    name: str
    process: "multiprocessing.process.BaseProcess | subprocess.Popen[bytes]"
    log: Path
    stop_s: float

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    @property
    def exit_code(self) -> int | None:
        if isinstance(self.process, subprocess.Popen):
            return self.process.poll()
        return self.process.exitcode


class Supervisor:
    """Owns the child processes of one deployment."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._children: list[_Child] = []
        self._is_stopping = False
        self._operator_token = secrets.token_urlsafe(32)
        self._gateway_token = secrets.token_urlsafe(32)
        self._recorder_token = secrets.token_urlsafe(32)
        self.revision = ""

    def start(self) -> None:
        """Start everything and wait until a call would work.

        Raises:
            CannotStart: a port is taken, a folder can't be written, a child fails.
            BadPolicy: the policies can't be built.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note_stop)
        self._prepare_folders()
        self._check_ports()
        try:
            create_state(self._settings.state_url)
        except SQLAlchemyError as e:
            raise CannotStart(f"the state database can't be opened: {e.__cause__ or e}") from e
        bundle = build_bundle(
            self._settings.policy.opa.absolute(), self._settings.policy.source.absolute()
        )
        self.revision = bundle.revision
        settings = self._settings
        if settings.demo:
            self._await([self._fork("demo", app.run_demo, settings)])
        waiting = [self._fork("relay", app.run_relay, settings, bundle)]
        self._start_opa()
        waiting.append(self._fork("recorder", app.run_recorder, settings))
        waiting.append(self._fork("console", app.run_console, settings))
        workers = settings.proxy.workers or os.cpu_count() or 1
        waiting += [
            self._fork(f"proxy-{n}", app.run_proxy, settings, stop_s=settings.proxy.drain_s + 5)
            for n in range(1, workers + 1)
        ]
        self._await(waiting)

    def watch(self) -> None:
        """Return when asked to stop; raises `CannotStart` when a child dies."""
        while not self._is_stopping:
            with suppress(InterruptedError):
                time.sleep(0.2)
            self._check_children()

    def stop(self) -> None:
        """End the children in the order of the flow: callers first, policy last."""
        for group in ("proxy", "console", "recorder", "opa", "relay", "demo"):
            members = [c for c in self._children if c.name.partition("-")[0] == group]
            for child in members:
                if child.exit_code is None:
                    os.kill(child.pid, signal.SIGTERM)
            for child in members:
                _join(child)
        self._children.clear()

    @property
    def processes(self) -> list[tuple[str, int]]:
        """Name and process id of every child."""
        return [(child.name, child.pid) for child in self._children]

    # --- before anything starts -----------------------------------------------------------------

    def _prepare_folders(self) -> None:
        folder = self._settings.folder
        try:
            for path in (folder, folder / "run", folder / "log", folder / "journal"):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.chmod(0o700)
            if "://" not in self._settings.warehouse:
                Path(self._settings.warehouse).mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / "run" / "supervisor.pid").write_text(str(os.getpid()))
            for path, token in (
                (app.gateway_token_file(self._settings), self._gateway_token),
                (app.operator_token_file(self._settings), self._operator_token),
                (app.recorder_token_file(self._settings), self._recorder_token),
            ):
                path.unlink(missing_ok=True)
                path.touch(mode=0o600)
                path.write_text(token)
        except OSError as e:
            raise CannotStart(f"folder {folder} can't be written: {e.strerror}") from e

    def _check_ports(self) -> None:
        settings = self._settings
        ports = {
            "proxy.port": (settings.proxy.host, settings.proxy.port),
            "console.port": (settings.console.host, settings.console.port),
            "policy.relay_port": ("127.0.0.1", settings.policy.relay_port),
            "policy.operator_port": ("127.0.0.1", settings.policy.operator_port),
            "recorder.port": (settings.recorder.host, settings.recorder.port),
        }
        if settings.demo:
            ports["demo_issuer_port"] = ("127.0.0.1", settings.demo_issuer_port)
            ports["demo_claude_port"] = ("127.0.0.1", settings.demo_claude_port)
        for name, (host, port) in ports.items():
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError as e:
                    raise CannotStart(
                        f"port {port} on {host} is not free ({e.strerror}): stop what uses it, "
                        f"or set {name}"
                    ) from e

    # --- children -------------------------------------------------------------------------------

    def _start_opa(self) -> None:
        log = self._settings.folder / "log" / "opa.log"
        self._settings.opa_socket.unlink(missing_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - the pinned opa program
                opa_command(self._settings),
                env=opa_environment(self._gateway_token, self._operator_token),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads in the parent
            )
        self._children.append(_Child("opa", process, log, STOP_S))

    def _fork(
        self, name: str, run: Callable[..., Any], *arguments: Any, stop_s: float = STOP_S
    ) -> tuple[_Child, Connection]:
        log = self._settings.folder / "log" / f"{name}.log"
        ours, theirs = _context.Pipe(duplex=False)
        process = _context.Process(
            target=_run_child, args=(run, arguments, theirs, log, os.getpid()), name=name
        )
        process.start()
        theirs.close()
        child = _Child(name, process, log, stop_s)
        self._children.append(child)
        return child, ours

    def _await(self, waiting: list[tuple[_Child, Connection]]) -> None:
        """Wait until each child said that it is ready; the first error ends the wait."""
        until = time.monotonic() + START_S
        left = {connection: child for child, connection in waiting}
        while left and not self._is_stopping:
            for connection in wait(list(left), timeout=0.2):
                if isinstance(connection, Connection):
                    _hear(left.pop(connection), connection)
            self._check_children()
            if time.monotonic() > until:
                names = ", ".join(child.name for child in left.values())
                logs = ", ".join(str(child.log) for child in left.values())
                raise CannotStart(f"not ready after {START_S:.0f} s: {names}; see {logs}")

    def _check_children(self) -> None:
        for child in self._children:
            if child.exit_code is not None and not self._is_stopping:
                raise CannotStart(_obituary(child))

    def _note_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True


def _hear(child: _Child, connection: Connection) -> None:
    """Take what a child says: nothing when it is ready, else why it is not."""
    try:
        error = connection.recv()
    except EOFError as e:
        _join(child)
        raise CannotStart(_obituary(child)) from e
    if error:
        raise CannotStart(f"{child.name}: {error}")


def _obituary(child: _Child) -> str:
    """Return one line about a child that ended, with the last it said."""
    try:
        lines = child.log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    said = f": {lines[-1][:300]}" if lines else ""
    ended = f"{child.name} ended (exit {child.exit_code}), so everything was stopped"
    return f"{ended}{said} [{child.log}]"


def _join(child: _Child) -> None:
    """Wait for a child; one that does not end in time is killed."""
    until = time.monotonic() + child.stop_s
    while child.exit_code is None and time.monotonic() < until:
        time.sleep(0.02)
    if child.exit_code is None:
        os.kill(child.pid, signal.SIGKILL)
        child.process.wait() if isinstance(
            child.process, subprocess.Popen
        ) else child.process.join()


def _die_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run_child(
    run: Callable[..., Any],
    arguments: tuple[Any, ...],
    ready: Connection,
    log: Path,
    parent: int,
) -> None:
    """The life of a forked child: no input, output to its log, ends on SIGTERM only."""
    _die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    output = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    app.configure_logging()
    try:
        _run(run, arguments, lambda: ready.send(""))
    except* (Failure, OSError) as group:
        with suppress(OSError):
            ready.send("; ".join(str(error) for error in _leaves(group)))
        raise


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _run(
    run: Callable[..., Any], arguments: tuple[Any, ...], say_ready: Callable[[], None]
) -> None:
    if asyncio.iscoroutinefunction(run):
        uvloop.run(run(*arguments, say_ready))
    else:
        run(*arguments, say_ready)
