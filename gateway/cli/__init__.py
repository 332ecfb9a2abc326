"""The command line. A client of the console's API, but for what opens the store or OPA directly."""

import sys
from importlib import import_module

import click

from gateway.cli.terminal import Complaint

_COMMANDS = (
    "access",
    "approvals",
    "config",
    "conformance",
    "demo",
    "keys",
    "policy",
    "sessions",
    "sql",
    "status",
    "up",
    "verify",
)
"""Each is a module of this package with a command of its name; loaded only when asked for."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(f"gateway.cli.{cmd_name}"), cmd_name)
        return command if isinstance(command, click.Command) else None


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
