"""`countersign up`: the whole product on one machine."""

import json
import os
import select
import shlex
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import click

from gateway.bundles import BadPolicy
from gateway.cli.terminal import Complaint, settings_file, visible
from gateway.config import BadConfig, Settings, load_settings
from gateway.demo_setup import mint_token
from gateway.preflight import CannotStart
from gateway.supervisor import Supervisor

DEMO_TOKEN_S = 12 * 3600


@click.command()
@click.option("--demo", is_flag=True, help="With a demo issuer and a demo Claude; loopback only.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="COUNTERSIGN_CONFIG",
    help="Settings file (YAML).",
)
@click.option("--folder", type=click.Path(path_type=Path), help="Data folder; overrides `folder`.")
@click.option(
    "--base-port",
    type=click.IntRange(1024, 65000),
    help="First of seven ports in a row, instead of 8484.",
)
def up(demo: bool, config_file: Path | None, folder: Path | None, base_port: int | None) -> None:
    """Start everything, wait until a call works, run until Ctrl-C."""
    settings = _settings(demo, config_file, folder, base_port)
    began = time.monotonic()
    supervisor = Supervisor(settings, _say)
    try:
        supervisor.start()
        settings_file(settings.folder).write_text(settings.model_dump_json(indent=1))
        token = _demo_token(settings) if demo else ""
        if demo:
            _check_one_call(settings, token)
        _show(settings, supervisor, token, time.monotonic() - began)
        supervisor.watch()
        _say("Stopping: running calls may end first …")
    except (CannotStart, BadPolicy) as e:
        raise Complaint(str(e)) from e
    finally:
        supervisor.stop()
    _say("Stopped.")


def _say(line: str) -> None:
    """Say something on the terminal; one that is gone or takes nothing must not hold us up.

    A terminal stopped with Ctrl-S and a pipe that nobody empties block whoever writes; the log has
    the line too.
    """
    with suppress(OSError, ValueError):
        if select.select([], [sys.stdout], [], 0)[1]:
            click.echo(visible(line, one_line=True))


def _settings(
    demo: bool, config_file: Path | None, folder: Path | None, base_port: int | None
) -> Settings:
    overrides: dict[str, object] = {}
    if demo:
        overrides["demo"] = True
        overrides["lake"] = {"commit_every_s": 2}
    if folder is not None:
        overrides["folder"] = folder
    if base_port is not None:
        overrides |= {
            "proxy": {"port": base_port},
            "console": {"port": base_port + 1},
            "policy": {"relay_port": base_port + 2, "operator_port": base_port + 3},
            "demo_issuer_port": base_port + 4,
            "demo_claude_port": base_port + 5,
            "recorder": {"port": base_port + 6},
        }
    if not demo and config_file is None:
        raise Complaint("name a settings file with --config, or try --demo")
    try:
        return load_settings(config_file, **overrides)
    except BadConfig as e:
        raise Complaint("the settings can't be used:\n  " + "\n  ".join(e.errors)) from e


def _demo_token(settings: Settings) -> str:
    return mint_token(settings, "dev", ("eng",), {}, DEMO_TOKEN_S)


def _check_one_call(settings: Settings, token: str) -> None:
    """Make one real call through everything: ready means that it works."""
    request = urllib.request.Request(  # noqa: S310 - loopback http of our own
        f"{settings.proxy_url}/v1/models",
        headers={"authorization": f"Bearer {token}", "user-agent": "countersign-up/1"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            json.loads(answer.read())
    except urllib.error.HTTPError as e:
        raise CannotStart(f"the first call was refused: {e.read().decode(errors='replace')}") from e
    except (OSError, ValueError) as e:
        raise CannotStart(f"the first call failed: {e}") from e


def _environment(settings: Settings, token: str) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": settings.proxy_url,
        "ANTHROPIC_AUTH_TOKEN": token,
        "COUNTERSIGN_CONSOLE_URL": settings.console_url,
        "COUNTERSIGN_TOKEN": token,
        "COUNTERSIGN_FOLDER": str(settings.folder),
    }


def _write_environment(settings: Settings, token: str, said: str) -> Path:
    """Write what clients need as a file to source, with what was said as comments."""
    path = settings.folder / "demo.env"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    comments = [f"# {line}".rstrip() for line in said.splitlines()]
    exports = [
        f"export {name}={shlex.quote(value)}"
        for name, value in _environment(settings, token).items()
    ]
    path.write_text("\n".join([*comments, *exports]) + "\n")
    return path


def _show(settings: Settings, supervisor: Supervisor, token: str, took_s: float) -> None:
    rows = [
        ("base URL for clients", settings.proxy_url),
        ("console API", f"{settings.console_url}/api/v1"),
        ("OPA for operators", f"http://127.0.0.1:{settings.policy.operator_port}"),
        ("policies", f"{settings.policy.source}, revision {supervisor.revision}"),
        ("data", os.path.relpath(settings.folder)),
        ("processes", ", ".join(f"{name} {pid}" for name, pid in supervisor.processes)),
    ]
    if settings.demo:
        rows += [
            ("demo issuer", f"http://127.0.0.1:{settings.demo_issuer_port}"),
            ("demo Claude", f"http://127.0.0.1:{settings.demo_claude_port}"),
        ]
    said = "\n".join(f"  {name:<22}{value}" for name, value in rows)
    if settings.demo:
        said += "\n" + _TRY.format(env=os.path.relpath(settings.folder / "demo.env"))
        _write_environment(settings, token, said)
    click.secho(f"Countersign is ready after {took_s:.1f} s", fg="green", bold=True)
    click.echo(said)
    click.echo("Ctrl-C stops everything.")


_TRY = """
Try it, in another terminal:
  . {env}
  curl -s $ANTHROPIC_BASE_URL/v1/messages -H "authorization: Bearer $ANTHROPIC_AUTH_TOKEN" \\
    -H 'content-type: application/json' -H 'anthropic-version: 2023-06-01' \\
    -d '{{"model": "claude-sonnet-4-5", "max_tokens": 200,
         "messages": [{{"role": "user", "content": "Hello"}}]}}'
  .venv/bin/countersign sessions list        # the record, while it still runs
Claude Code and the SDKs need only ANTHROPIC_BASE_URL and ANTHROPIC_AUTH_TOKEN, which {env} sets.
Another person:  .venv/bin/countersign demo token --user ada --groups auditors
What the demo Claude can be made to do:  .venv/bin/countersign demo directives
"""
