"""What `--demo` configures: its own issuer, its own Claude, loopback only."""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from gateway.config import Settings
from gateway.demo import claude, issuer
from gateway.demo.loopback import require_loopback
from gateway.identity.claims import Issuer
from gateway.upstream import Endpoint

AUDIENCE = "countersign"
MODELS = (*claude.DEFAULT_MODELS, "claude-sonnet-4-5")


def _folder(settings: Settings) -> Path:
    folder = settings.folder / "demo"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _issuer_url(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.demo_issuer_port}"


def _load_issuer(settings: Settings) -> issuer.DemoIssuer:
    return issuer.DemoIssuer.load(_folder(settings) / "issuer.pem", _issuer_url(settings))


def _credential(settings: Settings) -> str:
    """Return the demo Claude's key, made on first use."""
    return _secret(_folder(settings) / "claude.key", f"demo-{secrets.token_urlsafe(24)}")


def masking_key(settings: Settings) -> str:
    """Return the key that seals masked thinking, made on first use."""
    return _secret(_folder(settings) / "masking.key", secrets.token_urlsafe(32))


def _secret(path: Path, fresh: str) -> str:
    """Return the secret in a file; of several processes that make it, one wins."""
    if not path.exists():
        own = path.with_name(f"{path.name}.{os.getpid()}")
        own.touch(mode=0o600)
        own.write_text(fresh)
        with suppress(FileExistsError):
            path.hardlink_to(own)
        own.unlink()
    return path.read_text()


def issuer_of(settings: Settings) -> Issuer:
    """Return how the gateway trusts the demo issuer."""
    return Issuer(
        url=_issuer_url(settings),
        audiences=(AUDIENCE,),
        person_claim="person",
        kind_claim="kind",
        claims={"repository": "repository", "workflow": "workflow"},
    )


def endpoint_of(settings: Settings) -> Endpoint:
    """Return the demo Claude as an endpoint."""
    return Endpoint(
        name="claude",
        base_url=f"http://127.0.0.1:{settings.demo_claude_port}",
        credential=_credential(settings),
    )


def build_apps(settings: Settings) -> list[tuple[web.Application, int]]:
    """Return the demo servers and their ports."""
    require_loopback("127.0.0.1")
    return [
        (issuer.build(_load_issuer(settings)), settings.demo_issuer_port),
        (claude.build(_credential(settings), models=MODELS), settings.demo_claude_port),
    ]


def mint_token(
    settings: Settings, user: str, groups: tuple[str, ...], claims: dict[str, str], ttl_s: int
) -> str:
    """Return a token of the demo issuer; who it is for is one person, unless a claim says so."""
    now = int(time.time())
    claims = {"person": user, **claims}
    return _load_issuer(settings).mint(user, groups, claims, ttl_s, AUDIENCE, now)
