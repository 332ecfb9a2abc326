"""`countersign keys`: the recorder's signing keys. Opens the folder directly."""

from pathlib import Path

import click

from gateway.cli.terminal import Complaint, folder_option, settings_in_force, show_table
from lake.signing import BadKey, list_keys, rotate


@click.group()
def keys() -> None:
    """The keys that sign the record."""


@keys.command("list")
@folder_option
def list_(folder: Path) -> None:
    """List the public keys: what a verifier needs, and all that it may have."""
    rows = list_keys(settings_in_force(folder).keys_folder)
    show_table(("key", "vouched for by", "public key"), rows)


@keys.command("rotate")
@folder_option
def rotate_(folder: Path) -> None:
    """Put a new key in force; the private part of the one before is deleted."""
    try:
        key_id = rotate(settings_in_force(folder).keys_folder)
    except BadKey as e:
        raise Complaint(str(e)) from e
    click.echo(f"{key_id} signs from the next commit on; the key before it vouches for it.")
