"""A listener's certificate is read again when it was renewed."""

import asyncio
import ssl
from pathlib import Path

import pytest
from aiohttp import ClientConnectorCertificateError, ClientSession, TCPConnector, web
from support.certificates import write_pair

from gateway.serving import listen, serve_until_stopped
from gateway.tls import Certificate


async def get(port: int, trusted: bytes) -> str:
    """Return what the server says to a client that trusts one certificate."""
    context = ssl.create_default_context(cadata=trusted.decode())
    async with (
        ClientSession(connector=TCPConnector(ssl=context)) as session,
        session.get(f"https://127.0.0.1:{port}/") as answer,
    ):
        return await answer.text()


async def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    files = write_pair(tmp_path, "first")
    first = files[0].read_bytes()
    certificate = Certificate(*files)

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    listener, stop, ready = listen("127.0.0.1", 0), asyncio.Event(), asyncio.Event()
    port = listener.getsockname()[1]
    runner = web.AppRunner(app)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_until_stopped(runner, listener, ready.set, certificate, stop))
        await ready.wait()
        assert await get(port, first) == "hello"
        write_pair(tmp_path, "second")
        assert certificate.renew()
        assert await get(port, files[0].read_bytes()) == "hello"
        with pytest.raises(ClientConnectorCertificateError):
            await get(port, first)
        stop.set()


def test_nothing_is_read_again_while_nothing_changed(tmp_path: Path) -> None:
    assert not Certificate(*write_pair(tmp_path, "only")).renew()


def test_a_bad_renewal_changes_nothing(tmp_path: Path) -> None:
    files = write_pair(tmp_path, "good")
    certificate = Certificate(*files)
    good = files[1].read_bytes()
    files[1].write_text("half a k")
    assert not certificate.renew()
    files[1].write_bytes(good)
    assert certificate.renew()


@pytest.mark.parametrize("broken", ["tls.crt", "tls.key"])
def test_a_bad_pair_is_said_at_the_start(tmp_path: Path, broken: str) -> None:
    files = write_pair(tmp_path, "bad")
    (tmp_path / broken).write_text("no PEM")
    with pytest.raises(OSError, match="no PEM certificate and its key"):
        Certificate(*files)


def test_old_versions_of_tls_are_refused(tmp_path: Path) -> None:
    context = Certificate(*write_pair(tmp_path, "new")).context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
