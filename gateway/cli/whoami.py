"""`countersign whoami`: who the gateway takes this user for, and what policy would let them do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from gateway.cli.api import call
from gateway.cli.terminal import folder_option, show_table

_SAID = {"allow": "runs", "hold": "waits for approval", "deny": "is refused"}


@click.command()
@click.option("--model", "models", multiple=True, help="A model to ask about; may be repeated.")
@click.option("--repository", help="A repository that the calls would name, as acme/shop.")
@click.option("--token", help="Your token, instead of COUNTERSIGN_TOKEN or your login.")
@folder_option
def whoami(models: tuple[str, ...], repository: str, token: str | None, folder: Path) -> None:
    """Show who you are to the gateway and what policy says to plain calls of yours."""
    asked = {"models": ",".join(models), "repository": repository}
    query = urlencode({name: value for name, value in asked.items() if value})
    answer = call("GET", f"/api/v1/whoami?{query}", token=token, folder=folder)
    show_table(("", ""), _describe(answer))
    click.echo()
    show_table(("call", "model", "now", "why"), map(_cells, answer["calls"]))


def _describe(answer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "person", answer["person"]
    yield "subject", answer["sub"]
    yield "issuer", answer["issuer"]
    yield "kind", answer["kind"]
    yield "groups", ", ".join(answer["groups"]) or "none"
    yield from sorted(answer["claims"].items())
    yield "token", f"{answer['token_issued_at'][:19]} to {answer['token_expires_at'][:19]}"
    yield "policy", answer["revision"]


def _cells(item: dict[str, Any]) -> tuple[str, ...]:
    why = "; ".join(f"{reason['message']} [{reason['code']}]" for reason in item["reasons"])
    if item["approvers"]:
        why = f"one of {', '.join(item['approvers'])} must agree"
    return item["route"], item["model"], _SAID[item["outcome"]], why
