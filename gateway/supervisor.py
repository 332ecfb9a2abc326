"""The embedded deployment: starts every process of `countersign up` and keeps it running.

A child that can't come up at the first start ends the deployment; one that dies later is started
again, and that is said, and an event. The parent has no threads and no event loop.
"""

import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from gateway import app, processes
from gateway.bundles import build_bundle, store_bundle
from gateway.children import STOP_S, Child, Life, fork, spawn
from gateway.config import Settings
from gateway.domain import Failure
from gateway.journal import Journal
from gateway.logs import configure_logging
from gateway.preflight import (
    CannotStart,
    check_ports,
    hold_folder,
    prepare_folders,
    write_tokens,
)
from gateway.published import (
    PUBLISH_EVERY_S,
    ProcessesReport,
    ProcessReport,
    processes_file,
    publish,
)
from gateway.records import Event
from gateway.sidecar import opa_command, opa_environment
from gateway.state import BadState, create_state

START_S = 60.0
"""How long a child may take to become ready."""
LOOK_EVERY_S = 0.2
"""How soon an end is noticed."""

_log = logging.getLogger(__name__)


class Supervisor:
    """Owns the child processes of one deployment, its data folder and a journal of its own."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._children: list[Child] = []
        self._is_stopping = False
        self._operator_token = secrets.token_urlsafe(32)
        self._gateway_token = secrets.token_urlsafe(32)
        self._recorder_token = secrets.token_urlsafe(32)
        self._journal: Journal | None = None
        self._held_fd = -1
        self._published_at = 0.0
        self.revision = ""

    def start(self) -> None:
        """Start everything and wait until a call would work.

        Raises:
            CannotStart: a port is taken, a folder can't be written, a child fails.
            BadPolicy: the policies can't be built.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note_stop)
        self._take_folder()
        self._prepare_state()
        self._prepare_bundle()
        settings = self._settings
        if settings.demo:
            self._await([self._fork("demo", processes.run_demo)])
        waiting = [self._fork("relay", processes.run_relay)]
        self._start(Child("opa", self._log_of("opa"), self._launch_opa))
        waiting.append(self._fork("recorder", processes.run_recorder))
        waiting.append(self._fork("hot", processes.run_hot))
        waiting.append(self._fork("console", processes.run_console))
        workers = settings.proxy.workers or os.cpu_count() or 1
        waiting += [
            self._fork(f"proxy-{n}", processes.run_proxy, stop_s=settings.proxy.drain_s + 5)
            for n in range(1, workers + 1)
        ]
        self._await(waiting)
        self._publish()

    def watch(self) -> None:
        """Return when asked to stop; until then, start again what dies."""
        while not self._is_stopping:
            with suppress(InterruptedError):
                time.sleep(LOOK_EVERY_S)
            for child in self._children:
                if not self._is_stopping:
                    self._look_after(child)
            if time.monotonic() - self._published_at >= PUBLISH_EVERY_S:
                self._publish()

    def stop(self) -> None:
        """End the children in the order of the flow: callers first, policy last."""
        for group in ("proxy", "console", "hot", "recorder", "opa", "relay", "demo"):
            members = [c for c in self._children if c.name.partition("-")[0] == group]
            for child in members:
                child.ask_to_end()
            for child in members:
                child.join()
        self._children.clear()
        if self._journal is not None:
            self._journal.close()
        if self._held_fd >= 0:
            with suppress(OSError):
                processes_file(self._settings.folder).unlink()
            os.close(self._held_fd)
        self._journal, self._held_fd = None, -1

    @property
    def processes(self) -> list[tuple[str, int]]:
        """Name and process id of every child."""
        return [(child.name, child.pid) for child in self._children]

    # --- before anything starts -------------------------------------------------------------------

    def _take_folder(self) -> None:
        settings = self._settings
        prepare_folders(settings)
        self._held_fd = hold_folder(settings.folder)
        configure_logging(self._log_of("supervisor"))
        write_tokens(settings, self._gateway_token, self._operator_token, self._recorder_token)
        check_ports(settings)
        journal = Journal(settings.journal_folder, app.new_id("supervisor"), time.time_ns)
        try:
            journal.open()
        except (OSError, Failure) as e:
            raise CannotStart(f"folder {settings.journal_folder} can't be written: {e}") from e
        self._journal = journal

    def _prepare_state(self) -> None:
        try:
            create_state(self._settings.state_url)
        except BadState as e:
            raise CannotStart(f"the state database can't be used: {e}") from e

    def _prepare_bundle(self) -> None:
        policy = self._settings.policy
        bundle = build_bundle(policy.opa.absolute(), policy.source.absolute())
        try:
            store_bundle(self._settings.bundle_file, bundle)
        except OSError as e:
            raise CannotStart(f"the bundle can't be stored: {e.strerror}") from e
        self.revision = bundle.revision

    # --- children: the first start ----------------------------------------------------------------

    def _log_of(self, name: str) -> Path:
        return self._settings.folder / "log" / f"{name}.log"

    def _launch_opa(self) -> Life:
        self._settings.opa_socket.unlink(missing_ok=True)
        return spawn(
            opa_command(self._settings),
            opa_environment(self._gateway_token, self._operator_token),
            self._log_of("opa"),
        )

    def _fork(self, name: str, run: Callable[..., Any], *, stop_s: float = STOP_S) -> Child:
        log = self._log_of(name)
        launch = partial(fork, run, (self._settings,), log, self._let_go)
        return self._start(Child(name, log, launch, stop_s=stop_s))

    def _start(self, child: Child) -> Child:
        child.start()
        self._children.append(child)
        return child

    def _let_go(self) -> None:
        """In a forked child: close what would keep our locks after our death."""
        if self._journal is not None:
            self._journal.abandon()
        os.close(self._held_fd)

    def _await(self, children: Sequence[Child]) -> None:
        """Wait until each child said that it is ready; the first error ends the wait."""
        until = time.monotonic() + START_S
        while not self._is_stopping:
            left = {child.ready: child for child in children if child.ready is not None}
            if not left:
                return
            for connection in wait(list(left), timeout=LOOK_EVERY_S):
                if isinstance(connection, Connection):
                    _hear(left[connection])
            for child in self._children:
                if child.exit_code is not None and not self._is_stopping:
                    _hear(child)
                    raise CannotStart(_obituary(child))
            if time.monotonic() > until:
                names = ", ".join(child.name for child in left.values())
                logs = ", ".join(str(child.log) for child in left.values())
                raise CannotStart(f"not ready after {START_S:.0f} s: {names}; see {logs}")

    # --- children: afterwards ---------------------------------------------------------------------

    def _look_after(self, child: Child) -> None:
        """Hear a child; one that died is started again, after a wait that grows."""
        child.listen()
        wait_s = child.mourn()
        if wait_s is not None:
            said = child.last_words()
            _log.error(
                "process_ended name=%s end=%r retry_s=%.1f", child.name, child.last_end, wait_s
            )
            self._say(
                f"{child.name} ended ({child.last_end}); it is started again in {wait_s:.1f} s"
                f"{': ' if said else ''}{said} [{child.log}]"
            )
            self._publish()
        elif child.is_stuck(START_S):
            _log.error("process_stuck name=%s", child.name)
            child.kill()
        elif child.is_due():
            try:
                child.restart()
            except OSError as e:  # no memory, no log: it stays ended, and its wait grows
                _log.error("process_not_started name=%s error=%r", child.name, e)
            else:
                self._note_restart(child)
            self._publish()

    def _note_restart(self, child: Child) -> None:
        """Leave an audit event; one that can't be written now is owed."""
        message = f"{child.name} ended ({child.last_end}) and was started again."
        detail = {"process": child.name, "end": child.last_end, "restart": child.restarts}
        event = Event(
            event_id=app.new_id("evt"),
            at_ns=time.time_ns(),
            kind="process.restarted",
            reason="process.ended",
            message=message,
            detail_json=msgspec.json.encode(detail).decode(),
        )
        if self._journal is not None:
            self._journal.owe(event)
            self._journal.sync()

    def _publish(self) -> None:
        """Tell `countersign status` of the children, and write what events are owed."""
        self._published_at = time.monotonic()
        if self._journal is not None:
            self._journal.pay()
        report = ProcessesReport(
            at_ns=time.time_ns(),
            pid=os.getpid(),
            processes=tuple(
                ProcessReport(
                    name=child.name,
                    pid=child.pid,
                    state=child.state,
                    restarts=child.restarts,
                    started_ns=child.started_ns,
                    last_end=child.last_end,
                )
                for child in self._children
            ),
        )
        try:
            publish(processes_file(self._settings.folder), report)
        except OSError as e:
            _log.error("processes_not_published error=%r", e)

    def _note_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True


def _hear(child: Child) -> None:
    """Take a child's first word."""
    try:
        error = child.hear()
    except EOFError as e:
        child.join()
        raise CannotStart(_obituary(child)) from e
    if error:
        raise CannotStart(f"{child.name}: {error}")


def _obituary(child: Child) -> str:
    """Return one line about a child that ended at the first start, with the last it said."""
    said = child.last_words()
    ended = f"{child.name} ended (exit {child.exit_code}), so everything was stopped"
    return f"{ended}{f': {said}' if said else ''} [{child.log}]"
