"""A real OIDC issuer for the demo: one signing key, discovery, JWKS, and tokens for anyone.

There is no login: whoever can read the key file can be anybody, so no real endpoint may trust it.
Times are given as seconds since the epoch; it never reads a clock. Whoever serves it must bind it
to loopback.
"""

import base64
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import jwt
import msgspec
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from gateway.demo.loopback import require_loopback

ALGORITHM = "ES256"
"""What its tokens are signed with."""

_SET_BY_US = ("iss", "sub", "aud", "iat", "nbf", "exp", "jti", "groups")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COORDINATE_BYTES = 32


class DemoIssuer:
    """An issuer that vouches for every name it is asked to."""

    def __init__(self, url: str, key: ec.EllipticCurvePrivateKey) -> None:
        parsed = URL(url)
        require_loopback(parsed.host or "")
        if parsed.scheme not in ("http", "https") or parsed.query_string or parsed.fragment:
            raise ValueError("an issuer is an http or https URL without query and fragment")
        if key.curve.name != "secp256r1":
            raise ValueError("the demo issuer's key must be on the curve P-256")
        self.url = url
        self._key = key
        self._jwk = _public_jwk(key)

    @classmethod
    def load(cls, key_file: Path, url: str) -> "DemoIssuer":
        """Return the issuer with the key in this file, which is made if it is not there.

        Raises:
            ValueError: The file holds no such key, or others than its owner can read it.
        """
        if not key_file.exists():
            _make_key_file(key_file)
        if key_file.stat().st_mode & 0o077:
            raise ValueError(f"{key_file} must not be readable by others: chmod 600")
        match serialization.load_pem_private_key(key_file.read_bytes(), password=None):
            case ec.EllipticCurvePrivateKey() as key:
                return cls(url, key)
            case _:
                raise ValueError(f"{key_file} holds no elliptic curve key")

    @property
    def key_id(self) -> str:
        """The thumbprint of its key (RFC 7638)."""
        return self._jwk["kid"]

    def discovery(self) -> dict[str, object]:
        """Return its discovery document: only what it really offers."""
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url.rstrip('/')}/jwks",
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "claims_supported": list(_SET_BY_US),
        }

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return its public key as a JWK set."""
        return {"keys": [self._jwk]}

    def mint(
        self,
        user: str,
        groups: Sequence[str],
        claims: Mapping[str, str],
        ttl_s: int,
        audience: str,
        now: float,
    ) -> str:
        """Return a signed token for a user.

        Args:
            user: The subject.
            groups: What the `groups` claim holds.
            claims: More claims, as `email`; they cannot replace what the issuer sets.
            ttl_s: Seconds until it expires, from `now`.
            audience: Whom it is for.
            now: Seconds since the epoch.

        Raises:
            ValueError: No user, no lifetime, or a claim that the issuer sets itself.
        """
        if not user or ttl_s <= 0:
            raise ValueError("a token needs a user and a lifetime")
        if taken := sorted(claims.keys() & set(_SET_BY_US)):
            raise ValueError(f"claims that the issuer sets itself: {', '.join(taken)}")
        issued = int(now)
        payload = {
            **claims,
            "iss": self.url,
            "sub": user,
            "aud": audience,
            "iat": issued,
            "nbf": issued,
            "exp": issued + ttl_s,
            "jti": secrets.token_hex(16),
            "groups": list(groups),
        }
        return jwt.encode(payload, self._key, ALGORITHM, headers={"kid": self.key_id})


def build(issuer: DemoIssuer) -> web.Application:
    """Return the issuer's discovery and keys as an application, under the path of its URL."""
    root = URL(issuer.url).path.rstrip("/")

    async def discovery(_request: web.Request) -> web.Response:
        return _document(issuer.discovery())

    async def jwks(_request: web.Request) -> web.Response:
        return _document(issuer.jwks())

    app = web.Application()
    app.router.add_get(f"{root}/.well-known/openid-configuration", discovery)
    app.router.add_get(f"{root}/jwks", jwks)
    return app


def parse_duration(text: str) -> int:
    """Return the seconds of a duration such as `30s`, `5m`, `8h` or `1d`.

    Raises:
        ValueError: It is not a positive whole number with one of these units.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,7})([smhd])", text)
    if found is None:
        raise ValueError(f"a duration is a number and one of s, m, h, d, as 5m; not {text!r}")
    return int(found[1]) * _UNITS_S[found[2]]


def _document(body: Mapping[str, object]) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"cache-control": "max-age=60"},
    )


def _public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    required = {"crv": "P-256", "kty": "EC", "x": _encode(numbers.x), "y": _encode(numbers.y)}
    canonical = json.dumps(required, sort_keys=True, separators=(",", ":")).encode()
    kid = _unpadded(hashlib.sha256(canonical).digest())
    return {**required, "kid": kid, "alg": ALGORITHM, "use": "sig"}


def _encode(coordinate: int) -> str:
    return _unpadded(coordinate.to_bytes(_COORDINATE_BYTES, "big"))


def _unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _make_key_file(path: Path) -> None:
    """Write a new key; if another process is first, keep that one's."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
