"""Composition: which adapters each process gets. The only place that picks clock, ids and keys."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp

from gateway import demo_setup
from gateway.clock import format_time
from gateway.config import Settings, read_masking_keys, read_secret
from gateway.console.offers import LoginOffer, Offer
from gateway.contract import DecisionInput, Gateway, Net, PrincipalInput
from gateway.decisions import SUPPORTS
from gateway.domain import Approval, ExchangeId, Failure, Request, Route
from gateway.identity.claims import Issuer
from gateway.identity.jwks import KeySource
from gateway.identity.oidc import TokenIdentity
from gateway.journal import Journal, open_journal
from gateway.masking.seals import Seals
from gateway.opa import OpaClient, Policy
from gateway.sections import IssuerSettings, Listener
from gateway.tls import Certificate
from gateway.upstream import Endpoint, Upstreams

OPA_START_S = 30.0
"""How long a process waits for OPA's first answer."""

VERSION = version("countersign")


def new_id(prefix: str) -> str:
    """Return a fresh id that sorts by time: milliseconds, then randomness."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


def new_exchange_id() -> ExchangeId:
    """Return the id of a new exchange."""
    return ExchangeId(new_id("exch"))


# --- what several processes need ------------------------------------------------------------------


def _issuers(settings: Settings) -> list[Issuer]:
    if settings.demo:
        return [demo_setup.issuer_of(settings)]
    return [
        Issuer(**issuer.model_dump(exclude={"jwks_url", "outage_s"})) for issuer in settings.issuers
    ]


def endpoints_of(settings: Settings) -> dict[str, Endpoint]:
    """Return the Claude servers by name, with their credentials."""
    if settings.demo:
        return {"claude": demo_setup.endpoint_of(settings)}
    return {
        name: Endpoint(
            name=name, base_url=endpoint.base_url, credential=read_secret(endpoint.credential)
        )
        for name, endpoint in settings.endpoints.items()
    }


def seals_of(settings: Settings) -> Seals:
    """Return what seals masked thinking and keys its tags."""
    keys = read_masking_keys(settings)
    if settings.demo and not keys:
        keys = [demo_setup.masking_key(settings)]
    return Seals(keys, secrets.token_bytes)


def gateway_token_file(settings: Settings) -> Path:
    """Where the gateway's token for OPA is; mode 600."""
    return settings.folder / "run" / "gateway.token"


def operator_token_file(settings: Settings) -> Path:
    """Where the operators' token for OPA is; mode 600."""
    return settings.folder / "run" / "operator.token"


def recorder_token_file(settings: Settings) -> Path:
    """Where the consoles' token for this host's recorder is, unless a setting names it."""
    return settings.folder / "run" / "recorder.token"


def recorder_token(settings: Settings) -> str:
    """Return the consoles' token for recorders."""
    if settings.recorder.token:
        return read_secret(settings.recorder.token)
    return recorder_token_file(settings).read_text()


def open_process_journal(settings: Settings, kind: str) -> AbstractAsyncContextManager[Journal]:
    """Open a new journal, named after the kind of process, that keeps to the floor."""
    return open_journal(
        settings.journal_folder,
        lambda: new_id(kind),
        time.time_ns,
        min_free_bytes=settings.min_free_bytes,
    )


@asynccontextmanager
async def open_upstreams(settings: Settings) -> AsyncIterator[Upstreams]:
    """Open the pools of connections to Claude servers."""
    silence_s = settings.proxy.answer_timeout_s
    with closing(Upstreams(endpoints_of(settings), answer_timeout_s=silence_s)) as upstreams:
        yield upstreams


@asynccontextmanager
async def open_policy(settings: Settings) -> AsyncIterator[Policy]:
    """Open the decision point, once OPA gives a whole answer."""
    client = OpaClient(
        str(settings.opa_socket),
        gateway_token_file(settings).read_text(),
        deadline_s=settings.policy.deadline_ms / 1000,
        slot_wait_s=settings.policy.slot_wait_ms / 1000,
        connections=settings.policy.connections,
    )
    policy = Policy(client)
    try:
        await _warm_up(policy, tuple(endpoints_of(settings)))
        yield policy
    finally:
        client.close()


async def _warm_up(policy: Policy, endpoints: tuple[str, ...]) -> None:
    """Wait for the tables and one whole answer, so that the first call is no slower than others."""
    loop = asyncio.get_running_loop()
    until = loop.time() + OPA_START_S
    while True:
        try:
            tables = await policy.load_tables()
            await policy.decide(_nobodys_question(tables.revision, endpoints))
        except Failure:
            if loop.time() > until:
                raise
            await asyncio.sleep(0.05)
        else:
            return


def _nobodys_question(revision: str, endpoints: tuple[str, ...]) -> DecisionInput:
    return DecisionInput(
        now=format_time(time.time_ns()),
        principal=PrincipalInput(
            issuer="", sub="", person="", kind="service", groups=(), claims={}, token_age_s=0
        ),
        request=Request(id=ExchangeId("warm-up"), route=Route.MODELS, method="GET"),
        signals={},
        signals_revision=revision,
        endpoints=endpoints,
        net=Net(peer=""),
        approval=Approval(),
        gateway=Gateway(version=VERSION, supports=SUPPORTS),
    )


@asynccontextmanager
async def open_identity(settings: Settings) -> AsyncIterator[TokenIdentity]:
    """Open what validates tokens, and keep its keys fresh."""
    sources = {issuer.url: issuer for issuer in settings.issuers}
    issuers = _issuers(settings)
    async with aiohttp.ClientSession() as session:
        keys = {
            issuer.url: KeySource(session, issuer.url, **_key_settings(sources.get(issuer.url)))
            for issuer in issuers
        }
        identity = TokenIdentity(issuers, keys)
        async with identity.keeping():
            yield identity


def _key_settings(issuer: IssuerSettings | None) -> dict[str, Any]:
    return {} if issuer is None else issuer.model_dump(include={"jwks_url", "outage_s"})


def certificate_of(listener: Listener) -> Certificate | None:
    """Return a listener's certificate, if it speaks TLS itself."""
    return Certificate(listener.tls.certificate, listener.tls.key) if listener.tls else None


def offer_of(settings: Settings) -> Offer:
    """Return what the console tells everyone: where things are, and where people log in."""
    login = LoginOffer(
        issuer=settings.login_issuer, **settings.login.model_dump(exclude={"issuer"})
    )
    return Offer(
        proxy_url=settings.proxy_url,
        console_url=settings.console_url,
        login=login if login.client_id else None,
    )
