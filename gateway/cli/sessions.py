"""`countersign sessions`: what was asked and answered, as recorded."""

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from gateway.cli.api import call
from gateway.cli.approvals import token_option
from gateway.cli.terminal import folder_option, show_table, visible


@click.group()
def sessions() -> None:
    """Recorded sessions."""


@sessions.command("list")
@click.option("--all", "everyone", is_flag=True, help="Everyone's, if policy lets you.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--after", help="The `next` of an earlier page.")
@token_option
@folder_option
def list_(everyone: bool, limit: int, after: str | None, token: str | None, folder: Path) -> None:
    """List sessions, the newest first."""
    query = {"scope": "all" if everyone else "own", "limit": str(limit)}
    if after:
        query["after"] = after
    answer = call("GET", f"/api/v1/sessions?{urlencode(query)}", token=token, folder=folder)
    _say_incomplete(answer)
    if not answer["sessions"]:
        click.echo("No sessions recorded yet.")
        return
    columns = ("session", "last", "who", "models", "calls", "endings", "tokens in/out")
    show_table(columns, map(_session_cells, answer["sessions"]))
    if answer["next"]:
        click.echo(f"next page: --after {visible(answer['next'])}")


def _session_cells(item: dict[str, Any]) -> tuple[str, ...]:
    return (
        item["session_id"],
        item["last_at"][:19],
        item["subject"],
        ", ".join(model for model in item["models"] if model),
        str(item["exchanges"]),
        ", ".join(f"{name} {count}" for name, count in item["endings"].items()),
        f"{item['input_tokens']}/{item['output_tokens']}",
    )


@sessions.command()
@click.argument("session_id", metavar="SESSION")
@click.option("--issuer", help="Of whose session it is, if not yours.")
@click.option("--subject", help="Of whose session it is, if not yours.")
@click.option("--bodies", is_flag=True, help="Requests and answers whole, as recorded.")
@click.option("--json", "as_json", is_flag=True, help="As JSON lines.")
@token_option
@folder_option
def show(
    session_id: str,
    issuer: str | None,
    subject: str | None,
    bodies: bool,
    as_json: bool,
    token: str | None,
    folder: Path,
) -> None:
    """Show the exchanges of a session, the oldest first."""
    query = {k: v for k, v in (("issuer", issuer), ("subject", subject)) if v}
    path = f"/api/v1/sessions/{quote(session_id, safe='')}?{urlencode(query)}"
    answer = call("GET", path, token=token, folder=folder)
    _say_incomplete(answer)
    for item in answer["exchanges"]:
        found = call("GET", f"/api/v1/exchanges/{item['exchange_id']}", token=token, folder=folder)
        if as_json:
            click.echo(visible(json.dumps(found)))
        else:
            _show_exchange(found, bodies=bodies)


def _say_incomplete(answer: dict[str, Any]) -> None:
    """Say on standard error what is missing: an answer without it must not pass for whole."""
    for recorder in answer["incomplete"]:
        click.echo(
            f"Not all is shown: {visible(recorder)} did not answer, or has too much that is "
            "not committed yet.",
            err=True,
        )


def _show_exchange(found: dict[str, Any], *, bodies: bool) -> None:
    """Print one exchange; every value from the record is made visible first."""
    masks = ", ".join(f"{m['rule']} x{m['count']} in {m['place']}" for m in found["masks_applied"])
    facts = (
        ("exchange", found["exchange_id"]),
        ("when", f"{found['started_at'][:19]}, {found['duration_ms']:.0f} ms"),
        ("who", f"{found['subject']} ({', '.join(found['groups'])}) at {found['issuer']}"),
        ("call", f"{found['method']} {found['path']} {found['request_model'] or ''}"),
        ("decision", f"{found['outcome']} {', '.join(found['reasons'])}"),
        ("policy", found["policy_revision"] or "not decided"),
        ("approval", f"{found['approval_id'] or ''} {', '.join(found['approvers'])}"),
        ("recording", f"{found['recording_content']} ({', '.join(found['recording_reasons'])})"),
        ("ending", f"{found['ending']} {found['status'] or ''} {found['error_message'] or ''}"),
        ("tokens", f"{found['input_tokens'] or 0} in, {found['output_tokens'] or 0} out"),
        ("masked", masks),
        ("prompt", found["prompt_text"] or ""),
        ("answer", found["response_text"] or ""),
    )
    for name, value in facts:
        if str(value).strip():
            click.echo(f"{name:<10} {visible(value)}")
    if bodies:
        for name in ("request_body", "response_body"):
            click.echo(f"--- {name}")
            click.echo(visible(base64.b64decode(found[name] or "").decode(errors="replace")))
    click.echo()
