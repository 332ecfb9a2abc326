"""What commands share: settings in force, complaints, output that is safe to show."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.config import BadConfig, Settings
from gateway.display import visible as visible


class Complaint(Exception):
    """What a command could not do, in one line for its user."""


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows, each value made visible; folded to a terminal, whole lines to a pipe."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        is_key = number == 0
        table.add_column(Text(visible(column, one_line=True)), overflow="fold", no_wrap=is_key)
    for row in rows:
        table.add_row(*(Text(visible(value, one_line=True)) for value in row))
    console.print(table)


folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("var"),
    envvar="COUNTERSIGN_FOLDER",
    show_default=True,
    help="Data folder of the deployment.",
)


def settings_file(folder: Path) -> Path:
    """Where `up` leaves the settings in force, for the commands that open the store directly."""
    return folder / "run" / "settings.json"


def settings_in_force(folder: Path) -> Settings:
    """Return the settings with which the deployment in `folder` was started last."""
    try:
        return Settings.model_validate_json(settings_file(folder).read_text())
    except OSError as e:
        raise Complaint(
            f"no deployment has run in {folder} ({e.strerror}); start one, or name its --folder"
        ) from e
    except (ValueError, BadConfig) as e:
        raise Complaint(f"{settings_file(folder)} can't be read; start the deployment again") from e
