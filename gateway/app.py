"""Composition: which adapters each process gets. The only place that picks clock, ids and keys."""

import asyncio
import gc
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from gateway import demo_setup
from gateway.approval_store import ApprovalStore
from gateway.approvals import ApprovalWaits
from gateway.bundles import Relay, load_bundle
from gateway.changes import ChangeFeed
from gateway.config import Settings, read_masking_keys, read_secret
from gateway.console.offers import LoginOffer, Offer
from gateway.contract import DecisionInput, Gateway, Net, PrincipalInput
from gateway.conversations import Conversations
from gateway.cuts import CutKeeper
from gateway.decisions import SUPPORTS
from gateway.domain import Approval, ExchangeId, Failure, Request, Route
from gateway.exchange import format_time
from gateway.gate import Gate
from gateway.identity.claims import Issuer
from gateway.identity.jwks import KeySource
from gateway.identity.oidc import TokenIdentity
from gateway.journal import Journal, open_journal
from gateway.journal_folder import JournalFolder
from gateway.limits import LimitKeeper
from gateway.masking.seals import Seals
from gateway.opa import OpaClient, Policy
from gateway.proxy import ProxyServer
from gateway.published import recorder_file
from gateway.request_masks import RequestMasks
from gateway.scans import Scans
from gateway.sections import IssuerSettings, Listener
from gateway.serving import listen, serve_until_stopped, stop_event
from gateway.state import open_state
from gateway.strangers import Strangers
from gateway.tls import Certificate
from gateway.unrecorded import Unrecorded
from gateway.upstream import Endpoint, Upstreams

FLUSH_COUNTS_S = 5.0
OPA_START_S = 30.0
"""How long a process waits for OPA's first answer."""

YOUNG_OBJECTS = 10_000
"""How many new objects a worker lets pass before it looks for cycles; an exchange leaves few."""

VERSION = version("countersign")

_log = logging.getLogger(__name__)


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


def _endpoints(settings: Settings) -> dict[str, Endpoint]:
    if settings.demo:
        return {"claude": demo_setup.endpoint_of(settings)}
    return {
        name: Endpoint(
            name=name, base_url=endpoint.base_url, credential=read_secret(endpoint.credential)
        )
        for name, endpoint in settings.endpoints.items()
    }


def _seals(settings: Settings) -> Seals:
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


def _recorder_token(settings: Settings) -> str:
    if settings.recorder.token:
        return read_secret(settings.recorder.token)
    return recorder_token_file(settings).read_text()


def _open_journal(settings: Settings, kind: str) -> AbstractAsyncContextManager[Journal]:
    """Open a new journal, named after the kind of process, that keeps to the floor."""
    return open_journal(
        settings.journal_folder,
        lambda: new_id(kind),
        time.time_ns,
        min_free_bytes=settings.min_free_bytes,
    )


@asynccontextmanager
async def _upstreams(settings: Settings) -> AsyncIterator[Upstreams]:
    silence_s = settings.proxy.answer_timeout_s
    with closing(Upstreams(_endpoints(settings), answer_timeout_s=silence_s)) as upstreams:
        yield upstreams


@asynccontextmanager
async def _policy(settings: Settings) -> AsyncIterator[Policy]:
    client = OpaClient(
        str(settings.opa_socket),
        gateway_token_file(settings).read_text(),
        deadline_s=settings.policy.deadline_ms / 1000,
        slot_wait_s=settings.policy.slot_wait_ms / 1000,
        connections=settings.policy.connections,
    )
    policy = Policy(client)
    try:
        await _warm_up(policy, tuple(_endpoints(settings)))
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
async def _identity(settings: Settings) -> AsyncIterator[TokenIdentity]:
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


# --- processes ------------------------------------------------------------------------------------


async def run_proxy(settings: Settings, ready: Callable[[], None]) -> None:
    """A proxy worker: listens only once a call would work."""
    engine = open_state(settings.state_url)
    limits = LimitKeeper(engine, new_id("worker"), time.time_ns)
    cuts = CutKeeper(engine, time.time_ns)
    approvals = ApprovalWaits(
        engine,
        now_ns=time.time_ns,
        new_id=lambda: new_id("appr"),
        console_url=settings.console_url,
    )
    changes = ChangeFeed(engine, {"approvals": (approvals.load, approvals.take)})
    async with (
        limits.keeping(),
        cuts.keeping(),
        changes.keeping(),
        _open_journal(settings, "proxy") as journal,
        _policy(settings) as policy,
        _identity(settings) as identity,
        _upstreams(settings) as upstreams,
    ):
        conversations, scans = Conversations(secrets.token_bytes(32)), Scans()
        strangers = Strangers(journal, time.time_ns, lambda: new_id("evt"))
        unrecorded = Unrecorded(journal, time.time_ns, lambda: new_id("evt"))
        gate = Gate(
            identity=identity,
            policy=policy,
            journal=journal,
            approvals=approvals,
            upstream=upstreams,
            limits=limits,
            cuts=cuts,
            strangers=strangers,
            unrecorded=unrecorded,
            now_ns=time.time_ns,
            new_id=new_exchange_id,
            version=VERSION,
            conversations=conversations,
            scans=scans,
            masks=RequestMasks(conversations, scans, _seals(settings)),
        )
        server = ProxyServer(gate, strangers, new_exchange_id, settings.trusted_proxies)
        # aiohttp waits for running handlers twice as long as it is told before it cancels them.
        runner = web.ServerRunner(server, shutdown_timeout=settings.proxy.drain_s / 2)
        async with _flushing(strangers.flush, unrecorded.flush):
            listener = listen(settings.proxy.host, settings.proxy.port, is_shared=True)
            gc.freeze()  # what is there now lives as long as the process
            gc.set_threshold(YOUNG_OBJECTS)
            certificate = _certificate(settings.proxy)
            await serve_until_stopped(runner, listener, ready, certificate)


@asynccontextmanager
async def _flushing(*counts: Callable[[], None]) -> AsyncIterator[None]:
    """Turn what is counted into events every few seconds, and at the end."""

    def flush() -> None:
        for each in counts:
            try:
                each()
            except Failure:
                _log.warning("counts_not_recorded")

    async def keep_flushing() -> None:
        while True:
            await asyncio.sleep(FLUSH_COUNTS_S)
            flush()

    async with asyncio.TaskGroup() as tasks:
        flushing = tasks.create_task(keep_flushing())
        try:
            yield
        finally:
            flushing.cancel()
            flush()


def _certificate(listener: Listener) -> Certificate | None:
    return Certificate(listener.tls.certificate, listener.tls.key) if listener.tls else None


def _offer(settings: Settings) -> Offer:
    login = LoginOffer(
        issuer=settings.login_issuer, **settings.login.model_dump(exclude={"issuer"})
    )
    return Offer(
        proxy_url=settings.proxy_url,
        console_url=settings.console_url,
        login=login if login.client_id else None,
    )


async def run_console(settings: Settings, ready: Callable[[], None]) -> None:
    """The control plane's API."""
    from gateway.console.api import Console  # the data plane never loads the lake
    from gateway.console.recorders import RecorderClient
    from lake.catalog import open_lake
    from lake.hot_read import HotReader
    from lake.read import LakeReader

    lake = open_lake(settings.catalog_url, Path(settings.warehouse))
    token = _recorder_token(settings)
    urls = settings.console.recorders or (settings.recorder_url,)
    hot = HotReader(
        [RecorderClient(url, token) for url in urls],
        lake.arrow_schema("exchanges"),
        time.monotonic,
    )
    engine = open_state(settings.state_url)
    async with (
        _open_journal(settings, "console") as journal,
        _policy(settings) as policy,
        _identity(settings) as identity,
    ):
        console = Console(
            identity=identity,
            policy=policy,
            journal=journal,
            approvals=ApprovalStore(engine, time.time_ns),
            sessions=LakeReader(lake, hot),
            offer=_offer(settings),
            endpoints=tuple(_endpoints(settings)),
            version=VERSION,
            now_ns=time.time_ns,
            new_id=new_id,
        )
        runner = web.AppRunner(console.build_app(), access_log=None, shutdown_timeout=5)
        await serve_until_stopped(
            runner,
            listen(settings.console.host, settings.console.port),
            ready,
            _certificate(settings.console),
        )


async def run_relay(settings: Settings, ready: Callable[[], None]) -> None:
    """The bundle relay."""
    relay = Relay(
        settings.policy.opa.absolute(),
        settings.policy.source.absolute(),
        settings.bundle_file,
        load_bundle(settings.bundle_file),
    )
    runner = web.AppRunner(relay.build_app(), access_log=None, shutdown_timeout=1)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(relay.watch())
        await serve_until_stopped(runner, listen("127.0.0.1", settings.policy.relay_port), ready)
        watching.cancel()


async def run_demo(settings: Settings, ready: Callable[[], None]) -> None:
    """The demo issuer and the demo Claude, in one process; loopback only."""
    stop = stop_event()
    runners = [
        (web.AppRunner(app, access_log=None, shutdown_timeout=1), port)
        for app, port in demo_setup.build_apps(settings)
    ]
    try:
        for runner, port in runners:
            await runner.setup()
            await web.SockSite(runner, listen("127.0.0.1", port)).start()
        ready()
        await stop.wait()
    finally:
        for runner, _ in runners:
            await runner.cleanup()


def run_recorder(settings: Settings, ready: Callable[[], None]) -> None:
    """The recorder: tails this host's journals into the Iceberg tables."""
    from gateway.recording import record_for_ever

    record_for_ever(settings, ready, new_id, time.time_ns)


async def run_hot(settings: Settings, ready: Callable[[], None]) -> None:
    """The hot index: follows this host's journals and shows consoles what is not committed."""
    from gateway.hot_api import serve
    from gateway.message_texts import MessageTexts
    from gateway.recorder_report import LastWord
    from lake.hot import HotIndex

    recorder = LastWord(recorder_file(settings.folder))
    index = HotIndex(
        settings.folder / "hot" / "index.db",
        JournalFolder(settings.journal_folder),
        MessageTexts(),
        lambda: recorder.read().committed,
    )
    listener = listen(settings.recorder.host, settings.recorder.port)
    token = _recorder_token(settings)
    await serve(
        index,
        listener,
        token,
        lambda: recorder.read().state,
        ready,
        stop_event(),
        _certificate(settings.recorder),
    )
