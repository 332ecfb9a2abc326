"""What must be so before the first process starts: a folder of our own, free ports, tokens."""

import fcntl
import os
import socket
from pathlib import Path

from gateway import app
from gateway.config import Settings


class CannotStart(Exception):
    """The deployment can't start; one line says why."""


def prepare_folders(settings: Settings) -> None:
    """Make the folders of a deployment, for their owner only.

    Raises:
        CannotStart: they can't be written.
    """
    folder = settings.folder
    try:
        for path in (folder, folder / "run", folder / "log", folder / "journal"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
        Path(settings.warehouse).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise _unwritable(folder, e) from e


def hold_folder(folder: Path) -> int:
    """Take the lock on a data folder; returns the file that holds it, with our process id in it.

    Raises:
        CannotStart: another deployment runs there.
    """
    try:
        held = os.open(folder / "run" / "supervisor.pid", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            other = os.read(held, 20).decode(errors="replace").strip()
            os.close(held)
            raise CannotStart(
                f"another `countersign up` (process {other}) runs in {folder}: stop it, or name "
                "another --folder"
            ) from e
        os.ftruncate(held, 0)
        os.write(held, str(os.getpid()).encode())
    except OSError as e:
        raise _unwritable(folder, e) from e
    return held


def write_tokens(
    settings: Settings, gateway_token: str, operator_token: str, recorder_token: str
) -> None:
    """Leave the tokens of OPA and of the recorder where their users read them; mode 600.

    Raises:
        CannotStart: they can't be written.
    """
    try:
        for path, token in (
            (app.gateway_token_file(settings), gateway_token),
            (app.operator_token_file(settings), operator_token),
            (app.recorder_token_file(settings), recorder_token),
        ):
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            path.write_text(token)
    except OSError as e:
        raise _unwritable(settings.folder, e) from e


def check_ports(settings: Settings) -> None:
    """Find out whether every port is free; raises `CannotStart` with the first that is not."""
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


def _unwritable(folder: Path, error: OSError) -> CannotStart:
    return CannotStart(f"folder {folder} can't be written: {error.strerror}")
