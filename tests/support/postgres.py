"""A Postgres cluster of the tests' own: a temporary folder, a unix socket, no network."""

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER_USER = "postgres" if os.geteuid() == 0 else getpass.getuser()
"""Postgres refuses to run as root."""


def find_binaries() -> Path | None:
    """Return the folder of `initdb` and `pg_ctl`: that on PATH, or Debian's newest."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


@contextmanager
def cluster(binaries: Path) -> Iterator[str]:
    """Run a cluster while inside; gives the URL of its databases, without a name at the end."""
    with tempfile.TemporaryDirectory(prefix="cs-pg-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, SERVER_USER)
        store = str(folder / "data")
        options = f"-k {folder} -c listen_addresses= -c fsync=off -c max_connections=50"
        server = [str(binaries / "pg_ctl"), "-D", store, "-w", "-l", str(folder / "log")]
        _run(binaries / "initdb", "-D", store, "-U", "test", "-A", "trust", "-E", "UTF8")
        _run(*server, "-o", options, "start")
        try:
            yield f"postgresql+psycopg://test@/{{name}}?host={folder}"
        finally:
            _run(*server, "-m", "immediate", "stop")


def _run(*command: str | Path) -> None:
    user = SERVER_USER if os.geteuid() == 0 else None
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=user, cwd="/", timeout=60)
