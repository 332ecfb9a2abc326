"""`countersign sessions`: what was asked and answered, as recorded."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from gateway.cli.api import NotThere, call, download, token_of
from gateway.cli.approvals import token_option
from gateway.cli.replaying import play, steps_of
from gateway.cli.resending import gateway_url, send_again, show_difference
from gateway.cli.terminal import Complaint, folder_option, show_table, visible
from gateway.cli.transcript import read_exchange, show_exchange, show_hit
from lake.filters import SENTENCES

_TIMES = ("since", "until")
_FORMATS = ("json", "markdown", "html")
_EXCHANGE_ID = re.compile(r"exch_[0-9a-f]{28}")
"""Whatever has another form names a session."""


def _filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of every filter, and of a page."""
    for name, sentence in reversed(SENTENCES.items()):
        if name == "text":
            continue
        hint = " Like 2h, 3d or 2026-01-31T08:00:00Z." if name in _TIMES else ""
        command = click.option(f"--{name}", help=sentence + hint)(command)
    for option in (
        folder_option,
        token_option,
        click.option("--json", "as_json", is_flag=True, help="As JSON lines."),
        click.option("--after", help="The `next` of an earlier page."),
        click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True),
        click.option("--all", "everyone", is_flag=True, help="Everyone's, if policy lets you."),
    ):
        command = option(command)
    return command


def _owner_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say whose session is meant."""
    for name in ("subject", "issuer"):
        command = click.option(f"--{name}", help="Of whose session it is, if not yours.")(command)
    return folder_option(token_option(command))


@click.group()
def sessions() -> None:
    """Recorded sessions."""


@sessions.command("list")
@click.option("--text", help=SENTENCES["text"])
@_filter_options
def list_(
    everyone: bool,
    limit: int,
    after: str | None,
    as_json: bool,
    token: str | None,
    folder: Path,
    **filters: str | None,
) -> None:
    """List sessions, the newest first, with what of each the filters let in."""
    query = _query(everyone, limit, after, filters)
    answer = call("GET", f"/api/v1/sessions?{query}", token=token, folder=folder)
    _say_incomplete(answer)
    if as_json:
        _print_lines(answer["sessions"])
    elif not answer["sessions"]:
        click.echo("No such sessions recorded yet.")
    else:
        columns = ["session", "last", "who", "models", "calls", "endings", "tokens in/out"]
        extra = ("issuer",) if everyone else ()
        show_table((*columns, *extra), (_cells(item, *extra) for item in answer["sessions"]))
    _print_next(answer, as_json=as_json)


def _say_incomplete(answer: dict[str, Any]) -> None:
    """Say on standard error what is missing: an answer without it must not pass for whole."""
    for recorder in answer["incomplete"]:
        click.echo(
            f"Not all is shown: {visible(recorder)} did not answer, or has too much that is "
            "not committed yet.",
            err=True,
        )


def _cells(item: dict[str, Any], *extra: str) -> tuple[str, ...]:
    return (
        item["session_id"],
        item["last_at"][:19],
        item["subject"],
        ", ".join(model for model in item["models"] if model),
        str(item["exchanges"]),
        ", ".join(f"{name} {count}" for name, count in item["endings"].items()),
        f"{item['input_tokens']}/{item['output_tokens']}",
        *(item[name] for name in extra),
    )


@sessions.command()
@click.argument("text", required=False)
@_filter_options
def search(
    text: str | None,
    everyone: bool,
    limit: int,
    after: str | None,
    as_json: bool,
    token: str | None,
    folder: Path,
    **filters: str | None,
) -> None:
    """Search exchanges, the newest first; TEXT is sought in prompts and answers, in any case."""
    query = _query(everyone, limit, after, {**filters, "text": text})
    answer = call("GET", f"/api/v1/exchanges?{query}", token=token, folder=folder)
    _say_incomplete(answer)
    if as_json:
        _print_lines(answer["exchanges"])
    elif not answer["exchanges"]:
        click.echo("No such exchanges recorded yet.")
    else:
        for hit in answer["exchanges"]:
            show_hit(hit, text)
    _print_next(answer, as_json=as_json)


@sessions.command()
@click.argument("name", metavar="SESSION|EXCHANGE")
@click.option("--bodies", is_flag=True, help="Requests and answers whole, as recorded.")
@click.option("--json", "as_json", is_flag=True, help="As JSON lines.")
@_owner_options
def show(
    name: str,
    bodies: bool,
    as_json: bool,
    issuer: str | None,
    subject: str | None,
    token: str | None,
    folder: Path,
) -> None:
    """Show an exchange, or those of a session, the oldest first."""
    for exchange_id in _exchange_ids(name, issuer, subject, token, folder):
        found = call("GET", f"/api/v1/exchanges/{exchange_id}", token=token, folder=folder)
        if as_json:
            _print_lines([found])
        else:
            show_exchange(read_exchange(found), bodies=bodies)


@sessions.command()
@click.argument("name", metavar="SESSION|EXCHANGE")
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Times as fast as it was; 0 shows all at once.",
)
@click.option("--raw", is_flag=True, help="The events themselves instead of their text.")
@click.option(
    "--against",
    metavar="ENDPOINT",
    help="Send the request of an EXCHANGE to that endpoint again, and show what is different.",
)
@_owner_options
def replay(
    name: str,
    speed: float,
    raw: bool,
    against: str | None,
    issuer: str | None,
    subject: str | None,
    token: str | None,
    folder: Path,
) -> None:
    """Replay recorded answers as they came, event by event; Ctrl-C ends it.

    With --against, the recorded request is sent again instead: through the gateway, under your own
    token. Policy decides about it as about any call, and whether you may choose that endpoint.
    """
    if against is not None:
        _send_again(name, against, token, folder)
        return
    try:
        for exchange_id in _exchange_ids(name, issuer, subject, token, folder):
            path = f"/api/v1/exchanges/{exchange_id}/replay"
            found = read_exchange(call("GET", path, token=token, folder=folder))
            click.echo(visible(f"--- {exchange_id} {found.request_model or ''}", one_line=True))
            if found.response_body is None:
                why = found.error_message or f"recorded is: {found.recording_content}"
                click.echo(visible(f"[no answer to replay; {why}]", one_line=True))
                continue
            play(steps_of(found, raw=raw), speed)
    except KeyboardInterrupt:
        click.echo("\nReplay stopped.")


@sessions.command()
@click.argument("session_id", metavar="SESSION")
@click.option("--format", "form", type=click.Choice(_FORMATS), default="html", show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="File, instead of a pipe."
)
@_owner_options
def export(
    session_id: str,
    form: str,
    output: Path | None,
    issuer: str | None,
    subject: str | None,
    token: str | None,
    folder: Path,
) -> None:
    """Export a session as one document, with everything in it made safe to read."""
    query = urlencode({"format": form, **_owner(issuer, subject)})
    path = f"/api/v1/sessions/{quote(session_id, safe='')}/export?{query}"
    if output is None:
        download(path, sys.stdout.buffer, token=token, folder=folder)
        return
    part = output.with_name(f"{output.name}.part")
    try:
        part.touch(mode=0o600)
        with part.open("wb") as file:
            download(path, file, token=token, folder=folder)
        part.replace(output)
    except OSError as e:
        raise Complaint(f"{output} can't be written: {e.strerror}") from e
    finally:
        part.unlink(missing_ok=True)
    click.echo(f"Written: {output}")


def _send_again(name: str, endpoint: str, token: str | None, folder: Path) -> None:
    if not _EXCHANGE_ID.fullmatch(name):
        raise Complaint("--against takes one exchange, not a session")
    path = f"/api/v1/exchanges/{name}/replay"
    found = read_exchange(call("GET", path, token=token, folder=folder))
    now = send_again(found, endpoint, token_of(token), gateway_url(folder))
    show_difference(found, now)


# --- shared ---------------------------------------------------------------------------------------


def _exchange_ids(
    name: str, issuer: str | None, subject: str | None, token: str | None, folder: Path
) -> Iterator[str]:
    """Yield every exchange of the session that is named, or the one exchange that is.

    A conversation that its client gave no name is called by its first exchange.
    """
    try:
        yield from _session_ids(name, _owner(issuer, subject), token, folder)
    except NotThere:
        if not _EXCHANGE_ID.fullmatch(name):
            raise
        yield name


def _session_ids(
    name: str, owner: dict[str, str], token: str | None, folder: Path
) -> Iterator[str]:
    query = {"limit": "500", **owner}
    while True:
        path = f"/api/v1/sessions/{quote(name, safe='')}?{urlencode(query)}"
        answer = call("GET", path, token=token, folder=folder)
        _say_incomplete(answer)
        for item in answer["exchanges"]:
            yield quote(item["exchange_id"], safe="")
        if not answer["next"]:
            return
        query["after"] = answer["next"]


def _owner(issuer: str | None, subject: str | None) -> dict[str, str]:
    return {k: v for k, v in (("issuer", issuer), ("subject", subject)) if v}


def _query(everyone: bool, limit: int, after: str | None, filters: dict[str, str | None]) -> str:
    query = {"scope": "all" if everyone else "own", "limit": str(limit), "after": after, **filters}
    return urlencode({name: value for name, value in query.items() if value})


def _print_lines(items: list[dict[str, Any]]) -> None:
    for item in items:
        click.echo(json.dumps(item))


def _print_next(answer: dict[str, Any], *, as_json: bool) -> None:
    if answer["next"]:
        click.echo(f"next page: --after {visible(answer['next'])}", err=as_json)
