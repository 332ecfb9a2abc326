"""`countersign policy`: what OPA has loaded, and what it would decide; for operators."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from opa_client import OpaClient
from opa_client.errors import ConnectionsError

from gateway.app import operator_token_file
from gateway.bundles import BadPolicy, load_tables
from gateway.cli.terminal import (
    Complaint,
    folder_option,
    settings_file,
    settings_in_force,
    visible,
)
from gateway.masking.shown import show_hits
from gateway.masking.text import TextMasker
from gateway.sections import PolicySettings


@click.group()
def policy() -> None:
    """The policy engine, under the operators' token."""


@contextmanager
def _opa(folder: Path) -> Iterator[Any]:
    settings = settings_in_force(folder)
    try:
        token = operator_token_file(settings).read_text()
        with OpaClient(host="127.0.0.1", port=settings.policy.operator_port, token=token) as client:
            yield client
    except (ConnectionsError, OSError) as e:
        raise Complaint("OPA can't be reached; is the deployment running?") from e


def bundle_status(folder: Path) -> dict[str, Any]:
    """Return what OPA says of its bundle.

    Raises:
        Complaint: it can't be reached, or knows of none.
    """
    with _opa(folder) as client:
        answer = client.get_status()
    bundle = answer.get("result", {}).get("bundles", {}).get("gateway")
    if not isinstance(bundle, dict):
        raise Complaint("OPA has no policy bundle")
    return bundle


@policy.command()
@folder_option
def status(folder: Path) -> None:
    """Show the active revision and whether the newest bundle could be activated."""
    bundle = bundle_status(folder)
    click.echo(f"active revision   {bundle.get('active_revision', 'none')}")
    click.echo(f"activated         {bundle.get('last_successful_activation', 'never')}")
    click.echo(f"last request      {bundle.get('last_request', 'never')}")
    if bundle.get("code"):
        raise Complaint(f"the newest bundle was not activated: {bundle.get('message')}")


@policy.command("try")
@click.argument("file", type=click.File())
@folder_option
def try_(file: Any, folder: Path) -> None:
    """Show what the active policies decide about the input in FILE (`-` for standard input).

    FILE holds a decision input, or a recorded case with the input under `input`.
    """
    try:
        document = json.load(file)
    except ValueError as e:
        raise Complaint(f"{file.name} is not JSON: {e}") from e
    question = document.get("input", document)
    with _opa(folder) as client:
        answer = client.query_rule(question, "gateway.decision", "main")
    if "result" not in answer:
        raise Complaint("the decision is undefined")
    click.echo(json.dumps(answer["result"], indent=2))


@policy.command()
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option(
    "--rules",
    default="cloud,keys,services",
    show_default=True,
    metavar="NAMES",
    help="Masks and topics, with commas between them; `all` for every one.",
)
@click.option("--show", is_flag=True, help="Print the values themselves, to this terminal.")
@click.option(
    "--source",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the policies; else that of the deployment, or `policies`.",
)
@folder_option
def mask(file: Any, rules: str, show: bool, source: Path | None, folder: Path) -> None:
    """Show what the masks of a policies folder would do to FILE (`-` for standard input).

    No deployment needs to run. A line per value: line and column, the rule, how long it is; then
    the masked text. Values are printed with --show only.
    """
    settings = settings_in_force(folder).policy if settings_file(folder).exists() else None
    opa = (settings or PolicySettings()).opa.absolute()
    policies = (source or (settings or PolicySettings()).source).absolute()
    try:
        text = file.read()
        tables = load_tables(opa, policies)
    except UnicodeDecodeError as e:
        raise Complaint(f"{file.name} is not text in UTF-8") from e
    except (BadPolicy, OSError) as e:
        raise Complaint(str(e)) from e
    names = tuple(tables.masks) if rules == "all" else tuple(rules.split(","))
    try:
        chosen = tables.find_rules(names)
    except KeyError as e:
        raise Complaint(f"there is no mask and no topic of the name {e}") from e
    hits = show_hits(chosen, text)
    for hit in hits:
        value = f"  {visible(hit.value, one_line=True)}" if show else ""
        click.echo(f"{hit.line}:{hit.column}  {hit.rule}  {len(hit.value)} characters{value}")
    values = "1 value" if len(hits) == 1 else f"{len(hits)} values"
    click.echo(f"{values} would be masked" + (":\n" if hits else "."))
    if hits:
        masker = TextMasker(chosen)
        click.echo(visible(masker.feed(text) + masker.finish()), nl=False)
