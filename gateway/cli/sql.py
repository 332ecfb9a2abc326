"""`countersign sql`: DuckDB over the live tables.

Opens the store directly; the storage's permissions guard it.
"""

import json
from pathlib import Path

import click
import duckdb

from gateway.cli.terminal import Complaint, folder_option, settings_in_force, show_table, visible
from lake.catalog import open_lake
from lake.sql import SqlRefusedError, connect


@click.command()
@click.argument("query")
@click.option("--json", "as_json", is_flag=True, help="As JSON lines.")
@folder_option
def sql(query: str, as_json: bool, folder: Path) -> None:
    """Run one SELECT over exchanges, contents, events, proofs, and bodies put together."""
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
    show_table(names, rows)
    click.echo(f"{len(rows)} rows")
