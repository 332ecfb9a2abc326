"""`countersign login`, `token`, `exec` and `logout`: how people get their token to the gateway."""

import json
import os
import shlex
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec

from gateway.cli.logins import (
    Login,
    changing_login,
    read_login,
    remove_login,
    valid_login,
    write_login,
)
from gateway.cli.terminal import Complaint, folder_option, settings_in_force, visible
from gateway.console.offers import LoginOffer, Offer

_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""What Claude Code would use instead of its `apiKeyHelper`."""


@click.command()
@click.option(
    "--console",
    metavar="URL",
    envvar="COUNTERSIGN_CONSOLE_URL",
    help="Address of the console, else that of the deployment on this machine.",
)
@click.option("--device", is_flag=True, help="Show a code to enter in a browser elsewhere.")
@click.option("--no-browser", is_flag=True, help="Show the address, and open nothing.")
@click.option(
    "--issuer",
    metavar="URL",
    envvar="COUNTERSIGN_ISSUER",
    help="Where to log in, instead of what the console says.",
)
@click.option(
    "--client-id",
    metavar="ID",
    envvar="COUNTERSIGN_CLIENT_ID",
    help="As which client, instead of what the console says.",
)
@folder_option
def login(
    console: str | None,
    device: bool,
    no_browser: bool,
    issuer: str | None,
    client_id: str | None,
    folder: Path,
) -> None:
    """Log in at the identity provider, in the browser.

    The tokens are kept in ~/.config/countersign (or under XDG_CONFIG_HOME), readable by you alone.
    Afterwards every countersign command uses them, and `countersign token` prints them for other
    programs.
    """
    from gateway.cli import oauth  # Authlib and requests take long to load

    console_url = (console or settings_in_force(folder).console_url).rstrip("/")
    offer = oauth.fetch_offer(console_url)
    terms = _terms(offer, issuer, client_id)
    provider = oauth.discover(terms.issuer)
    if device:
        tokens = oauth.log_in_by_device(provider, terms, _show_code)
    else:
        tokens = oauth.log_in_by_browser(
            provider, terms, _show_address if no_browser else _open_browser
        )
    empty = Login(
        console_url=console_url,
        proxy_url=offer.proxy_url,
        issuer=terms.issuer,
        client_id=terms.client_id,
        token_endpoint=provider.token_endpoint,
        revocation_endpoint=provider.revocation_endpoint,
        kind=terms.token,
        token="",
        expires_at=0,
        refresh_token="",
    )
    with changing_login():
        write_login(oauth.renewed(empty, tokens))
    click.echo("You are logged in. Who that is: countersign whoami", err=True)


@click.command()
def token() -> None:
    """Print your token and nothing else; refreshes it when it is about to expire.

    Made for Claude Code: {"apiKeyHelper": "countersign token"} in its settings, with
    ANTHROPIC_BASE_URL in the environment.
    """
    click.echo(_valid().token)


@click.command()
def logout() -> None:
    """End the login at the identity provider and forget the tokens."""
    with changing_login():
        found = read_login()
        remove_login()
    if found is None:
        click.echo("You were not logged in.", err=True)
        return
    from gateway.cli import oauth  # Authlib and requests take long to load

    try:
        oauth.revoke(found)
    except Complaint as e:
        raise Complaint(f"the tokens are gone from here, but not revoked: {e}") from e
    click.echo("You are logged out.", err=True)


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(command: tuple[str, ...]) -> None:
    """Run one COMMAND against the gateway, as in: countersign exec -- claude -p "Hello".

    ANTHROPIC_BASE_URL is the gateway. Claude Code is given `countersign token` as its apiKeyHelper,
    so that a long session outlives a token; other programs get ANTHROPIC_AUTH_TOKEN, which lasts as
    long as the token.
    """
    arguments, environment = prepare(command, _valid(), os.environ)
    try:
        os.execvpe(arguments[0], arguments, environment)  # noqa: S606 - no shell is wanted
    except OSError as e:
        raise Complaint(f"{visible(arguments[0])} can't be run: {e.strerror}") from e


def prepare(
    command: Sequence[str], login: Login, environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment with which it reaches the gateway."""
    plain = {name: value for name, value in environment.items() if name not in _KEYS}
    plain["ANTHROPIC_BASE_URL"] = login.proxy_url
    program, *arguments = command
    if Path(program).name != "claude":
        return [program, *arguments], {**plain, "ANTHROPIC_AUTH_TOKEN": login.token}
    if any(each.partition("=")[0] == "--settings" for each in arguments):
        raise Complaint(
            'with --settings of your own, put {"apiKeyHelper": "countersign token"} into them, '
            f"and run claude with ANTHROPIC_BASE_URL={login.proxy_url}"
        )
    helper = shlex.join([sys.executable, "-m", "gateway", "token"])
    return [program, "--settings", json.dumps({"apiKeyHelper": helper}), *arguments], plain


def _valid() -> Login:
    found = valid_login()
    if found is None:
        raise Complaint("you are not logged in; run countersign login")
    return found


def _terms(offer: Offer, issuer: str | None, client_id: str | None) -> LoginOffer:
    own = {k: v for k, v in (("issuer", issuer), ("client_id", client_id)) if v}
    if offer.login is None and len(own) < 2:
        raise Complaint(
            "this gateway offers no login: its operator sets login.client_id, or you name "
            "--issuer and --client-id"
        )
    terms = offer.login or LoginOffer(issuer="", client_id="")
    return msgspec.structs.replace(terms, **own)


def _show_address(url: str) -> None:
    click.echo(f"Log in at:\n{visible(url)}", err=True)


def _open_browser(url: str) -> None:
    _show_address(url)
    if not webbrowser.open(url):
        click.echo("No browser opens from here. Without one: countersign login --device", err=True)


def _show_code(url: str, code: str) -> None:
    click.echo(f"Log in at:\n{visible(url)}\nand check the code {visible(code)}", err=True)
