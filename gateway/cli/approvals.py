"""`countersign approvals`: see who waits for what, and decide."""

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


def _decide(approval_id: str, verdict: str, comment: str, token: str | None, folder: Path) -> None:
    path = f"/api/v1/approvals/{quote(approval_id, safe='')}/verdicts"
    call("POST", path, {"verdict": verdict, "comment": comment}, token=token, folder=folder)
    word = {"approve": "Approved", "deny": "Denied"}[verdict]
    click.echo(f"{word}: {visible(approval_id)}")


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--comment", required=True, help="Why; it is recorded.")
@token_option
@folder_option
def approve(approval_id: str, comment: str, token: str | None, folder: Path) -> None:
    """Approve a request."""
    _decide(approval_id, "approve", comment, token, folder)


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--comment", required=True, help="Why; the requester reads it.")
@token_option
@folder_option
def deny(approval_id: str, comment: str, token: str | None, folder: Path) -> None:
    """Deny a request."""
    _decide(approval_id, "deny", comment, token, folder)


def _end(approval_id: str, act: str, comment: str, token: str | None, folder: Path) -> None:
    path = f"/api/v1/approvals/{quote(approval_id, safe='')}/{act}"
    answer = call("POST", path, {"comment": comment}, token=token, folder=folder)
    click.echo(f"{visible(answer['state']).capitalize()}: {visible(approval_id)}")


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--comment", required=True, help="Why; it is recorded.")
@token_option
@folder_option
def withdraw(approval_id: str, comment: str, token: str | None, folder: Path) -> None:
    """Withdraw a request of your own that nobody has decided."""
    _end(approval_id, "withdraw", comment, token, folder)


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--comment", required=True, help="Why; it is recorded.")
@token_option
@folder_option
def revoke(approval_id: str, comment: str, token: str | None, folder: Path) -> None:
    """End an approval before its time: your own, or one that you may decide about."""
    _end(approval_id, "revoke", comment, token, folder)
