"""The conformance suite: this gateway passes, a bare proxy can, and each flaw is found."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from support.deployment import COUNTERSIGN, ROOT, Deployment, free_base_port, running
from support.plain_proxy import DENIED, EXPIRED, FLAWS, MODEL, TOKEN, PlainProxy

from gateway.conformance.caller import Caller
from gateway.conformance.checks import Bench
from gateway.conformance.run import CHECKS, Result, run
from gateway.conformance.upstream import Upstream
from gateway.demo import issuer

FOUND = {
    "buffers": "broken_stream_shown cancel_in_stream half_closed pings_pass stream_not_buffered",
    "drops a beta": "betas_unchanged",
    "drops new headers": "new_headers_arrive",
    "drops the query": "query_unchanged tokens_counted",
    "leaks the token": "credential_stays",
    "leaks x-api-key": "credential_stays",
    "rewrites bodies": "body_unchanged chunked_upload",
    "flattens system": "body_unchanged chunked_upload system_unchanged",
    "rewrites errors": "errors_unchanged retry_headers_unchanged",
    "drops response headers": "answer_headers_unchanged retry_headers_unchanged",
    "rewrites streams": "pings_pass stream_in_fragments stream_unchanged",
    "ends cleanly": "broken_stream_shown",
    "works on": "cancel_before_answer cancel_in_stream half_closed",
    "passes redirects": "redirects_stopped",
    "passes 401": "server_401_kept",
    "passes codings": "codings_agree",
    "adds a charset": "answer_unchanged errors_unchanged stream_type_unchanged",
    "lets anyone in": "bad_credential expired_credential no_credential two_credentials",
    "invites retries": "bad_credential denial_reads_well no_credential",
    "refuses in plain text": "ambiguous_body bad_credential broken_server_told compressed_body "
    "denial_reads_well expired_credential no_credential odd_paths shared_routes too_large_body "
    "two_credentials unknown_route",
    "passes all routes": "ambiguous_body denial_reads_well odd_paths shared_routes unknown_route",
    "lists all models": "models_filtered",
    "reads the last key": "ambiguous_body",
    "answers 404": "denial_reads_well",
    "limits bodies": "large_body",
    "needs a length": "chunked_upload",
    "waits for the body": "expect_continue",
}
"""Which checks must find a flaw."""


async def judge(flaw: str = "", patience_s: float = 0.5) -> list[Result]:
    """Return what the suite says of the bare proxy with this flaw."""
    upstream = Upstream()
    async with (
        upstream.serving("127.0.0.1", 0) as port,
        PlainProxy(port, flaw).serving() as base_url,
    ):
        bench = Bench(
            caller=Caller(base_url, TOKEN, patience_s),
            upstream=upstream,
            model=MODEL,
            denied_model=DENIED,
            expired_token=EXPIRED,
        )
        return [result async for result in run(bench)]


def failed(results: list[Result]) -> list[Result]:
    return [result for result in results if result.result != "pass"]


async def test_a_bare_proxy_that_keeps_the_contract_passes() -> None:
    results = await judge(patience_s=10)
    assert failed(results) == []
    assert [result.check for result in results] == [check.name for check in CHECKS]


@pytest.mark.parametrize("flaw", FLAWS)
async def test_a_flaw_is_found(flaw: str) -> None:
    found = " ".join(sorted(result.check for result in failed(await judge(flaw))))
    assert found == FOUND[flaw]


@asynccontextmanager
async def issuing(key_file: Path, port: int) -> AsyncIterator[issuer.DemoIssuer]:
    """Serve a token issuer while inside."""
    made = issuer.DemoIssuer.load(key_file, f"http://127.0.0.1:{port}")
    runner = web.AppRunner(issuer.build(made))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield made
    finally:
        await runner.cleanup()


def write_config(folder: Path, issuer_url: str, upstream_port: int) -> Path:
    """Write the settings of a deployment whose Claude server is the suite's."""
    (folder / "claude.key").write_text("the-endpoints-own-key")
    config = {
        "issuers": [{"url": issuer_url, "audiences": ["test"], "person_claim": "person"}],
        "endpoints": {
            "claude": {
                "base_url": f"http://127.0.0.1:{upstream_port}",
                "credential": f"file:{folder / 'claude.key'}",
            }
        },
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))
    return path


async def judged(
    deployment: Deployment, minter: issuer.DemoIssuer, upstream_port: int, *arguments: str
) -> tuple[int, str]:
    """Run the suite as its users do, and return its status and what it printed."""
    claims, now = {"person": "dev"}, time.time()
    process = await asyncio.create_subprocess_exec(
        *COUNTERSIGN,
        "conformance",
        f"--base-url={deployment.base_url}",
        f"--token={minter.mint('dev', ['eng'], claims, 3600, 'test', now)}",
        f"--expired-token={minter.mint('dev', ['eng'], claims, 60, 'test', now - 3600)}",
        f"--upstream-port={upstream_port}",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


@pytest.mark.timeout(180)
async def test_this_gateway_passes(tmp_path: Path) -> None:
    issuer_port = free_base_port(2)
    async with issuing(tmp_path / "issuer.pem", issuer_port) as minter:
        config = write_config(tmp_path, minter.url, issuer_port + 1)
        started = running(tmp_path / "var", config=config)
        deployment = await asyncio.to_thread(started.__enter__)
        try:
            status, said = await judged(deployment, minter, issuer_port + 1, "--json")
            shown, table = await judged(
                deployment, minter, issuer_port + 1, "--only=body_unchanged", "--model=claude-x"
            )
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)
    results = [json.loads(line) for line in said.splitlines()]
    assert [result for result in results if result["result"] != "pass"] == []
    assert (status, len(results)) == (0, len(CHECKS))
    assert (shown, "1 checks: 1 failed, 0 skipped." in table) == (1, True)
