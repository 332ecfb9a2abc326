"""The processes: what each of them runs, from its start until it is asked to stop."""

import asyncio
import gc
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from gateway import app, demo_setup
from gateway.approval_store import ApprovalStore
from gateway.approvals import ApprovalWaits
from gateway.bundles import Relay, load_bundle
from gateway.changes import ChangeFeed
from gateway.config import Settings
from gateway.conversations import Conversations
from gateway.cuts import CutKeeper
from gateway.domain import Failure
from gateway.endings import Endings
from gateway.gate import Gate
from gateway.journal_folder import JournalFolder
from gateway.limits import LimitKeeper
from gateway.proxy import ProxyServer
from gateway.published import recorder_file
from gateway.questions import Questions
from gateway.request_masks import RequestMasks
from gateway.scans import Scans
from gateway.serving import listen, serve_until_stopped, stop_event
from gateway.state import open_state
from gateway.strangers import Strangers
from gateway.unrecorded import Unrecorded

FLUSH_COUNTS_S = 5.0
YOUNG_OBJECTS = 10_000
"""How many new objects a worker lets pass before it looks for cycles; an exchange leaves few."""

_log = logging.getLogger(__name__)


async def run_proxy(settings: Settings, ready: Callable[[], None]) -> None:
    """A proxy worker: listens only once a call would work."""
    engine = open_state(settings.state_url)
    limits = LimitKeeper(engine, app.new_id("worker"), time.time_ns)
    cuts = CutKeeper(engine, time.time_ns)
    approvals = ApprovalWaits(
        engine,
        now_ns=time.time_ns,
        new_id=lambda: app.new_id("appr"),
        console_url=settings.console_url,
    )
    changes = ChangeFeed(engine, {"approvals": (approvals.load, approvals.take)})
    async with (
        limits.keeping(),
        cuts.keeping(),
        changes.keeping(),
        app.open_process_journal(settings, "proxy") as journal,
        app.open_policy(settings) as policy,
        app.open_identity(settings) as identity,
        app.open_upstreams(settings) as upstreams,
    ):
        conversations, scans = Conversations(secrets.token_bytes(32)), Scans()
        strangers = Strangers(journal, time.time_ns, lambda: app.new_id("evt"))
        unrecorded = Unrecorded(journal, time.time_ns, lambda: app.new_id("evt"))
        questions = Questions(
            policy=policy,
            approvals=approvals,
            endpoints=upstreams.endpoints,
            conversations=conversations,
            scans=scans,
            masks=RequestMasks(conversations, scans, app.seals_of(settings)),
            now_ns=time.time_ns,
            version=app.VERSION,
        )
        gate = Gate(
            identity=identity,
            questions=questions,
            approvals=approvals,
            limits=limits,
            cuts=cuts,
            upstream=upstreams,
            journal=journal,
            endings=Endings(journal, unrecorded),
            strangers=strangers,
            now_ns=time.time_ns,
            new_id=app.new_exchange_id,
        )
        server = ProxyServer(gate, strangers, app.new_exchange_id, settings.trusted_proxies)
        # aiohttp waits for running handlers twice as long as it is told before it cancels them.
        runner = web.ServerRunner(server, shutdown_timeout=settings.proxy.drain_s / 2)
        async with _flushing(strangers.flush, unrecorded.flush):
            listener = listen(settings.proxy.host, settings.proxy.port, is_shared=True)
            gc.freeze()  # what is there now lives as long as the process
            gc.set_threshold(YOUNG_OBJECTS)
            certificate = app.certificate_of(settings.proxy)
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


async def run_console(settings: Settings, ready: Callable[[], None]) -> None:
    """The control plane's API."""
    from gateway.console.api import Console  # the data plane never loads the lake
    from gateway.console.recorders import RecorderClient
    from lake.catalog import open_lake
    from lake.hot_read import HotReader
    from lake.read import LakeReader

    lake = open_lake(settings.catalog_url, Path(settings.warehouse))
    token = app.recorder_token(settings)
    urls = settings.console.recorders or (settings.recorder_url,)
    hot = HotReader(
        [RecorderClient(url, token) for url in urls],
        lake.arrow_schema("exchanges"),
        time.monotonic,
    )
    engine = open_state(settings.state_url)
    async with (
        app.open_process_journal(settings, "console") as journal,
        app.open_policy(settings) as policy,
        app.open_identity(settings) as identity,
    ):
        console = Console(
            identity=identity,
            policy=policy,
            journal=journal,
            approvals=ApprovalStore(engine, time.time_ns),
            sessions=LakeReader(lake, hot),
            offer=app.offer_of(settings),
            endpoints=tuple(app.endpoints_of(settings)),
            version=app.VERSION,
            now_ns=time.time_ns,
            new_id=app.new_id,
        )
        runner = web.AppRunner(console.build_app(), access_log=None, shutdown_timeout=5)
        await serve_until_stopped(
            runner,
            listen(settings.console.host, settings.console.port),
            ready,
            app.certificate_of(settings.console),
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

    record_for_ever(settings, ready, app.new_id, time.time_ns)


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
    token = app.recorder_token(settings)
    await serve(
        index,
        listener,
        token,
        lambda: recorder.read().state,
        ready,
        stop_event(),
        app.certificate_of(settings.recorder),
    )
