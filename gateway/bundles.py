"""The bundle relay: builds the policy bundle, proves that its tables compile, offers it to OPA.

Demo form: built from a folder of Rego, unsigned, on loopback. OPA long-polls for it.
"""

import asyncio
import hashlib
import io
import json
import logging
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

import msgspec
from aiohttp import web

from gateway.domain import Fact, Failure
from gateway.masking.specs import BadRule
from gateway.table_files import find_place
from gateway.tables import Source, Tables, compile_tables

WATCH_EVERY_S = 1.0
MAX_STATUS_BYTES = 1024 * 1024
"""OPA's status reports carry its metrics: about 60 KB."""
_REGO_ERROR = re.compile(r"[^\s:]+\.rego:\d+: .*?(?= [^\s:]+\.rego:\d+: |$)")
_LONG_POLL = re.compile(r"wait=(\d{1,3})")
_TABLES = "data.gateway.tables.main"
_MEDIA_TYPE = "application/vnd.openpolicyagent.bundles"

_log = logging.getLogger(__name__)


class _BundleStatus(Fact, frozen=True, kw_only=True):
    active_revision: str = ""
    message: str = ""


class _Status(Fact, frozen=True, kw_only=True):
    bundles: dict[str, _BundleStatus] = msgspec.field(default_factory=dict)


class BadPolicy(Exception):
    """The policies can't be built; the message names file and row where there is one."""


class Bundle(Fact, frozen=True, kw_only=True):
    """A built bundle."""

    revision: str
    archive: bytes

    @property
    def etag(self) -> str:
        """Changes whenever the bundle does."""
        return f'"{hashlib.sha256(self.archive).hexdigest()[:32]}"'


def find_revision(policies: Path, digest: str) -> str:
    """Return the git commit of the policies; `-dirty-DIGEST` is added when they differ from it.

    Without git: `content-DIGEST`.
    """
    commit = _git(policies, "rev-parse", "HEAD")
    if commit is None:
        return f"content-{digest}"
    changes = _git(policies, "status", "--porcelain", "--", ".")
    return commit if changes == "" else f"{commit}-dirty-{digest}"


def digest_policies(policies: Path) -> str:
    """Return a digest over all files of the bundle: paths and contents."""
    digest = hashlib.sha256()
    for path in sorted(p for p in policies.rglob("*") if p.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(policies)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def build_bundle(opa: Path, policies: Path) -> Bundle:
    """Build the bundle of a policies folder with its revision.

    Raises:
        BadPolicy: Rego does not compile, or a mask or signal table does not.
    """
    revision = find_revision(policies, digest_policies(policies))
    archive = _run_opa(
        opa, policies, "build", "--bundle", ".", "--revision", revision, "--output", "/dev/stdout"
    )
    bundle = Bundle(revision=revision, archive=archive)
    check_tables(opa, policies, bundle)
    return bundle


def check_tables(opa: Path, policies: Path, bundle: Bundle) -> None:
    """Prove that the gateway could use the bundle's tables, as OPA will give them."""
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as archive:
        archive.write(bundle.archive)
        archive.flush()
        load_tables(opa, policies, archive.name, bundle.revision)


def load_tables(opa: Path, policies: Path, bundle: str = ".", revision: str = "") -> Tables:
    """Return the tables of a folder of policies, or of a bundle that was built from it.

    Raises:
        BadPolicy: they can't be used; the message names file and line where there is one.
    """
    reply = _run_opa(opa, policies, "eval", "--bundle", bundle, "--format", "raw", _TABLES)
    if not reply.strip():
        raise BadPolicy(f"the bundle has no tables: {_TABLES} is undefined")
    try:
        return compile_tables(revision, msgspec.json.decode(reply, type=Source))
    except BadRule as e:
        raise BadPolicy(f"{find_place(policies, e)}: {e}") from e
    except msgspec.MsgspecError as e:
        raise BadPolicy(f"the bundle's tables can't be used: {e}") from e


def _run_opa(opa: Path, policies: Path, *arguments: str) -> bytes:
    done = subprocess.run(  # noqa: S603 - the pinned opa binary, fixed arguments
        [opa, *arguments], cwd=policies, capture_output=True, check=False, timeout=60
    )
    if done.returncode != 0:
        raise BadPolicy(_first_error(done.stderr or done.stdout, policies))
    return done.stdout


def _first_error(output: bytes, policies: Path) -> str:
    """Return OPA's first complaint in one line, with the path as the author knows it."""
    text = " ".join(output.decode(errors="replace").split())
    found = _REGO_ERROR.search(text)
    return f"{policies}/{found[0]}" if found else text or "opa build failed"


def _git(folder: Path, *args: str) -> str | None:
    try:
        run = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(folder), *args],  # noqa: S607 - the user's own git
            capture_output=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.decode().strip() if run.returncode == 0 else None


def store_bundle(path: Path, bundle: Bundle) -> None:
    """Keep a bundle for the next life of the relay; replaced whole."""
    beside = path.with_name(f".{path.name}")
    beside.write_bytes(bundle.archive)
    beside.rename(path)


def load_bundle(path: Path) -> Bundle:
    """Return the bundle that was stored last, with the revision in its manifest.

    Raises:
        Failure: there is none that can be read.
    """
    try:
        archive = path.read_bytes()
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            manifest = opened.extractfile("/.manifest")
            revision = json.loads(manifest.read())["revision"] if manifest else ""
    except (OSError, KeyError, ValueError, tarfile.TarError) as e:
        raise Failure("policy_unavailable", f"the bundle {path} can't be read: {e}") from e
    return Bundle(revision=revision, archive=archive)


class Relay:
    """Serves the current bundle and rebuilds it when the folder changes."""

    def __init__(self, opa: Path, policies: Path, kept: Path, bundle: Bundle) -> None:
        self._opa = opa
        self._policies = policies
        self._kept = kept
        """Where each bundle is stored: a relay that died must not come back with an older one."""
        self._bundle = bundle
        digest = digest_policies(policies)
        self._digest = digest if find_revision(policies, digest) == bundle.revision else ""
        self._changed = asyncio.Event()
        self._status = _BundleStatus()

    def build_app(self) -> web.Application:
        """Return the relay's web application."""
        app = web.Application(client_max_size=MAX_STATUS_BYTES)
        app.router.add_get("/bundles/gateway.tar.gz", self._serve)
        app.router.add_post("/status", self._note_status)
        return app

    async def watch(self) -> None:
        """Rebuild on changes, for ever; what does not build never replaces what did."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            digest = await asyncio.to_thread(digest_policies, self._policies)
            if digest == self._digest:
                continue
            try:
                bundle = await asyncio.to_thread(build_bundle, self._opa, self._policies)
                store_bundle(self._kept, bundle)
            except BadPolicy as e:
                self._digest = digest
                _log.error("bundle_rejected error=%s", e)
                continue
            except (OSError, subprocess.TimeoutExpired) as e:
                _log.error("bundle_not_built error=%s", e)  # tried again with the next look
                continue
            self._bundle, self._digest = bundle, digest
            _log.warning("bundle_built revision=%s", self._bundle.revision)
            self._changed.set()
            self._changed = asyncio.Event()

    async def _note_status(self, request: web.Request) -> web.Response:
        """Log what OPA says of the bundle it holds, when that changes."""
        try:
            status = msgspec.json.decode(await request.read(), type=_Status)
        except msgspec.MsgspecError as e:
            raise web.HTTPBadRequest from e
        bundle = status.bundles.get("gateway", _BundleStatus())
        if bundle != self._status:
            self._status = bundle
            _log.info("bundle_status revision=%s error=%r", bundle.active_revision, bundle.message)
        return web.Response()

    async def _serve(self, request: web.Request) -> web.Response:
        known = request.headers.get("If-None-Match")
        wait = _LONG_POLL.search(request.headers.get("Prefer", ""))
        if known == self._bundle.etag and wait:
            try:
                async with asyncio.timeout(int(wait[1])):
                    await self._changed.wait()
            except TimeoutError:
                pass
        headers = {"ETag": self._bundle.etag, "Content-Type": _MEDIA_TYPE}
        if known == self._bundle.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=self._bundle.archive, headers=headers)
