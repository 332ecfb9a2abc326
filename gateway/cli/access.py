"""`countersign access`: ask for access before it is needed."""

from pathlib import Path

import click

from gateway.cli.api import call
from gateway.cli.approvals import token_option
from gateway.cli.terminal import Complaint, folder_option, visible
from gateway.demo.issuer import parse_duration


@click.group()
def access() -> None:
    """Access that is asked for beforehand."""


@access.command()
@click.option("--repository", required=True, help="As owner/name.")
@click.option("--for", "duration", required=True, help="How long, e.g. 30m or 2h.")
@click.option("--reason", required=True, help="Why; approvers and reviewers read it.")
@click.option("--emergency", is_flag=True, help="At once, if policy lets you; it is reviewed.")
@token_option
@folder_option
def request(
    repository: str, duration: str, reason: str, emergency: bool, token: str | None, folder: Path
) -> None:
    """Ask for access to a repository."""
    try:
        for_s = parse_duration(duration)
    except ValueError as e:
        raise Complaint(str(e)) from e
    posted = {
        "repository": repository,
        "for_s": for_s,
        "reason": reason,
        "emergency": emergency,
    }
    answer = call("POST", "/api/v1/access", posted, token=token, folder=folder)
    click.echo(f"{visible(answer['state']).capitalize()}: {visible(answer['id'])}")
