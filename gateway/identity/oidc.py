"""OIDC tokens: signature, issuer, audience and time, against each issuer's own keys."""

import asyncio
import base64
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import jwt

from gateway.domain import Principal, Unauthenticated
from gateway.identity.claims import Issuer, bad_token, read_principal
from gateway.identity.jwks import KeySource

MAX_TOKEN_CHARS = 16 * 1024
"""Longer than any real token; refused before it is parsed."""
CACHED_TOKENS = 10_000


class TokenIdentity:
    """Validates bearer tokens. Good ones are cached until they expire or their key is gone."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        keys: Mapping[str, KeySource],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = {issuer.url: issuer for issuer in issuers}
        self._keys = keys
        self._now_s = now_s
        self._known: OrderedDict[bytes, tuple[Principal, str]] = OrderedDict()
        """By the token's digest: who it speaks of, and the id of the key that signed it."""

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Keep every issuer's keys fresh while inside."""
        async with asyncio.TaskGroup() as tasks:
            keeping = [tasks.create_task(source.keep_fresh()) for source in self._keys.values()]
            try:
                yield
            finally:
                for each in keeping:
                    each.cancel()

    async def identify(self, headers: Sequence[tuple[str, str]]) -> Principal:
        """Return who calls.

        Raises:
            Unauthenticated: no token or a bad one.
            Failure: the issuer's keys can't be had.
        """
        token = find_token(headers)
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is not None and self._still_holds(*known):
            return known[0]
        principal, kid = await self._validate(token)
        self._known[digest] = principal, kid
        if len(self._known) > CACHED_TOKENS:
            self._known.popitem(last=False)
        return principal

    def _still_holds(self, principal: Principal, kid: str) -> bool:
        if principal.token_expires_at <= self._now_s():
            return False
        return self._keys[principal.issuer].known(kid) is not None

    async def _validate(self, token: str) -> tuple[Principal, str]:
        header, claimed = _peek(token)
        issuer = self._issuers.get(str(claimed.get("iss")))
        if issuer is None:
            raise bad_token("token.issuer", "its issuer is not one that this gateway trusts")
        kid = header.get("kid")
        if not isinstance(kid, str):
            raise bad_token("token.no_key_id", "it names no signing key")
        if header.get("alg") not in issuer.algorithms:
            raise bad_token("token.algorithm", "its algorithm is not accepted")
        key = await self._keys[issuer.url].find(kid)
        if key is None:
            raise bad_token("token.unknown_key", "its signing key is not one of its issuer's")
        return read_principal(issuer, self._verify(token, key, issuer)), kid

    def _verify(self, token: str, key: jwt.PyJWK, issuer: Issuer) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=list(issuer.algorithms),
                audience=list(issuer.audiences),
                issuer=issuer.url,
                leeway=issuer.leeway_s,
                options={
                    "require": ["exp", "iat", "iss", "aud", "sub"],
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.ExpiredSignatureError as e:
            raise Unauthenticated(
                "token.expired", "Your token has expired; get a fresh one.", expired=True
            ) from e
        except (jwt.ImmatureSignatureError, jwt.InvalidIssuedAtError) as e:
            raise bad_token("token.not_yet_valid", "it is not valid yet") from e
        except jwt.InvalidAudienceError as e:
            raise bad_token("token.audience", "it is meant for another audience") from e
        except (jwt.PyJWTError, TypeError, ValueError, OverflowError) as e:
            raise bad_token(
                "token.invalid", "its signature or a required claim is not valid"
            ) from e


def find_token(headers: Sequence[tuple[str, str]]) -> str:
    """Return the caller's token from `authorization` or `x-api-key`; several must be equal."""
    tokens = set(_find_tokens(headers)) - {""}
    if not tokens:
        raise bad_token("token.missing", "there is none; send `Authorization: Bearer TOKEN`")
    if len(tokens) > 1:
        raise bad_token("token.ambiguous", "authorization and x-api-key hold different ones")
    token = tokens.pop()
    if not token.isascii():
        raise bad_token("token.malformed", "it is not a JSON web token")
    if len(token) > MAX_TOKEN_CHARS:
        raise bad_token("token.too_long", f"it is longer than {MAX_TOKEN_CHARS} characters")
    return token


def _find_tokens(headers: Sequence[tuple[str, str]]) -> Iterator[str]:
    for name, value in headers:
        if name == "authorization":
            scheme, _, token = value.strip().partition(" ")
            if scheme.lower() != "bearer":
                raise bad_token("token.scheme", "authorization is not of the form `Bearer TOKEN`")
            yield token.strip()
        elif name == "x-api-key":
            yield value.strip()


def _peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read, without trust, which key and issuer the token claims.

    A name given twice is refused: another reader might take the other value.
    """
    try:
        header, claims, _signature = token.split(".")
        return _read_object(header), _read_object(claims)
    except (TypeError, ValueError, RecursionError) as e:
        raise bad_token("token.malformed", "it is not a JSON web token") from e


def _read_object(part: str) -> dict[str, Any]:
    raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    found = json.loads(raw, object_pairs_hook=_unique, parse_constant=_no_number)
    if not isinstance(found, dict):
        raise TypeError("no object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
