"""`countersign verify`: whether the record is what was recorded.

Opens the store directly; the storage's permissions guard it.
"""

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import duckdb
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.births import read_births
from gateway.cli.terminal import Complaint, folder_option, settings_in_force, show_table, visible
from gateway.journal_folder import JournalFolder
from lake.catalog import open_lake
from lake.signing import BadKey, PublicKeys, add_endorsed, first_keys, read_public_keys
from lake.verify.journals import Birth, Host, read_host
from lake.verify.report import Progress as Tell
from lake.verify.report import Report
from lake.verify.run import verify as run_verify
from lake.verify.tables import Tables, of_copy, of_lake, opened

MOST_SHOWN = 50

_AGE = re.compile(r"(\d+)([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 86400}


@click.command()
@click.option("--since", help="Only what was sealed since: 30m, 12h, 7d, or RFC 3339.")
@click.option(
    "--offline",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A copied warehouse, instead of this deployment; needs --key.",
)
@click.option(
    "--key",
    "key_files",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="A public key to trust (PEM); keys beside it that it vouches for count too.",
)
@click.option(
    "--witness",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File of a witness, to compare with.",
)
@click.option("--json", "as_json", is_flag=True, help="The whole report as JSON.")
@folder_option
def verify(
    since: str | None,
    offline: Path | None,
    key_files: tuple[Path, ...],
    witness: Path | None,
    as_json: bool,
    folder: Path,
) -> None:
    """Verify that nothing was edited, added, removed or left out; exit 1 if anything was."""
    since_us = _since(since) if since else 0
    lines = _lines(witness) if witness else []  # before the tables, which must have all of it
    with tempfile.TemporaryDirectory(prefix="countersign-verify-") as spill, _progress() as tell:
        try:
            if offline is not None:
                host, keys = None, _trusted(key_files)
                tables = of_copy(offline, Path(spill))
            else:
                host, keys, tables = _of_deployment(folder, key_files, Path(spill), tell)
            with opened(tables):
                report = run_verify(tables, keys, tell, since=since_us, host=host, witness=lines)
        except (BadKey, OSError, duckdb.Error) as e:
            raise Complaint(visible(e)) from e
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        _show(report)
    sys.exit(0 if report.is_clean else 1)


def _of_deployment(
    folder: Path, key_files: tuple[Path, ...], spill: Path, tell: Tell
) -> tuple[Host, PublicKeys, Tables]:
    settings = settings_in_force(folder)
    keys = _trusted(key_files or first_keys(settings.keys_folder))
    root = settings.journal_folder
    births = [Birth(*birth) for birth in read_births(root)]
    host = read_host(births, JournalFolder(root), tell)  # before the tables, which know the rest
    lake = open_lake(settings.catalog_url, Path(settings.warehouse))
    try:
        tables = of_lake(lake, spill)
        began_since = JournalFolder(root).journals()  # their rows may be in, and no proof yet
        return msgspec.structs.replace(host, live=host.live.union(began_since)), keys, tables
    finally:
        lake.close()


def _trusted(files: tuple[Path, ...]) -> PublicKeys:
    if not files:
        raise Complaint("name the public key to trust with --key")
    keys: PublicKeys = read_public_keys(files)
    for folder in {file.parent for file in files}:
        keys = add_endorsed(keys, folder)
    return keys


def _lines(witness: Path) -> list[bytes]:
    """Return the whole lines of a witness's file."""
    return witness.read_bytes().split(b"\n")[:-1]


def _since(text: str) -> int:
    """Return an instant in microseconds since the epoch."""
    found = _AGE.fullmatch(text)
    try:
        if found:
            at_s = time.time() - int(found[1]) * _SECONDS[found[2]]
        else:
            at_s = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as e:
        raise Complaint(f"--since {text}: is neither an age like 12h nor a time") from e
    return max(1, int(at_s * 1e6))


@contextmanager
def _progress() -> Iterator[Tell]:
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    bar = Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        tasks = {}

        def tell(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
            bar.update(tasks[step], completed=done, total=total)

        yield tell


def _show(report: Report) -> None:
    coverage = report.coverage
    unsigned = f", {coverage.unsigned_rows} to be signed next" if coverage.unsigned_rows else ""
    rows = [
        (
            "proofs",
            f"{coverage.proofs}, sealed {_time(coverage.first_at)} to {_time(coverage.last_at)}",
        ),
        ("signed by", ", ".join(coverage.keys) or "nobody"),
        ("journals", f"{coverage.journals} with {coverage.records} records"),
        ("rows", f"{coverage.rows} of exchanges and events{unsigned}"),
        ("pieces", f"{coverage.pieces} of bodies"),
        ("on disk", f"{coverage.live_journals} journals, {coverage.live_records} records"),
        ("witnessed", f"{coverage.witnessed} roots"),
    ]
    if coverage.left_out:
        rows.append(("left out", f"metadata of no table: {', '.join(coverage.left_out)}"))
    for name, value in rows:
        click.echo(f"{name:<10} {value}")
    if report.is_clean:
        click.secho("Everything that was checked is as it was recorded.", fg="green")
        return
    click.secho(f"{report.finding_count} findings:", fg="red", bold=True)
    found = [(f.kind, f.where, f.message) for f in report.findings[:MOST_SHOWN]]
    show_table(("what", "where", "why"), found)
    if report.finding_count > MOST_SHOWN:
        click.echo(f"{report.finding_count - MOST_SHOWN} more: see --json")


def _time(at_us: int | None) -> str:
    if at_us is None:
        return "never"
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")
