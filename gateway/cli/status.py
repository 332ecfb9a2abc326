"""`countersign status`: how a deployment is; exit code 1 when something is wrong.

Opens the data folder and asks OPA under the operators' token; the folder's permissions guard it.
"""

import time
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from gateway.cli.standing import Standing, find_problems, look
from gateway.cli.terminal import folder_option, show_table, visible
from gateway.limit_use import LimitUse


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
@folder_option
@click.pass_context
def status(context: click.Context, as_json: bool, folder: Path) -> None:
    """Show how the deployment is, and what to do about what is wrong."""
    standing = look(folder, time.time_ns())
    problems = find_problems(standing)
    if as_json:
        document = {"ok": not problems, "problems": problems} | msgspec.to_builtins(standing)
        click.echo(visible(msgspec.json.encode(document).decode()))
    else:
        _show(standing)
        for problem in problems:
            click.secho(visible(f"wrong: {problem}", one_line=True), fg="red")
        if not problems:
            click.secho("Everything works.", fg="green")
    if problems:
        context.exit(1)


def _show(standing: Standing) -> None:
    if standing.processes is not None:
        show_table(
            ("process", "state", "pid", "restarts", "since", "last end"),
            [
                (p.name, p.state, p.pid, p.restarts, _when(p.started_ns), p.last_end)
                for p in standing.processes.processes
            ],
        )
        click.echo()
    show_table(
        ("journal", "writer", "kept bytes", "unread bytes", ""),
        [
            (
                journal.journal_id,
                "lives" if journal.is_written else "gone",
                journal.kept_bytes,
                journal.unread_bytes,
                "damaged" if journal.is_corrupt else "",
            )
            for journal in standing.journals
        ],
    )
    click.echo()
    if standing.limits:
        show_table(
            ("limit in use", "used", "of", "unit", "in"),
            [(use.key, use.used, use.limit, use.unit, _span(use)) for use in standing.limits],
        )
        click.echo()
    for name, value in _facts(standing):
        click.echo(f"{name:<14}{visible(value, one_line=True)}")
    click.echo()


def _facts(standing: Standing) -> list[tuple[str, str]]:
    facts = [
        ("policy", f"revision {standing.policy.revision or 'none'}"),
        (
            "free space",
            f"{standing.free_bytes // 2**20} MB; calls are refused below "
            f"{standing.floor_bytes // 2**20} MB",
        ),
    ]
    if standing.recorder is not None:
        state = standing.recorder.state
        last = _when(state.last_commit_ns) if state.last_commit_ns else "none since it began"
        facts += [
            ("last commit", last),
            ("waiting", f"{state.waiting_rows} rows, {state.waiting_bytes} bytes"),
            ("running", f"{state.open_exchanges} exchanges, {state.open_bytes} bytes of them"),
        ]
    return facts


def _span(use: LimitUse) -> str:
    return "at once" if use.unit == "concurrent" else f"{use.window_s} s"


def _when(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
