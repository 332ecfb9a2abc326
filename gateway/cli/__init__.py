"""The command line. A client of the console's API, but for what opens the store or OPA directly."""

import sys
from importlib import import_module

import click

from gateway.cli.terminal import Complaint

_COMMANDS = {
    "access": "access",
    "approvals": "approvals",
    "config": "config",
    "conformance": "conformance",
    "demo": "demo",
    "exec": "login",
    "keys": "keys",
    "login": "login",
    "logout": "login",
    "policy": "policy",
    "sessions": "sessions",
    "sql": "sql",
    "status": "status",
    "token": "login",
    "up": "up",
    "verify": "verify",
    "whoami": "whoami",
}
"""Each command and the module of this package that has it; loaded only when asked for."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"gateway.cli.{_COMMANDS[cmd_name]}")
        commands = (each for each in vars(module).values() if isinstance(each, click.Command))
        return next((each for each in commands if each.name == cmd_name), None)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="countersign")
def cli() -> None:
    """Policy-as-code gateway in front of on-prem Claude servers."""


def main() -> None:
    """Run a command; what goes wrong is said in one line."""
    try:
        cli()
    except Complaint as e:
        click.echo(f"countersign: {e}", err=True)
        sys.exit(1)
