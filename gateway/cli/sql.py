"""`countersign sql`: DuckDB over the live tables.

Opens the store directly; the storage's permissions guard it.
"""

import json
from pathlib import Path

import click
import duckdb
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.terminal import Complaint, folder_option, settings_in_force, visible
from lake.catalog import open_lake
from lake.sql import SqlRefusedError, connect


@click.command()
@click.argument("query")
@click.option("--json", "as_json", is_flag=True, help="As JSON lines.")
@folder_option
def sql(query: str, as_json: bool, folder: Path) -> None:
    """Run one SELECT over the tables exchanges, contents, events and proofs."""
    settings = settings_in_force(folder)
    lake = open_lake(settings.catalog_url, Path(settings.warehouse))
    try:
        with connect(lake) as connection:
            found = connection.execute(query)
            names = [column[0] for column in found.description or ()]
            rows = found.fetchall()
    except (duckdb.Error, SqlRefusedError) as e:
        raise Complaint(visible(e)) from e
    finally:
        lake.close()
    if as_json:
        for row in rows:
            click.echo(visible(json.dumps(dict(zip(names, row, strict=True)), default=str)))
        return
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(Text(visible(name, one_line=True)), overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(value, one_line=True)) for value in row))
    Console().print(table)
    click.echo(f"{len(rows)} rows")
