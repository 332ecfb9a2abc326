"""`countersign demo`: tokens of the demo issuer and the demo Claude's directives."""

from pathlib import Path

import click

from gateway.cli.terminal import Complaint, folder_option, settings_in_force
from gateway.demo.directives import DIRECTIVES
from gateway.demo.issuer import parse_duration
from gateway.demo_setup import mint_token


@click.group()
def demo() -> None:
    """The demo issuer and the demo Claude of `up --demo`."""


@demo.command()
@click.option("--user", required=True, help="The subject.")
@click.option("--groups", default="", help="Groups, separated by commas.")
@click.option("--claim", "claims", multiple=True, metavar="NAME=VALUE", help="A further claim.")
@click.option("--ttl", default="1h", show_default=True, help="Lifetime, e.g. 90s, 5m, 12h.")
@folder_option
def token(user: str, groups: str, claims: tuple[str, ...], ttl: str, folder: Path) -> None:
    """Print a token of the demo issuer."""
    settings = settings_in_force(folder)
    if not settings.demo:
        raise Complaint("this deployment has no demo issuer; its tokens come from its own issuers")
    pairs = dict(_split(claim) for claim in claims)
    names = tuple(group.strip() for group in groups.split(",") if group.strip())
    try:
        minted = mint_token(settings, user, names, pairs, parse_duration(ttl))
    except ValueError as e:
        raise Complaint(str(e)) from e
    click.echo(minted)


@demo.command()
def directives() -> None:
    """List what steers the demo Claude from a prompt, as [[demo NAME=VALUE]]."""
    width = max(map(len, DIRECTIVES))
    for name, text in DIRECTIVES.items():
        click.echo(f"{name:<{width}}  {text}")


def _split(claim: str) -> tuple[str, str]:
    name, separator, value = claim.partition("=")
    if not separator or not name:
        raise Complaint(f"a claim is NAME=VALUE, not {claim!r}")
    return name, value
