"""`countersign approvals`: see who waits for what, and decide."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from gateway.cli.api import call
from gateway.cli.terminal import folder_option, show_table, visible

token_option = click.option("--token", help="Your token, instead of COUNTERSIGN_TOKEN.")


@click.group()
def approvals() -> None:
    """Calls that wait for a second person."""


@approvals.command("list")
@click.option("--all", "everyone", is_flag=True, help="Everyone's, if policy lets you.")
@token_option
@folder_option
def list_(everyone: bool, token: str | None, folder: Path) -> None:
    """List approval requests, the newest first."""
    scope = "all" if everyone else "own"
    answer = call("GET", f"/api/v1/approvals?scope={scope}", token=token, folder=folder)
    if not answer["approvals"]:
        click.echo("No approval requests.")
        return
    columns = ("id", "kind", "state", "who", "about", "scope", "rule", "reason", "ends", "verdicts")
    show_table(columns, map(_cells, answer["approvals"]))


def _cells(item: dict[str, Any]) -> tuple[str, ...]:
    verdicts = (f"{v['verdict']} by {v['person']}: {v['comment']}" for v in item["verdicts"])
    return (
        item["id"],
        item["kind"],
        item["state"],
        item["person"],
        ", ".join(demand["about"] for demand in item["demands"]),
        item["scope"],
        ", ".join(item["reasons"]),
        item["reason"],
        item["expires_at"][:19],
        "; ".join(verdicts),
    )


def _act(comment_help: str) -> Callable[[Callable[..., None]], click.Command]:
    """Return what makes a function a command that acts on one request, with a comment."""

    def decorate(function: Callable[..., None]) -> click.Command:
        options = (
            click.argument("approval_id", metavar="ID"),
            click.option("--comment", required=True, help=comment_help),
            token_option,
            folder_option,
        )
        for option in reversed(options):
            function = option(function)
        return approvals.command()(function)

    return decorate


def _post(approval_id: str, act: str, body: dict[str, str], token: str | None, folder: Path) -> Any:
    path = f"/api/v1/approvals/{quote(approval_id, safe='')}/{act}"
    return call("POST", path, body, token=token, folder=folder)


@_act("Why; it is recorded.")
def approve(approval_id: str, comment: str, token: str | None, folder: Path) -> None:
    """Approve a request."""
    _post(approval_id, "verdicts", {"verdict": "approve", "comment": comment}, token, folder)
    click.echo(f"Approved: {visible(approval_id)}")


@_act("Why; the requester reads it.")
def deny(approval_id: str, comment: str, token: str | None, folder: Path) -> None:
    """Deny a request."""
    _post(approval_id, "verdicts", {"verdict": "deny", "comment": comment}, token, folder)
    click.echo(f"Denied: {visible(approval_id)}")


@_act("Why; it is recorded.")
def withdraw(approval_id: str, comment: str, token: str | None, folder: Path) -> None:
    """Withdraw a request of your own that nobody has decided."""
    _post(approval_id, "withdraw", {"comment": comment}, token, folder)
    click.echo(f"Withdrawn: {visible(approval_id)}")


@_act("Why; it is recorded.")
def revoke(approval_id: str, comment: str, token: str | None, folder: Path) -> None:
    """End an approval before its time: your own, or one that you may decide about."""
    _post(approval_id, "revoke", {"comment": comment}, token, folder)
    click.echo(f"Revoked: {visible(approval_id)}")
