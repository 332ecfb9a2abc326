"""`countersign conformance`: does a gateway keep the contract that Claude's clients rely on?"""

import asyncio
import json
import sys

import click

from gateway.cli.terminal import Complaint, show_table
from gateway.conformance.caller import Caller
from gateway.conformance.checks import Bench, Check
from gateway.conformance.run import CHECKS, Result, run
from gateway.conformance.upstream import Upstream


@click.command()
@click.option("--base-url", required=True, help="Of the tested gateway, as clients have it.")
@click.option(
    "--token",
    required=True,
    envvar="COUNTERSIGN_TOKEN",
    help="A credential that the gateway takes; better in COUNTERSIGN_TOKEN than here.",
)
@click.option("--upstream-host", default="127.0.0.1", show_default=True, help="To listen on.")
@click.option("--upstream-port", default=8490, show_default=True, help="To listen on.")
@click.option("--model", default="claude-sonnet-4-5", show_default=True, help="One it may use.")
@click.option(
    "--denied-model", default="claude-mythos-1", show_default=True, help="One it may not use."
)
@click.option("--expired-token", default="", help="A token whose only fault is that it expired.")
@click.option("--only", multiple=True, metavar="CHECK", help="Run this check; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON per check.")
def conformance(
    base_url: str,
    token: str,
    upstream_host: str,
    upstream_port: int,
    model: str,
    denied_model: str,
    expired_token: str,
    only: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check a gateway, any gateway, from the outside.

    This command is both its caller and the Claude server behind it. So first configure the tested
    gateway to forward to http://127.0.0.1:8490 (or where --upstream-host and --upstream-port say),
    with any upstream credential, and to nothing that real callers use. Ends with status 1 if a
    check fails.
    """
    upstream = Upstream()
    bench = Bench(
        caller=Caller(base_url, token),
        upstream=upstream,
        model=model,
        denied_model=denied_model,
        expired_token=expired_token,
    )
    try:
        results = asyncio.run(_run(bench, upstream_host, upstream_port, _named(only)))
    except OSError as e:
        raise Complaint(f"can't listen on {upstream_host}:{upstream_port}: {e.strerror}") from e
    if as_json:
        for result in results:
            click.echo(json.dumps(result.as_dict()))
    else:
        show_table(("check", "result", "seen"), [(r.check, r.result, r.seen) for r in results])
        _sum_up(results)
    if any(result.result == "fail" for result in results):
        sys.exit(1)


async def _run(bench: Bench, host: str, port: int, checks: list[Check]) -> list[Result]:
    async with bench.upstream.serving(host, port):
        return [result async for result in run(bench, checks)]


def _named(only: tuple[str, ...]) -> list[Check]:
    known = {check.name: check for check in CHECKS}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise Complaint(f"there is no check {', '.join(unknown)}; see docs/conformance.md")
    return [known[name] for name in only] or list(CHECKS)


def _sum_up(results: list[Result]) -> None:
    failed = sum(result.result == "fail" for result in results)
    skipped = sum(result.result == "skipped" for result in results)
    click.echo(f"{len(results)} checks: {failed} failed, {skipped} skipped.")
