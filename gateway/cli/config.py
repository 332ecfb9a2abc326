"""`countersign config`: check a settings file, list all settings."""

from pathlib import Path

import click

from gateway.cli.terminal import Complaint
from gateway.config import (
    BadConfig,
    describe_settings,
    load_settings,
    read_masking_keys,
    read_secret,
)


@click.group()
def config() -> None:
    """The settings file."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Validate a settings file whole, secrets included; says all errors at once."""
    errors: list[str] = []
    try:
        settings = load_settings(file)
    except BadConfig as e:
        errors += e.errors
    else:
        for endpoint in settings.endpoints.values():
            try:
                read_secret(endpoint.credential)
            except BadConfig as e:
                errors += e.errors
        try:
            read_masking_keys(settings)
        except BadConfig as e:
            errors += e.errors
    if errors:
        raise Complaint(f"{file} can't be used:\n  " + "\n  ".join(errors))
    click.echo(f"{file}: good")


@config.command()
def docs() -> None:
    """Print every setting with its default, as a Markdown table."""
    click.echo("| setting | default | what it is |\n| --- | --- | --- |")
    for name, default, text in describe_settings():
        click.echo(f"| `{name}` | {default} | {text} |")
